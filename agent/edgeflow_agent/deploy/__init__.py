"""How a pipeline gets onto the device: fetched, tried, put in place."""
