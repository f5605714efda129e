"""Which functions there are, and whether arguments fit. Knows jobs/, no Redis and no Flask."""
