from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventAck(_message.Message):
    __slots__ = ("journal_id", "sequence")
    JOURNAL_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    journal_id: str
    sequence: int
    def __init__(self, journal_id: _Optional[str] = ..., sequence: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("relay_version", "heartbeat_interval_ms", "acked", "wall_time_ns")
    RELAY_VERSION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    ACKED_FIELD_NUMBER: _ClassVar[int]
    WALL_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    relay_version: str
    heartbeat_interval_ms: int
    acked: _containers.RepeatedCompositeFieldContainer[EventAck]
    wall_time_ns: int
    def __init__(self, relay_version: _Optional[str] = ..., heartbeat_interval_ms: _Optional[int] = ..., acked: _Optional[_Iterable[_Union[EventAck, _Mapping]]] = ..., wall_time_ns: _Optional[int] = ...) -> None: ...

class Desired(_message.Message):
    __slots__ = ("name", "digest", "manifest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    manifest: bytes
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., manifest: _Optional[bytes] = ...) -> None: ...

class DesiredState(_message.Message):
    __slots__ = ("revision", "pipelines")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PIPELINES_FIELD_NUMBER: _ClassVar[int]
    revision: int
    pipelines: _containers.RepeatedCompositeFieldContainer[Desired]
    def __init__(self, revision: _Optional[int] = ..., pipelines: _Optional[_Iterable[_Union[Desired, _Mapping]]] = ...) -> None: ...

class TimeAnswer(_message.Message):
    __slots__ = ("boot_time_ns", "wall_time_ns")
    BOOT_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    WALL_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    boot_time_ns: int
    wall_time_ns: int
    def __init__(self, boot_time_ns: _Optional[int] = ..., wall_time_ns: _Optional[int] = ...) -> None: ...

class RelayMessage(_message.Message):
    __slots__ = ("welcome", "desired", "ack", "time")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    desired: DesiredState
    ack: EventAck
    time: TimeAnswer
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., desired: _Optional[_Union[DesiredState, _Mapping]] = ..., ack: _Optional[_Union[EventAck, _Mapping]] = ..., time: _Optional[_Union[TimeAnswer, _Mapping]] = ...) -> None: ...
