from __future__ import annotations

import socket
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.inputs.wire import Parser, ProtocolError, Publish, Wire

LARGEST = 1 << 20


def packet(first: int, body: bytes) -> bytes:
    length, out = len(body), bytearray([first])
    while True:
        length, low = divmod(length, 128)
        out.append(low | (128 if length else 0))
        if not length:
            return bytes(out) + body


def publish(topic: bytes, payload: bytes, qos: int = 0, packet_id: int = 7) -> bytes:
    head = len(topic).to_bytes(2, "big") + topic
    return packet(0x30 | qos << 1, head + (packet_id.to_bytes(2, "big") if qos else b"") + payload)


PACKETS = st.lists(
    st.one_of(
        st.tuples(st.binary(max_size=200), st.binary(max_size=400), st.sampled_from([0, 1])),
        st.binary(max_size=200),
    ),
    max_size=8,
)


@given(PACKETS, st.lists(st.integers(0, 5000), max_size=20))
def test_packets_come_out_whole_however_the_bytes_are_cut(packets: list[object], cuts: list[int]) -> None:
    data, expected = b"", []
    for item in packets:
        if isinstance(item, tuple):
            topic, payload, qos = item
            data += publish(topic, payload, qos)
            expected.append((topic, payload, qos))
        else:
            assert isinstance(item, bytes)
            data += packet(0xD0, item)
            expected.append(packet(0xD0, item))
    parser, found = Parser(LARGEST), []
    for start, end in pairwise([0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]):
        found += parser.feed(data[start:end])
    assert [(p.topic, p.payload, p.qos) if isinstance(p, Publish) else p for p in found] == expected


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20))
def test_whatever_comes_there_are_packets_or_one_plain_error(chunks: list[bytes]) -> None:
    parser = Parser(1000)
    with suppress(ProtocolError):
        for chunk in chunks:
            parser.feed(chunk)


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("size", [10 << 20, (1 << 20) + 70_000])
def test_a_payload_that_is_too_large_is_not_gathered_and_the_next_packet_is_fine(qos: int, size: int) -> None:
    data = publish(b"big", bytes(size), qos, 300) + publish(b"next", b"small", 1)
    parser, found, most = Parser(LARGEST), [], 0
    for start in range(0, len(data), 65536):
        found += parser.feed(data[start : start + 65536])
        most = max(most, sum(map(len, parser._chunks)))
    assert [(p.topic, p.payload, p.size) for p in found if isinstance(p, Publish)] == [
        (b"big", None, size),
        (b"next", b"small", 5),
    ]
    assert found[0].packet_id == ((300).to_bytes(2, "big") if qos else b"")
    assert most < 200_000


def test_a_message_sent_again_says_so() -> None:
    first = bytearray(publish(b"a", b"x", 1))
    first[0] |= 8
    found = Parser(LARGEST).feed(bytes(first))[0]
    assert isinstance(found, Publish)
    assert found.again


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x30\x01\x00",  # no room for a topic
        b"\x30\x05\x00\x09abc",  # a topic longer than the packet
        b"\x32\x03\x00\x01a",  # QoS 1 without an identifier
        b"\x34\x05\x00\x01a\x00\x01",  # QoS 2, which nobody asked for
        b"\x90\xff\xff\xff\x7f",  # a control packet of 256 MB
    ],
)
def test_what_is_not_mqtt_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Parser(LARGEST).feed(data)


def test_acknowledgements_wait_for_the_flush_and_go_out_together() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    wire = Wire(ours, LARGEST)
    wire.send(b"from paho")
    wire.acknowledge(b"\0\1")
    wire.acknowledge(b"\0\2")
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(100)
    assert wire.flush()
    assert theirs.recv(100) == b"from paho\x40\x02\0\1\x40\x02\0\2"
    theirs.close()
    with pytest.raises(ConnectionError):
        wire.read()
    wire.close()


def test_what_the_kernel_does_not_take_is_kept() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    wire = Wire(ours, LARGEST)
    sent = bytes(range(256)) * 10_000
    wire.send(sent)
    assert not wire.flush()
    assert wire.backlog
    received = b""
    while len(received) < len(sent):
        received += theirs.recv(1 << 20)
        wire.flush()
    assert received == sent
    theirs.close()
    wire.close()
