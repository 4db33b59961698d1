"""``edgeflow agent``: be a device."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeflow_tools.terminal import Failure, Unwell, emit, json_option, problems

if TYPE_CHECKING:
    from edgeflow_agent.config import Settings


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
    settings = _settings(config)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    if as_json:
        emit({"pid": os.getpid(), "device": settings.device, "data": settings.data, "relay": settings.relay})
    _run(settings, config)


def _settings(config: Path | None) -> Settings:
    from edgeflow_agent.config import read
    from edgeflow_proto.pipeline.problem import Rejected

    try:
        return read(config)
    except Rejected as rejected:
        raise problems(rejected.problems, Failure) from None
    except OSError as error:
        raise Failure(f"{config}: {error.strerror}") from None


def _run(settings: Settings, config: Path | None) -> None:
    from edgeflow_agent.processes import agentd
    from edgeflow_agent.store.journal import JournalError
    from edgeflow_agent.store.state import StateError

    try:
        agentd.main(settings, config.absolute() if config else None)
    except agentd.AlreadyRunning as error:
        raise Unwell(str(error)) from None
    except (StateError, JournalError, OSError) as error:
        raise Failure(f"the agent cannot use its store {settings.data}: {error}") from error
