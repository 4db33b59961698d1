"""``edgeflow agent``: be a device."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeflow_tools.terminal import Failure, Unwell, emit, json_option, note, problems

if TYPE_CHECKING:
    from edgeflow_agent.config import Settings
    from edgeflow_agent.core.spawn import Spawned


@click.command(epilog="Example: edgeflow agent --config /etc/edgeflow/device.yaml")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Settings of this device. Without it all have their defaults.",
)
@json_option
def command(config: Path | None, as_json: bool) -> None:
    """Run the agent on this device until SIGTERM or Ctrl-C.

    Pipelines come from the folder pipelines.d beside the settings, from `edgeflow deploy`, or from a relay.
    """
    from edgeflow_agent.core import spawn

    spawn.allow_descriptors()
    with spawn.head_start(spawn.ZYGOTE) as early:  # it loads while this process does
        from edgeflow_agent.core import logs

        logs.begin()
        _run(_settings(config), config, early, as_json=as_json)


def _settings(config: Path | None) -> Settings:
    from edgeflow_agent.config import read
    from edgeflow_proto.pipeline.problem import Rejected

    try:
        return read(config)
    except Rejected as rejected:
        raise problems(rejected.problems, Failure) from None
    except OSError as error:
        raise Failure(f"{config}: {error.strerror}") from None


def _say(settings: Settings, config: Path | None, *, as_json: bool) -> None:
    """Say where its page and its data are, and where pipelines may come from."""
    from edgeflow_agent.config import pipelines_folder

    if as_json:
        emit({"pid": os.getpid(), "device": settings.device, "data": settings.data, "relay": settings.relay})
        return
    page = f"http://{settings.http.host}:{settings.http.port}"
    if not settings.http.port:
        page = f"on the port that {Path(settings.data) / 'run' / 'link.json'} names"
    ways = [f"the folder {pipelines_folder(settings, config)}"] if config or settings.pipelines else []
    ways += ["edgeflow deploy", *([f"the relay at {settings.relay}"] if settings.relay else [])]
    words = f"page {page}, data in {settings.data}; it takes pipelines from {', '.join(ways)}"
    note(f"the device {settings.device} is ready: {words}")


def _run(settings: Settings, config: Path | None, early: Spawned, *, as_json: bool) -> None:
    from edgeflow_agent.processes import agentd
    from edgeflow_agent.store.journal import JournalError
    from edgeflow_agent.store.state import StateError

    try:
        path = config.absolute() if config else None
        agentd.main(settings, path, lambda: _say(settings, path, as_json=as_json), early)
    except agentd.AlreadyRunning as error:
        raise Unwell(str(error)) from None
    except agentd.PortTaken as error:
        raise Failure(str(error)) from None
    except (StateError, JournalError, OSError) as error:
        raise Failure(f"the agent cannot use its store {settings.data}: {error}") from error
