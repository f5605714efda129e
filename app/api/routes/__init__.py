"""The routes, one module per resource. No route module imports another."""
