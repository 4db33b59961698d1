"""What every command shares: how it speaks, and how it fails."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import IO, Any

import click

UNWELL, UNDONE = 1, 2

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, failures too.")


class Failure(click.ClickException):
    """Ends the command: the lines go to standard error and, with ``--json``, an object to standard output.

    `details` are that object's members besides ``error``.
    """

    def __init__(self, message: str, code: int = UNDONE, **details: Any) -> None:
        super().__init__(message)
        self.exit_code = code
        self._details = details
        context = click.get_current_context(silent=True)
        self._as_json = context is not None and bool(context.params.get("as_json"))

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it."""
        click.echo(self.message, file=file, err=True)
        if self._as_json:
            emit({"error": self.message, **self._details})


def emit(value: Any, *, err: bool = False) -> None:
    """Print a result as one line of JSON."""
    click.echo(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")), err=err)


def note(text: str) -> None:
    """Tell whoever watches."""
    click.echo(text, err=True)


def problems(found: Iterable[Any], code: int = UNWELL) -> Failure:
    """Return the failure that lists problems of a document, one a line."""
    import msgspec

    listed = list(found)
    return Failure("\n".join(map(str, listed)), code, problems=msgspec.to_builtins(listed))
