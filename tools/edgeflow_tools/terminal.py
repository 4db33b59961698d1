"""What every command shares: how it speaks, and how it fails."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import IO, Any

import click

UNWELL, UNDONE = 1, 2

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, failures too.")


class Failure(click.ClickException):
    """What was asked for could not be done. The message may have several lines; it goes to standard error.

    With ``--json`` an object goes to standard output too: the message as ``error``, and `details`.
    """

    exit_code = UNDONE

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self._details = details
        context = click.get_current_context(silent=True)
        self._as_json = context is not None and bool(context.params.get("as_json"))

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it."""
        click.echo(self.message, file=file, err=True)
        if self._as_json:
            emit({"error": self.message, **self._details})


class Unwell(Failure):
    """It was done, and what it was done with is not well."""

    exit_code = UNWELL


def problems(found: Sequence[Any], kind: type[Failure] = Unwell) -> Failure:
    """Return the failure that lists problems of a document, one a line."""
    import msgspec

    return kind("\n".join(map(str, found)), problems=msgspec.to_builtins(found))


def emit(value: Any, *, err: bool = False) -> None:
    """Print a result as one line of JSON."""
    click.echo(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")), err=err)


def note(text: str) -> None:
    """Tell whoever watches."""
    click.echo(text, err=True)


def counted(count: int, one: str, many: str) -> str:
    """Return a count with the words for one or for many."""
    return f"{count:,} {one if count == 1 else many}"
