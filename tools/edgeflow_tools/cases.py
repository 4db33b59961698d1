"""The author's cases: recorded inputs, and the events a pipeline is expected to make of them.

A case is a YAML file in ``tests/`` beside the pipeline:

    inputs: {accel: ../recording.csv}      # files, relative to the case
    params: {limit: 0.7}                   # of the pipeline; by default its own
    outputs: [raised]                      # which to compare; by default all that make events
    tolerance: {relative: 1e-3}            # of numbers, and of times: {time: 10ms}
    expect:                                # written by `edgeflow test --update`
    - {output: raised, at: 4.249s, data: {rms: 1.0713}}
    effects: {stop: 1}                     # rows that reach outputs which act

An event is the expected one when output, key and time agree; then its data are compared. Times count from the
first row, by the inputs' rates.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from edgeflow_agent.inputs.decode.base import DecodeError
from edgeflow_agent.inputs.decode.marks import moment
from edgeflow_agent.inputs.recording import RecordingError
from edgeflow_agent.runtime.plan import PlanError
from edgeflow_agent.runtime.run import StepStoppedError
from edgeflow_proto.event import Event, wall_time
from edgeflow_proto.pipeline.load import Source, load
from edgeflow_proto.pipeline.problem import Problem, near_miss
from edgeflow_proto.pipeline.schema import Reader
from edgeflow_proto.pipeline.units import Duration
from edgeflow_tools.pipelines import checked
from edgeflow_tools.run import Run, recordings_of
from edgeflow_tools.terminal import Failure, Unwell, problems

FOLDER = "tests"
_DIGITS, _ALL_DIGITS = 7, 17  # written of a number: enough for float32, and for any


class Tolerance(msgspec.Struct, frozen=True, kw_only=True):
    """How far a number may be off: by `absolute` plus `relative` times what is expected; a time by `time`."""

    relative: float = 1e-4
    absolute: float = 1e-6
    time: Duration = Duration(0)

    def allows(self, expected: float, got: float) -> bool:
        """Say whether a number is near enough; NaN and infinity are near themselves alone."""
        if math.isfinite(expected) and math.isfinite(got):
            return abs(got - expected) <= self.allowed(expected)
        return expected == got or (math.isnan(expected) and math.isnan(got))

    def allowed(self, expected: float) -> float:
        """Return how far a number may be from one that is expected."""
        return self.absolute + self.relative * abs(expected)


class Moment(int):
    """When an event is, in ns: since the start (``4.249s``), or since 1970 (``2026-06-01T08:23:12Z``)."""

    @classmethod
    def parse(cls, value: Any) -> Moment:
        """Read a moment; raises ValueError saying what one looks like."""
        if not (isinstance(value, str) and "T" in value):
            return cls(Duration.parse(value))
        try:
            return cls(moment(value, "iso"))
        except DecodeError as error:
            raise ValueError(error.detail) from None

    def __str__(self) -> str:
        """Return the moment as it is written."""
        if self >= _CALENDAR:
            return wall_time(self).replace(".000000Z", "Z")
        seconds, rest = divmod(self, 10**9)
        return f"{seconds}.{rest:09d}".rstrip("0").rstrip(".") + "s"


_CALENDAR = 10 * 365 * 86400 * 10**9  # ns; what is later is no time since a start


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """An event: of which output, when, of which key, with which data."""

    output: str
    at: Moment
    key: str | None = None
    data: dict[str, Any] = {}


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A case as written; without `expect` nothing has been recorded yet."""

    inputs: dict[str, str] = {}
    description: str | None = None
    params: dict[str, Any] = {}
    outputs: list[str] | None = None
    tolerance: Tolerance = Tolerance()
    expect: list[Expected] | None = None
    effects: dict[str, int] = {}


class Got(msgspec.Struct, frozen=True):
    """What a pipeline made of a case's inputs."""

    events: list[Expected]
    effects: dict[str, int]


