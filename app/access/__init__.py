"""Who may come in: API keys, origins of requests, trusted proxies."""
