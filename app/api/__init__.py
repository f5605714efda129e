"""HTTP: parse, authenticate, call one function, answer. Knows Flask, knows no Redis keys."""