class CaseFile:
    """A case and the text it stands in."""

    def __init__(self, path: Path) -> None:
        """Read it; raises Failure with every mistake."""
        self.path = path
        try:
            self._text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"{path}: {error}") from None
        self._source, self.case = _read(self._text, path)

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    def got(self, pipeline: Path) -> Got:
        """Run the pipeline on the case's inputs; raises Failure."""
        found = checked(pipeline, self.case.params)
        if found.graph is None:
            raise problems(found.problems)
        own = recordings_of(found.graph, found.file.parent)
        given = {name: self.path.parent / file for name, file in self.case.inputs.items()}
        self._check_names("inputs", given, found.graph.inputs)
        self._check_names("outputs", self.case.outputs or (), found.graph.outputs)
        try:
            run = Run(found.graph, found.file.parent.absolute(), "", {})
            events = [*run.events(own | given)]
        except (PlanError, RecordingError, StepStoppedError) as error:
            raise Unwell(f"{self.path}: {error}") from None
        except OSError as error:
            raise Failure(f"{self.path}: {error.filename}: {error.strerror}") from None
        if run.tally.errors:
            step, failed = next(iter(run.tally.errors.items()))
            raise Unwell(f"{self.path}: steps.{step}: {failed}")
        compared = [_plain(event) for event in events if self._compares(event.output)]
        return Got(compared, {name: count for name, count in run.effects.items() if self._compares(name)})

    def _compares(self, output: str) -> bool:
        return self.case.outputs is None or output in self.case.outputs

    def _check_names(self, where: str, names: Iterable[str], known: Mapping[str, Any]) -> None:
        for name in names:
            if name not in known:
                what = f"the pipeline has no such {where.rstrip('s')} '{name}'"
                raise problems([self._source.problem((where, name), where, what, near_miss(name, known))])

    def differences(self, got: Got) -> list[str]:
        """Return in words how what came differs from what is expected; empty when it does not."""
        if self.case.expect is None:
            return ["nothing is expected yet; write what comes with --update"]
        found = [*_events_differ(self.case.expect, got.events, self.case.tolerance)]
        for name in sorted(self.case.effects.keys() | got.effects.keys()):
            rows, expected = got.effects.get(name, 0), self.case.effects.get(name, 0)
            if rows != expected:
                found.append(f"~ {name}: {rows} rows reach it, expected {expected}")
        return found

    def update(self, got: Got) -> None:
        """Write what came in the place of what is expected; raises Failure where that cannot be."""
        digits = _DIGITS if self.case.tolerance.relative >= 10.0 ** (1 - _DIGITS) else _ALL_DIGITS
        blocks = {"expect": [*_event_lines(got.events, digits)]}
        if got.effects or self.case.effects:
            blocks["effects"] = [f"effects: {_flow(got.effects)}"]
        text = _replaced(self._text, self._source, blocks)
        _, case = _read(text, self.path)
        assert case.expect is not None
        try:
            self.path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise Failure(f"{self.path}: {error.strerror}") from None


def cases_of(pipeline: Path) -> list[Path]:
    """Return the files of a pipeline's cases, in the order of their names."""
    folder = (pipeline if pipeline.is_dir() else pipeline.parent) / FOLDER
    return sorted(folder.glob("*.yaml"))


def _read(text: str, path: Path) -> tuple[Source, Case]:
    source, found = load(text, str(path))
    if source is None or found:
        raise problems(found)
    reader = Reader(source, {})
    if not isinstance(source.data, dict):
        raise problems([Problem(str(path), 1, 1, "", "a case is a mapping")])
    case = reader.struct(Case, source.data, (), ())
    if case is None:
        raise problems(reader.problems)
    return source, case


def _plain(event: Event) -> Expected:
    return Expected(output=event.output, at=Moment(event.t), key=event.subject or None, data=dict(event.data))


# comparing


def _events_differ(expected: list[Expected], got: list[Expected], tolerance: Tolerance) -> Iterator[str]:
    """Yield differences in the order of time, those of an output and key in its own order."""
    found: list[tuple[int, str]] = []
    wanted, came = _by_source(expected), _by_source(got)
    for source in wanted.keys() | came.keys():
        found += _compared(wanted[source], came[source], tolerance)
    yield from (line for _, line in sorted(found))


