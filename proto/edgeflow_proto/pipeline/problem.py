"""What is wrong with a document, and where."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import msgspec

Path = tuple[str | int, ...]

# Comparing words costs their lengths multiplied: what a hostile file can make of it is bounded.
_LONGEST_WORD = 32
_MOST_WORDS = 128


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


def clip(text: str, size: int = 300) -> str:
    """Return `text` fit for one line of a terminal: control characters escaped, at most `size` of it."""
    if len(text) > size:
        text = text[: size - 1] + "…"
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shown(value: Any) -> str:
    """Return a value as a message names it: short, in the words of the file rather than Python's."""
    if value is None:
        return "an empty value"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    return repr(clip(value, 60)) if isinstance(value, str) else clip(repr(value), 60)


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known word `name` was probably meant to be; long words and lists are not searched."""
    words = sorted(word for word in known if len(word) <= _LONGEST_WORD)
    if len(name) > _LONGEST_WORD or len(words) > _MOST_WORDS:
        return None
    close = difflib.get_close_matches(name, words, n=1, cutoff=0.6)
    return close[0] if close else None


MOST_SHOWN = 40  # words a hint lists


def near_miss(name: str, known: Iterable[str]) -> str:
    """Return a hint naming the known word closest to `name`, or all of them when few."""
    words = sorted(known)
    close = closest(name, words)
    if close is not None:
        return f"did you mean '{close}'?"
    return f"known: {', '.join(words)}" if 0 < len(words) <= MOST_SHOWN else ""
