"""A recording run again, and what it says held against what was said: the parts of `edgeflow replay`."""
