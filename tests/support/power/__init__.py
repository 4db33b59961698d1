"""Pulling the plug: a disk that records every write and flush, and what a cut leaves of it."""
