"""Curves of recorded rows as SVG, drawn in the colours of the page around them; no script, no style."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby

from edgeflow_proto.recorded import Curve, Recorded

WIDTH, HEIGHT = 600, 60


def plots(name: str, found: Recorded) -> str:
    """Return a figure for each curve of an input, its least and greatest value said beside it."""
    return "".join(_figure(name, curve) for curve in found.curves)


def _figure(name: str, curve: Curve) -> str:
    low = min((value for value in curve.low if value is not None), default=None)
    high = max((value for value in curve.high if value is not None), default=None)
    if low is None or high is None:
        return ""
    label = f"{name}.{curve.name}: {low:.7g} to {high:.7g}"
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" height="{HEIGHT}" role="img"'
        f' preserveAspectRatio="none" aria-label="{escape(label)}">{"".join(_shapes(curve, low, high))}</svg>'
        f"<figcaption class=quiet>{escape(label)}</figcaption></figure>"
    )


def _shapes(curve: Curve, low: float, high: float) -> Iterator[str]:
    """Yield a shape for each stretch without holes: there along the greatest values, back along the least."""
    across = WIDTH / max(1, len(curve.low) - 1)
    down = (HEIGHT - 4) / (high - low) if high > low else 0.0
    edge = 2.0 if high > low else HEIGHT / 2
    numbered = [
        (place * across, edge + (high - top) * down, edge + (high - bottom) * down)
        if top is not None and bottom is not None else None
        for place, (bottom, top) in enumerate(zip(curve.low, curve.high, strict=True))
    ]  # fmt: skip
    for there, stretch in groupby(numbered, key=lambda point: point is not None):
        if there:
            points = [point for point in stretch if point is not None]
            path = [(x, top) for x, top, _ in points] + [(x, bottom) for x, _, bottom in reversed(points)]
            drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in path)
            yield (
                f'<polygon points="{drawn}" fill="currentColor" stroke="currentColor" stroke-width="1"'
                ' stroke-linejoin="round" vector-effect="non-scaling-stroke"/>'
            )
