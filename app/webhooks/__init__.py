"""Webhooks: messages, signatures, delivery."""
