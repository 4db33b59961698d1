"""`edgeflow demo`: broker, relay, device and sensor on this machine, watched while they work."""
