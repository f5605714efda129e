"""The HTTP API. Its routes parse a request, call one function and answer. Knows Flask, but no Redis keys."""
