"""RQ's Job and Queue on JSON and the catalogue."""
