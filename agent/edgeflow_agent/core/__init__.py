"""What every process of the agent builds on: shared memory, rings, batches, clocks, ports."""
