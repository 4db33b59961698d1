"""What runs on a device: inputs, pipelines with their models, the journal, and the way to the relay."""
