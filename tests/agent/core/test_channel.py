from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import msgspec
import pytest

from edgeflow_agent.core import shm, spawn
from edgeflow_agent.core.channel import MAX_FDS, Channel, Closed
from edgeflow_agent.core.messages import FromLink, Offer, Stop, ToIo, Withdraw
from edgeflow_agent.core.spawn import CONTROL_ENV, MAX_MESSAGE

Ends = tuple[Channel, Channel]


@pytest.fixture
def ends() -> Iterator[Ends]:
    left, right = spawn.pair()
    with left, right:
        yield Channel(left, ToIo), Channel(right, FromLink)


def test_messages_come_whole_in_order_and_once(ends: Ends) -> None:
    here, there = ends
    sent = [Withdraw("p", "relay", number) for number in range(20)]
    assert all(here.send(message) for message in sent)
    assert [there.receive() for _ in range(20)] == [(message, []) for message in sent]
    assert there.receive() is None


def test_descriptors_travel_with_their_message(ends: Ends) -> None:
    here, there = ends
    fds = tuple(shm.eventfd() for _ in range(MAX_FDS))
    for number, fd in enumerate(fds):
        shm.add(fd, number + 1)
    assert here.send(Stop(), fds)
    there_types = Channel(there.sock, ToIo)
    received = there_types.receive()
    assert received is not None
    message, others = received
    assert message == Stop()
    assert [shm.take(fd) for fd in others] == list(range(1, MAX_FDS + 1))
    assert not any(os.get_inheritable(fd) for fd in others)
    shm.close(*fds, *others)


def test_a_full_or_closed_other_end_is_said(ends: Ends) -> None:
    here, there = ends
    big = Offer("p", "http", "s" * 100_000)
    assert here.send(big)
    while here.send(big):
        pass
    assert there.receive() == (big, [])
    there.close()
    assert not here.send(big)
    with pytest.raises(Closed):
        Channel(here.sock, ToIo).receive()


def test_what_a_dead_process_had_not_read_is_there_for_the_next(ends: Ends) -> None:
    here, there = ends
    here.send(Withdraw("p", "relay"))
    again = Channel(socket.socket(fileno=os.dup(there.fileno())), FromLink)
    there.close()
    assert again.receive() == (Withdraw("p", "relay"), [])
    again.close()


def test_a_message_of_another_kind_is_refused(ends: Ends) -> None:
    here, there = ends
    here.send(Stop())
    with pytest.raises(msgspec.ValidationError):
        there.receive()


@pytest.fixture
def signals() -> Iterator[None]:
    """Leave signals as they were: whatever the tests start later inherits what is ignored here."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_a_child_finds_the_socket_it_was_given(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = ends
    monkeypatch.setenv(CONTROL_ENV, str(os.dup(there.fileno())))
    child = Channel(spawn.inherited(), FromLink)
    here.send(Withdraw("p", "relay"))
    assert child.receive() == (Withdraw("p", "relay"), [])
    child.close()


def test_a_message_that_is_too_large_is_not_sent(ends: Ends) -> None:
    here, there = ends
    for size in (MAX_MESSAGE, 4 * MAX_MESSAGE):
        assert not here.send(Offer("p", "http", "s" * size))
        assert not here.fits(Offer("p", "http", "s" * size))
    assert there.receive() is None


def test_too_many_descriptors_under_way_are_a_full_other_end() -> None:
    script = """
import os, resource
from edgeflow_agent.core import messages, spawn
from edgeflow_agent.core.channel import Channel
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
if os.getuid() == 0:
    os.setuid(65534)  # whom the kernel counts the descriptors of
here, there = (Channel(sock, messages.ToIo) for sock in spawn.pair())
while here.send(messages.BindWriter("p", "i"), (1, 2)):
    pass
while there.receive() is not None:
    pass
assert here.send(messages.BindWriter("p", "i"), (1,))
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_socket_of_a_high_number_can_be_waited_on(ends: Ends) -> None:
    here, there = ends
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, most[1]), most[1]))
    high = fcntl.fcntl(there.fileno(), fcntl.F_DUPFD, 2000)
    with socket.socket(fileno=high) as sock:
        threading.Timer(0.05, here.send, [Withdraw("p", "relay")]).start()
        assert Channel(sock, FromLink).wait() == (Withdraw("p", "relay"), [])
    resource.setrlimit(resource.RLIMIT_NOFILE, most)