def _by_source(events: Iterable[Expected]) -> defaultdict[tuple[str, str], list[Expected]]:
    out: defaultdict[tuple[str, str], list[Expected]] = defaultdict(list)
    for event in sorted(events, key=lambda event: event.at):
        out[event.output, event.key or ""].append(event)
    return out


def _compared(
    expected: list[Expected], got: list[Expected], tolerance: Tolerance
) -> Iterator[tuple[int, str]]:
    """Walk along both in the order of time; what stands at one time (or near enough) is compared."""
    wanted, came = iter(expected), iter(got)
    one, other = next(wanted, None), next(came, None)
    while one is not None or other is not None:
        if one is not None and other is not None and abs(one.at - other.at) <= tolerance.time:
            yield from (
                (one.at, f"~ {_said(one)}: {what}")
                for what in mappings_differ(one.data, other.data, tolerance)
            )
            one, other = next(wanted, None), next(came, None)
        elif other is None or (one is not None and one.at < other.at):
            assert one is not None
            yield one.at, f"- {_said(one)} {_flow(one.data)}"
            one = next(wanted, None)
        else:
            yield other.at, f"+ {_said(other)} {_flow(_rounded(other.data, _DIGITS))}"
            other = next(came, None)


def _said(event: Expected) -> str:
    return f"{event.output} at {event.at}" + (f" of {event.key}" if event.key else "")


def mappings_differ(expected: dict[str, Any], got: dict[str, Any], tolerance: Tolerance) -> Iterator[str]:
    """Yield in words how values by name differ."""
    for name in {**expected, **got}:
        if name not in got or name not in expected:
            yield f"{name} is {'missing' if name not in got else 'not expected'}"
        else:
            yield from _differ(expected[name], got[name], tolerance, name)


def _differ(expected: Any, got: Any, tolerance: Tolerance, name: str) -> Iterator[str]:
    """Yield how a value differs, with its name or place."""
    if isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for index, (one, other) in enumerate(zip(expected, got, strict=True)):
            yield from _differ(one, other, tolerance, f"{name}[{index}]")
    elif _is_number(expected) and _is_number(got):
        if not tolerance.allows(expected, got):
            allowed = f"; ±{tolerance.allowed(expected):.3g} is allowed" if math.isfinite(expected) else ""
            yield f"{name} is {got:.7g}, expected {expected:.7g}{allowed}"
    elif expected != got:
        yield f"{name} is {_flow(got)}, expected {_flow(expected)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# writing


def _event_lines(events: Sequence[Expected], digits: int) -> Iterator[str]:
    yield "expect:" if events else "expect: []"
    for event in events:
        shown: dict[str, Any] = {"output": event.output, "at": str(event.at)}
        shown |= {"key": event.key} if event.key else {}
        yield f"- {_flow(shown | {'data': _rounded(event.data, digits)})}"


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner, digits) for name, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner, digits) for inner in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) and math.isfinite(value) else value


def _flow(value: Any) -> str:
    """Return a value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, sort_keys=False, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _replaced(text: str, source: Source, blocks: Mapping[str, list[str]]) -> str:
    """Return a case with the blocks of some keys written anew, in their places or at the end."""
    starts = {key: source.places[key,] for key in source.data}
    if any(place.col != 1 for place in starts.values()):
        raise Failure(f"{source.file}: --update needs each key of the case on a line of its own")
    lines = text.splitlines()
    order = sorted(place.line - 1 for place in starts.values())
    for key in sorted(blocks.keys() & starts.keys(), key=lambda key: -starts[key].line):
        begin = starts[key].line - 1
        end = next((line for line in order if line > begin), len(lines))
        while end < len(lines) and lines[end - 1].startswith("#"):
            end -= 1  # what is said of the next key
        lines[begin:end] = blocks[key]
    for key in blocks:
        lines += blocks[key] if key not in starts else []
    return "\n".join(lines) + "\n"
