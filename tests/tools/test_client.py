"""The stream of events as the command reads it, from a server that the test plays."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edgeflow_tools import client
from edgeflow_tools.client import RELAY, Server
from edgeflow_tools.terminal import Failure

STREAM = b'id: 41\ndata: {"n": 1}\n\n'
Answers = list[tuple[int, bytes]]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    monkeypatch.setattr(client, "RETRY_S", 0.01)
    return []


@pytest.fixture
def server(answers: Answers) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield Server(RELAY, f"http://127.0.0.1:{http.server_address[1]}")
        http.shutdown()


def test_who_follows_is_told_when_there_is_nothing_to_go_on_from(server: Server, answers: Answers) -> None:
    answers += [(200, STREAM), (410, b'{"error": "the store was put back, so begin anew"}')]
    stream = server.stream("/api/v1/events")
    assert next(stream) == {"n": 1}
    with pytest.raises(Failure, match="the store was put back, so begin anew"):
        next(stream)


def test_a_server_that_is_busy_or_away_is_asked_again(server: Server, answers: Answers) -> None:
    answers += [(200, STREAM), (503, b'{"error": "too many streams are open"}'), (200, STREAM)]
    stream = server.stream("/api/v1/events")
    assert [next(stream), next(stream)] == [{"n": 1}, {"n": 1}]
