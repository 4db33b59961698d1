"""Simulated sensors, each a process of its own, with physics behind their signals."""
