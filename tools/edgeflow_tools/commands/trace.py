"""``edgeflow trace``: why a device said what it said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeflow_tools import whom
from edgeflow_tools.terminal import Failure, emit, json_option

if TYPE_CHECKING:
    from edgeflow_proto.trace import Trace


@click.command(epilog="Example: edgeflow trace 5f0c9a1be2d34c77-1042 --relay http://relay:7000")
@click.argument("event")
@whom.options
@click.option(
    "--store",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A device's data folder, or a copy of it, in place of a server.",
)
@click.option("--openlineage", is_flag=True, help="Print OpenLineage run events, one a line.")
@json_option
def command(event: str, store: Path | None, openlineage: bool, as_json: bool, **rest: Any) -> None:
    """Explain an event, by its id: what it was made of, by which steps, and what was lost nearby.

    It is asked of the relay, which knows events of devices that are away, of a device (--to), or read out of
    a device's data folder (--store; --device then says what that device is called). "edgeflow events --json"
    prints ids.
    """
    from edgeflow_tools import traced

    found = _asked(event, **rest) if store is None else _stored(event, store, **rest)
    if openlineage:
        for line in _run_events(found):
            emit(line)
    elif as_json:
        emit(found.to_json())
    else:
        traced.show(found)


def _asked(event: str, to: str | None, device: str | None, relay: str | None) -> Trace:
    """Ask a relay or a device; raises Failure."""
    from edgeflow_proto.trace import trace_from
    from edgeflow_tools.client import quoted

    server, name = whom.whom(to, device, relay, fleet=True)
    found = server.get(f"/api/v1/events/{quoted(event)}/trace", device=name)
    try:
        return trace_from(found)
    except ValueError as error:
        raise Failure(f"{server.url}: {error}") from None


def _stored(event: str, store: Path, to: str | None, device: str | None, relay: str | None) -> Trace:
    """Read the journals of a data folder; raises Failure and UsageError."""
    if to is not None or relay is not None:
        raise click.UsageError("give either --store or a server")
    from edgeflow_agent.config import Settings
    from edgeflow_agent.store.journal import JournalError
    from edgeflow_agent.store.readers import Journals
    from edgeflow_agent.store.state import timeline
    from edgeflow_agent.web import traces

    journals = Journals(store / "journals")
    try:
        journals.refresh()
        journals.timeline = timeline(store / "state")
        found = traces.find(journals, device or Settings().device, event)
    except (ValueError, JournalError) as error:
        raise Failure(f"{store}: {error}") from None
    finally:
        journals.close()
    if found is None:
        raise Failure(f"{store}: no such event is in its journals")
    return found


def _run_events(found: Trace) -> list[dict[str, Any]]:
    from edgeflow_proto.openlineage import run_events

    try:
        return run_events(found)
    except ValueError as error:
        raise Failure(f"there is no run to tell of: {error}") from None
