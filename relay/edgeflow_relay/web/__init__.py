"""The relay's page for people."""
