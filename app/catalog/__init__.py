"""The catalogue of functions that can run as jobs, and the validation of their arguments. No Redis, no Flask."""
