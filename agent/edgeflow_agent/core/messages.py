"""What `agentd` and its children say to each other.

Descriptors travel beside a message, in the order its docstring names. All that can be big (bundles,
journals, posts) lies in files or memfds; messages are small.
"""

from __future__ import annotations

from typing import Any

import msgspec

from edgeflow_agent.core.layout import RingSpec
from edgeflow_agent.core.logs import Keeping
from edgeflow_proto.timeline import Boot, Sync


class Message(msgspec.Struct, frozen=True, tag=True):
    """Base of all messages."""


# agentd → every child


class Stop(Message, frozen=True):
    """Finish what is in hand, write what must be kept, exit 0."""


# agentd → zygote


class StartZygote(Message, frozen=True):
    """Fork what is asked for. Descriptor: board."""

    slot: int


class Fork(Message, frozen=True):
    """Fork a process that runs a module. Descriptor: its end of the socket to `agentd`."""

    module: str


# what zygote forks → agentd


class Born(Message, frozen=True):
    """The process at this end of the socket is there. It is the first message."""

    pid: int


# agentd → worker


class StartWorker(Message, frozen=True):
    """Run a pipeline.

    Descriptors: board, snapshots, commits (eventfd), effects (socket), then per ring memfd, ready, credit.
    """

    slot: int
    pipeline: str
    folder: str  # of the unpacked bundle, with its manifest
    digest: str
    params: dict[str, Any]
    journal: str  # folder of the journal
    journal_bytes: int
    recording: str  # folder of the recording
    recording_bytes: int
    commit_ns: int  # shortest time between two commits
    rings: tuple[RingSpec, ...]
    logs: Keeping
    deaths: int = 0  # in a row at one position


class BindReader(Message, frozen=True):
    """The writer of a ring is a new one. Descriptors: ready, credit."""

    input: str


class Limits(Message, frozen=True):
    """What the pipeline's journal and its recordings may take on disk from now on, in bytes.

    With `hold` events that the relay does not have do not go for new ones, which wait in memory.
    """

    journal: int
    recording: int = 0
    hold: bool = False


class Tap(Message, frozen=True):
    """Show rows of an edge, at most `rate` a second, to whom a socket leads. Descriptor: the socket."""

    edge: str
    rate: float


# worker → agentd


class WorkerReady(Message, frozen=True):
    """The pipeline is loaded and reads rows."""


class WorkerFailed(Message, frozen=True):
    """The pipeline cannot be loaded, or one of its steps stopped it; the worker exits."""

    reason: str


class StepFailed(Message, frozen=True):
    """A step raised; told at most once a second. `count` is how often since the worker started."""

    step: str
    error: str
    trace: str
    count: int


# agentd → io


class StartIo(Message, frozen=True):
    """Descriptors: board, posts (socket)."""

    slot: int
    settings: str  # path of the settings file ("" for defaults)
    files: str  # folder below which file outputs write
    logs: Keeping


class Attach(Message, frozen=True):
    """Serve a pipeline's inputs and effects.

    Descriptors: effects (socket), snapshots, then per ring memfd, ready, credit.
    """

    pipeline: str
    folder: str
    params: dict[str, Any]
    rings: tuple[RingSpec, ...]


class BindWriter(Message, frozen=True):
    """The reader of a ring is a new one. Descriptors: ready, credit."""

    pipeline: str
    input: str


class Detach(Message, frozen=True):
    """Serve a pipeline no more."""

    pipeline: str


# io → agentd


class InputFailed(Message, frozen=True):
    """An input cannot be served; the others are. An empty reason says that it is served again."""

    pipeline: str
    input: str
    reason: str


class InputRejected(Message, frozen=True):
    """Payloads of an input could not be used: `count` since it was told before, and the newest of them."""

    pipeline: str
    input: str
    reason: str
    detail: str
    example: str  # how the payload begins
    count: int


class BrokerStatus(Message, frozen=True):
    """How the connection to an MQTT broker fares, told when that changes."""

    name: str
    address: str
    connected: bool
    reason: str  # why not, empty when it is connected
    since_ns: int  # CLOCK_BOOTTIME of the last change between connected and not


class OutputFailed(Message, frozen=True):
    """An output cannot be made: what reaches it is dropped and counted."""

    pipeline: str
    output: str
    reason: str


# agentd → link


class PipelineStatus(msgspec.Struct, frozen=True):
    """One pipeline as `agentd` knows it; `slot` is its worker's on the board, -1 when it has none."""

    name: str
    digest: str
    origin: str
    state: str  # starting | running | failing | stopped | refused
    reason: str
    slot: int
    folder: str
    journal: str
    restarts: int
    since_ns: int  # CLOCK_BOOTTIME
    errors: dict[str, str] = {}  # step, input, output or folder → newest error, then its traceback
    warnings: tuple[str, ...] = ()  # of its trial


