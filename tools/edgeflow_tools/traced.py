"""A trace as a tree for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text
from rich.tree import Tree

from edgeflow_proto.trace import Trace
from edgeflow_proto.trace_words import sections
from edgeflow_tools.tables import console


def show(trace: Trace) -> None:
    """Print a trace."""
    console().print(tree(trace), soft_wrap=True)


def tree(trace: Trace) -> Tree:
    """Return a trace as a tree: a branch for each section."""
    root = Tree(Text(trace.event["id"], style="bold"))
    for section in sections(trace):
        branch = root.add(Text(section.title, style="bold"))
        for line in (*_aligned(section.rows), *filter(None, [section.words])):
            branch.add(Text(line))
    return root


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield rows as lines whose texts stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
