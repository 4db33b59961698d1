"""The step kinds at work, found by entry point like anyone else's."""
