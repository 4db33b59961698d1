"""What a relay is told at its start."""

from __future__ import annotations

import msgspec

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class SettingsError(ValueError):
    """A setting cannot be used; the message names it and says why."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. Port 0 takes a free one; the line printed at the start says which."""

    host: str = "127.0.0.1"
    http_port: int = 7000
    grpc_port: int = 7001
    data: str = "relay-data"  # folder of database and blobs
    database: str | None = None  # SQLAlchemy URL; default: SQLite in the data folder
    fleet: str = "default"
    broker: str | None = None  # host:port of the MQTT broker that events are mirrored to
    broker_username: str | None = None
    broker_password: str | None = None
    heartbeat_ms: int = 5000

    def __post_init__(self) -> None:
        """Refuse what cannot be served safely."""
        if self.host not in LOOPBACK:
            raise SettingsError(
                f"host {self.host}: the relay binds to loopback only, because devices and operators have no "
                "identity and no encryption yet: anyone who reached it could run code on every device"
            )

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of the store."""
        return self.database or f"sqlite:///{self.data}/relay.db"
