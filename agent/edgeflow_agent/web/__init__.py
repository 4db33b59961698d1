"""The device's local endpoint and its page, for programs and people on the device itself."""
