"""The subcommands of `edgeflow`, one module each, which offers it as `command`."""
