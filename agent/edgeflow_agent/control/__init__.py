"""The parts of `agentd`: what runs, what may be stored, what time it is."""
