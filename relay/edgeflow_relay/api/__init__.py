"""The relay's HTTP interface."""
