"""What is wrong with a document, and where."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import msgspec

Path = tuple[str | int, ...]


class Place(msgspec.Struct, frozen=True):
    """A position in a text file, both counted from 1."""

    line: int
    col: int


class Problem(msgspec.Struct, frozen=True, order=True):
    """One mistake; its string form is ``file:line:col: where: what (hint)``."""

    file: str
    line: int
    col: int
    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        """Return the one-line form editors and people read."""
        hint = f" ({self.hint})" if self.hint else ""
        where = f"{self.where}: " if self.where else ""
        return f"{self.file}:{self.line}:{self.col}: {where}{self.what}{hint}"


class Mistake(ValueError):
    """A rule of a kind was broken; ``option`` names the option to point at, or is empty."""

    def __init__(self, what: str, *, option: str = "", hint: str = "") -> None:
        """Keep what is wrong, the option it is wrong with, and how to mend it."""
        super().__init__(what)
        self.what = what
        self.option = option
        self.hint = hint


class Rejected(ValueError):
    """A document was not accepted; ``problems`` holds every mistake found."""

    def __init__(self, problems: list[Problem]) -> None:
        """Keep the problems; the message is their lines."""
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def near_miss(name: str, known: Iterable[str]) -> str:
    """Return a hint naming the known word closest to `name`, or all of them when few."""
    words = sorted(known)
    close = difflib.get_close_matches(name, words, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(words)}" if 0 < len(words) <= 12 else ""
