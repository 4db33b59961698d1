"""How a payload becomes samples."""
