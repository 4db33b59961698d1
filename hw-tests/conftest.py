"""The device under test."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--target", default=None, help="URL of the device endpoint, such as http://127.0.0.1:7080"
    )


class Target:
    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def text(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=10) as response:
            return str(response.read().decode())

    def json(self, path: str) -> Any:
        return json.loads(self.text(path))


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Target:
    url = request.config.getoption("--target")
    if not url:
        pytest.skip("no device: give --target http://host:port")
    return Target(url)
