"""Access control: API keys, the origin of requests, trusted proxies."""
