"""The `edgeflow` command and the simulators; it may use every other package and none uses it."""
