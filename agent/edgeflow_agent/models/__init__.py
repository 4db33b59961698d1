"""Model runtimes behind one port (`edgeflow_agent.core.ports.Model`), found by entry point."""
