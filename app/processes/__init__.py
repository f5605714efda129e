"""All processes together on one machine."""