class StartLink(Message, frozen=True):
    """Descriptors: board, commits (eventfd), posts (socket)."""

    slot: int
    settings: str
    store: str  # the data folder
    logs: Keeping


class Pipelines(Message, frozen=True):
    """All pipelines, and all brokers in use, told whenever anything about one changes."""

    pipelines: tuple[PipelineStatus, ...]
    brokers: tuple[BrokerStatus, ...] = ()


class Boots(Message, frozen=True):
    """What is known of the clock, told whenever more is: of `count` boots some, from one place on.

    The first of them come first; what was known before holds until all are there.
    """

    boots: tuple[Boot, ...]
    place: int
    count: int


class Offered(Message, frozen=True):
    """What became of an offer: active (with warnings as lines) or refused (with problems)."""

    name: str
    digest: str
    origin: str
    state: str
    reason: str
    revision: int = 0
    ticket: int = 0


class Listening(Message, frozen=True):
    """The answer to `Listen`: why not, or as its descriptor the socket on which a worker will speak."""

    ticket: int
    reason: str = ""


class Claimed(Message, frozen=True):
    """The answer to `Claim`: why there is no room, now or `never`; nothing where it was made."""

    ticket: int
    reason: str = ""
    never: bool = False


# link → agentd


class Offer(Message, frozen=True):
    """Run this bundle. `staging` is a folder below ``staging/`` of the store that `agentd` takes over."""

    name: str
    origin: str  # relay | http
    staging: str
    revision: int = 0
    ticket: int = 0


class Withdraw(Message, frozen=True):
    """An origin no longer wants a pipeline."""

    name: str
    origin: str
    revision: int = 0
    ticket: int = 0


class Claim(Message, frozen=True):
    """Make room for so many bytes of a bundle before they are written; 0 gives back what the ticket got."""

    ticket: int
    size: int
    folder: str = ""  # where they will lie, and nobody else writes


class Damaged(Message, frozen=True):
    """A segment of what a pipeline has stored is damaged; `place` is ``journals`` or ``recordings``."""

    place: str
    pipeline: str
    segment: str


class RelayTime(Message, frozen=True):
    """What the relay says the time is."""

    sync: Sync


class Listen(Message, frozen=True):
    """Let the worker of a pipeline show rows of an edge, at most `rate` a second."""

    ticket: int
    pipeline: str
    edge: str
    rate: float


# worker ↔ link, over a socket made for one listener


class TapBegun(Message, frozen=True):
    """The edge is there; its rows follow. `head` says in JSON what they are."""

    head: bytes


class TapRefused(Message, frozen=True):
    """There is nothing to listen to."""

    reason: str


class TapRow(Message, frozen=True):
    """A row, as JSON."""

    row: bytes


class TapRenewed(Message, frozen=True):
    """Somebody listens still."""


# link ↔ io, over the posts socket


class Post(Message, frozen=True):
    """A payload for an http input.

    Descriptor: a memfd with the body, when `body` is empty and `size` is not 0.
    """

    ticket: int
    pipeline: str
    input: str
    decoder: str  # json | cbor | raw, from the content type
    body: bytes
    size: int


class Posted(Message, frozen=True):
    """What became of a post: samples accepted, or why it was rejected."""

    ticket: int
    accepted: int
    rejected: int
    reason: str = ""


# worker → io, over the effects socket


class Effect(Message, frozen=True):
    """Rows for an output that acts; its mark tells which were carried out."""

    output: str
    mark: int  # index of the output's mark
    rows: tuple[EffectRow, ...]


class EffectRow(msgspec.Struct, frozen=True, array_like=True):
    """One row of an effect: the input row behind it, its time, subject and columns."""

    row: int
    t: int
    key: str
    data: dict[str, Any]


ToZygote = StartZygote | Fork | Stop
ToWorker = StartWorker | BindReader | Limits | Tap | Stop
FromWorker = Born | WorkerReady | WorkerFailed | StepFailed
ToIo = StartIo | Attach | BindWriter | Detach | Stop
FromIo = Born | InputFailed | InputRejected | OutputFailed | BrokerStatus
ToLink = StartLink | Pipelines | Boots | Offered | Claimed | Listening | Stop
FromLink = Offer | Withdraw | Claim | Damaged | Listen | RelayTime
FromTap = TapBegun | TapRefused | TapRow
