"""The engine room: a graph compiled to steps at work, and rows pushed through them."""
