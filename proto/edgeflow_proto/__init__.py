"""The contract on which agent, relay and tools agree: wire messages, event envelope, pipeline document."""
