"""Steps from one form of the store to the next, run at the relay's start."""
