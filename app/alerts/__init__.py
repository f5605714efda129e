"""Alerts by webhook and mail, for those without Prometheus: a few rules that the leading scheduler watches."""
