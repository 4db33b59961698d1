"""Specifications of the built-in kinds: options, ports, shape and dtype rules."""
