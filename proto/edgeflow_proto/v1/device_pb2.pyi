from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JournalState(_message.Message):
    __slots__ = ("journal_id", "pipeline", "first", "last")
    JOURNAL_ID_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    journal_id: str
    pipeline: str
    first: int
    last: int
    def __init__(self, journal_id: _Optional[str] = ..., pipeline: _Optional[str] = ..., first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("device", "fleet", "agent_version", "boot_id", "machine", "revision", "journals")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    FLEET_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    JOURNALS_FIELD_NUMBER: _ClassVar[int]
    device: str
    fleet: str
    agent_version: str
    boot_id: str
    machine: str
    revision: int
    journals: _containers.RepeatedCompositeFieldContainer[JournalState]
    def __init__(self, device: _Optional[str] = ..., fleet: _Optional[str] = ..., agent_version: _Optional[str] = ..., boot_id: _Optional[str] = ..., machine: _Optional[str] = ..., revision: _Optional[int] = ..., journals: _Optional[_Iterable[_Union[JournalState, _Mapping]]] = ...) -> None: ...

class HostMetrics(_message.Message):
    __slots__ = ("cpu_percent", "memory_total", "memory_available", "disk_total", "disk_free", "temperature", "network_received", "network_sent", "load_1m")
    CPU_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_FIELD_NUMBER: _ClassVar[int]
    MEMORY_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    DISK_TOTAL_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    NETWORK_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    NETWORK_SENT_FIELD_NUMBER: _ClassVar[int]
    LOAD_1M_FIELD_NUMBER: _ClassVar[int]
    cpu_percent: float
    memory_total: int
    memory_available: int
    disk_total: int
    disk_free: int
    temperature: float
    network_received: int
    network_sent: int
    load_1m: float
    def __init__(self, cpu_percent: _Optional[float] = ..., memory_total: _Optional[int] = ..., memory_available: _Optional[int] = ..., disk_total: _Optional[int] = ..., disk_free: _Optional[int] = ..., temperature: _Optional[float] = ..., network_received: _Optional[int] = ..., network_sent: _Optional[int] = ..., load_1m: _Optional[float] = ...) -> None: ...

class PipelineState(_message.Message):
    __slots__ = ("name", "digest", "origin", "state", "reason", "counters")
    class CountersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    origin: str
    state: str
    reason: str
    counters: _containers.ScalarMap[str, int]
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., origin: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., counters: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("boot_time_ns", "wall_time_ns", "clock_quality", "host", "pipelines", "backlog", "asks_time")
    BOOT_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    WALL_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_QUALITY_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PIPELINES_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    ASKS_TIME_FIELD_NUMBER: _ClassVar[int]
    boot_time_ns: int
    wall_time_ns: int
    clock_quality: str
    host: HostMetrics
    pipelines: _containers.RepeatedCompositeFieldContainer[PipelineState]
    backlog: int
    asks_time: bool
    def __init__(self, boot_time_ns: _Optional[int] = ..., wall_time_ns: _Optional[int] = ..., clock_quality: _Optional[str] = ..., host: _Optional[_Union[HostMetrics, _Mapping]] = ..., pipelines: _Optional[_Iterable[_Union[PipelineState, _Mapping]]] = ..., backlog: _Optional[int] = ..., asks_time: _Optional[bool] = ...) -> None: ...

class EventBatch(_message.Message):
    __slots__ = ("journal_id", "pipeline", "first", "count", "block", "reckoned")
    JOURNAL_ID_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    RECKONED_FIELD_NUMBER: _ClassVar[int]
    journal_id: str
    pipeline: str
    first: int
    count: int
    block: bytes
    reckoned: Reckoned
    def __init__(self, journal_id: _Optional[str] = ..., pipeline: _Optional[str] = ..., first: _Optional[int] = ..., count: _Optional[int] = ..., block: _Optional[bytes] = ..., reckoned: _Optional[_Union[Reckoned, _Mapping]] = ...) -> None: ...

class Reckoned(_message.Message):
    __slots__ = ("offset_ns", "uncertainty_ns", "quality")
    OFFSET_NS_FIELD_NUMBER: _ClassVar[int]
    UNCERTAINTY_NS_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    offset_ns: int
    uncertainty_ns: int
    quality: str
    def __init__(self, offset_ns: _Optional[int] = ..., uncertainty_ns: _Optional[int] = ..., quality: _Optional[str] = ...) -> None: ...

class DeploymentStatus(_message.Message):
    __slots__ = ("name", "digest", "state", "reason", "revision")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    state: str
    reason: str
    revision: int
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class DeviceMessage(_message.Message):
    __slots__ = ("hello", "heartbeat", "events", "status")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    events: EventBatch
    status: DeploymentStatus
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., events: _Optional[_Union[EventBatch, _Mapping]] = ..., status: _Optional[_Union[DeploymentStatus, _Mapping]] = ...) -> None: ...
