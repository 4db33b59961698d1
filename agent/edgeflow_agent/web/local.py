"""What the endpoint shows and reaches: handed in by `link`, read at each request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgeflow_agent.config import Settings
from edgeflow_agent.core.bell import Bell
from edgeflow_agent.core.board import Board, Slot
from edgeflow_agent.core.messages import BrokerStatus, PipelineStatus
from edgeflow_agent.store.readers import Journals
from edgeflow_agent.store.recording import Recordings
from edgeflow_agent.web.offers import Offers
from edgeflow_agent.web.posts import Posts
from edgeflow_agent.web.rates import Rates
from edgeflow_agent.web.room import Room
from edgeflow_agent.web.taps import Taps

AGENTD_SLOT, IO_SLOT, LINK_SLOT, ZYGOTE_SLOT = 0, 1, 2, 3


class Relay(Protocol):
    """How the uplink fares; `address` is empty where no relay is set."""

    address: str
    connected: bool
    error: str
    backlog: int
    conflicts: tuple[str, ...]


@dataclass(slots=True)
class Local:
    """The device as `link` knows it."""

    settings: Settings
    board: Board
    slot: Slot
    journals: Journals
    recordings: Recordings
    commits: Bell  # rings when a journal has grown, and at the end
    relay: Relay
    host: Callable[[], dict[str, Any]]  # this machine's figures
    look: Callable[[], None]  # finds journals that are new, and rings for them
    offers: Offers
    room: Room
    posts: Posts
    taps: Taps
    tick: Bell = field(default_factory=Bell)  # rings when the page should look at once
    rates: Rates = field(default_factory=Rates)
    pipelines: dict[str, PipelineStatus] = field(default_factory=dict)
    brokers: tuple[BrokerStatus, ...] = ()  # those in use
    heard: bool = False  # `agentd` has said what runs
    stopping: bool = False
