"""What errors say to people, and how much of it."""

from __future__ import annotations

import traceback
from types import TracebackType


class AuthorError(ValueError):
    """The author's code raised: the message names file, line and error, the cause is what it raised."""


def reason(error: BaseException) -> str:
    """Return what kind of error it is and what it says; the message of an author's error says both."""
    return str(error) if isinstance(error, AuthorError) else f"{type(error).__name__}: {error}"


Raised = tuple[type[BaseException], BaseException, TracebackType | None]


def raised(error: BaseException) -> Raised:
    """Return an error with its traceback: of an author's error what their code raised, from that code on."""
    cause = error.__cause__
    if not isinstance(error, AuthorError) or cause is None:
        return type(error), error, error.__traceback__
    calling = cause.__traceback__
    inside = calling.tb_next if calling is not None else None
    return type(cause), cause, inside or calling


def trace_of(error: BaseException) -> str:
    """Return the traceback that `raised` gives, as text."""
    return "".join(traceback.format_exception(*raised(error)))


def shortened(text: str, longest: int) -> str:
    """Return a text of at most so many characters, without whole lines of its middle where it has lines.

    What a traceback says stands in its first and its last lines.
    """
    if len(text) <= longest:
        return text
    head, tail = text[: longest // 3], text[3 - longest * 2 // 3 :]
    head = head[: head.rfind("\n") + 1] or head
    tail = tail[tail.find("\n", 0, -1) + 1 :]
    return f"{head}…\n{tail}" if head.endswith("\n") else f"{head} … {tail}"


def told(error: Exception) -> str:
    """Return the words of an error: of one that names no file, those of the system without its number."""
    bare = isinstance(error, OSError) and error.strerror and error.filename is None
    return str(error.strerror) if isinstance(error, OSError) and bare else str(error)
