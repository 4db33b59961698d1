"""The relay: where devices report, where pipelines are offered to them, where their events are asked for."""
