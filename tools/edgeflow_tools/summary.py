"""What a run shows of itself: how far it is, and what it came to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from edgeflow_tools.engine import Engine, Step
from edgeflow_tools.terminal import counted


class _Counts(ProgressColumn):
    def __init__(self, run: Engine) -> None:
        super().__init__()
        self._run = run

    def render(self, task: Task) -> Text:
        return Text(f"{sum(self._run.rows.values()):,} rows, {self._run.event_count:,} events")


def progress(run: Engine) -> Progress:
    """Return a display on standard error that follows the run while it is entered."""
    console = Console(stderr=True)
    shown = Progress(BarColumn(), _Counts(run), TimeElapsedColumn(), console=console, transient=True)
    shown.add_task("run", total=None)
    return shown


def figures(run: Engine, seconds: float) -> dict[str, Any]:
    """Return the figures of a run as plain data; times of calls are in microseconds."""
    steps = {
        name: {
            "rows": step.rows, "dropped": step.dropped, "calls": len(step.calls),
            "p50_us": step.quantile_us(0.5), "p99_us": step.quantile_us(0.99),
        }
        for name, step in run.tally.steps.items()
    }  # fmt: skip
    rows = sum(run.rows.values())
    return {
        "rows": run.rows,
        "rejected": run.rejected,
        "windows": run.windows,
        "inferences": run.inferences,
        "events": run.event_count,
        "effects": run.effects,
        "seconds": round(seconds, 6),
        "rows_per_second": round(rows / seconds, 1),
        "steps": steps,
    }


def failures(run: Engine) -> Iterator[str]:
    """Yield what is not as asked for, what was wrong with rows, and the first error of each failing step."""
    yield from run.notices
    yield from run.remarks
    for name, reasons in run.rejected.items():
        if total := reasons.total():
            counts = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
            yield f"inputs.{name}: {counted(total, 'row', 'rows')} left out ({counts})"
    for name, error in run.tally.errors.items():
        dropped = run.tally.steps[name].dropped
        yield f"steps.{name}: {error} ({counted(dropped, 'row', 'rows')} dropped)"


def show(run: Engine, seconds: float, *, steps: bool = True) -> None:
    """Print the summary on standard error, with a table of the steps unless another follows."""
    console = Console(stderr=True, highlight=False)
    rows = sum(run.rows.values())
    parts = [
        f"{rows:,} rows in",
        f"{run.windows:,} windows",
        f"{run.inferences:,} inferences",
        f"{run.event_count:,} events",
    ]
    console.print(f"{', '.join(parts)}; {rows / seconds:,.0f} rows/s over {seconds:.2f} s", soft_wrap=True)
    for name, count in run.effects.items():
        console.print(
            f"outputs.{name}: {count:,} rows reached it; nothing is put out in a run", soft_wrap=True
        )
    if steps and run.tally.steps:
        console.print(_table(run))


def _table(run: Engine) -> Table:
    table = Table("step", box=None, pad_edge=False)
    for heading in ("rows", "calls", "p50 per call", "p99 per call", "rows dropped"):
        table.add_column(heading, justify="right")
    for name, step in run.tally.steps.items():
        times = (_duration(step.quantile_us(share)) for share in (0.5, 0.99))
        table.add_row(name, f"{step.rows:,}", f"{len(step.calls):,}", *times, f"{step.dropped:,}")
    return table


def profile(run: Engine, seconds: float) -> list[dict[str, Any]]:
    """Return where the time of a run went, the most first: each step, and what is around them.

    Times are in microseconds, of a call; `share` is of the run's time. Around the steps are the reading of
    recordings, the runtime between steps, the making of events, and the rest: writing them out, waiting.
    """
    parts = [_spent(name, step, seconds) for name, step in run.tally.steps.items()]
    stepping = sum(sum(step.calls) for step in run.tally.steps.values())
    spent = run.spent
    around = {
        "(reading)": spent.reading, "(runtime)": spent.pushing - stepping, "(events)": spent.telling,
        "(rest)": round(seconds * 1e9) - spent.reading - spent.pushing - spent.telling,
    }  # fmt: skip
    parts += [{"step": name, "share": round(max(0, ns) * 1e-9 / seconds, 6)} for name, ns in around.items()]
    return sorted(parts, key=lambda part: -part["share"])


def _spent(name: str, step: Step, seconds: float) -> dict[str, Any]:
    calls = len(step.calls)
    return {
        "step": name, "calls": calls, "rows": step.rows, "rows_per_call": round(step.rows / max(1, calls), 1),
        "p50_us": step.quantile_us(0.5), "p99_us": step.quantile_us(0.99),
        "share": round(sum(step.calls) * 1e-9 / seconds, 6),
    }  # fmt: skip


def show_profile(run: Engine, seconds: float) -> None:
    """Print the profile on standard error."""
    table = Table("step", box=None, pad_edge=False)
    for heading in ("share", "calls", "rows", "rows per call", "p50 per call", "p99 per call"):
        table.add_column(heading, justify="right")
    for part in profile(run, seconds):
        cells = [part["step"], f"{part['share']:.1%}"]
        if "calls" in part:
            cells += [f"{part[name]:,}" for name in ("calls", "rows", "rows_per_call")]
            cells += [_duration(part[name]) for name in ("p50_us", "p99_us")]
        table.add_row(*cells)
    Console(stderr=True, highlight=False).print(table)


def _duration(us: float) -> str:
    return f"{us / 1e3:,.2f} ms" if us >= 1e3 else f"{us:.0f} µs"
