"""Every HTTP shape, by resource: request bodies, queries and answers, as they stand in OpenAPI."""
