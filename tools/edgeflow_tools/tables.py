"""Plain tables and quantities for people, on standard output."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def show(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below headings, columns of numbers aligned to the right; nothing where there are no rows."""
    if not rows:
        return
    table = Table(box=None, pad_edge=False)
    for index, heading in enumerate(headings):
        numbers = all(row[index][:1].isdigit() or not row[index] for row in rows)
        table.add_column(heading, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def facts(*pairs: tuple[str, str]) -> None:
    """Print names with what is to be said of each."""
    width = max(len(name) for name, _ in pairs)
    for name, text in pairs:
        console().print(f"{name:<{width}}  {text}", soft_wrap=True)


def console() -> Console:
    """Return standard output for what people read.

    Colour and width fit a terminal; a pipe gets whole lines.
    """
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 1000
    return console


def size(count: float) -> str:
    """Return bytes in the unit that suits them."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """Return a span of time in its two largest units."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
