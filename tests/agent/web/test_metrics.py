"""The exposition, read back by a strict parser."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.core import board as boards
from edgeflow_agent.core import counters, shm
from edgeflow_agent.core.board import Board, Histogram, labelled
from edgeflow_agent.core.counters import Sample
from edgeflow_agent.web import metrics
from tests.agent.web.harness import AgentdStandIn, block

_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
_SAMPLE = re.compile(
    rf"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? (-?[0-9.]+(?:e[+-]?\d+)?)"
)
_HELP = re.compile(r"# HELP ([a-z_]+) [^\n]+")
_HELP_LINE = re.compile(r"# HELP ([a-z_]+) ([^\n]+)")
_TYPE = re.compile(r"# TYPE ([a-z_]+) (counter|gauge|histogram)")


def parse(text: str) -> dict[str, dict[str, float]]:
    """Read the text form strictly; return values by family and by name with labels."""
    assert text.endswith("\n")
    families: dict[str, dict[str, float]] = {}
    family = kind = ""
    for line in text.splitlines():
        if match := _HELP.fullmatch(line):
            family = match[1]
            assert family not in families, f"{family} comes twice"
            families[family] = {}
        elif match := _TYPE.fullmatch(line):
            assert match[1] == family
            kind = match[2]
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, line
            suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            assert match[1] in {family + suffix for suffix in suffixes}, line
            name = line.rpartition(" ")[0]
            assert name not in families[family], f"{name} comes twice"
            families[family][name] = float(match[3])
    return families


def test_counters_gauges_and_labels_are_said_once_per_family() -> None:
    text = metrics.exposition(
        [
            Sample("rows_total", {"pipeline": "a", "input": "x"}, 3),
            Sample("uplink_connected", {}, 1),
            Sample("rows_total", {"pipeline": "b", "input": 'q"\\\n'}, 4),
            Sample("counters_overflow_total", {}, 2),
            Sample("counters_overflow_total", {}, 5),
        ]
    )
    found = parse(text)
    assert found["edgeflow_rows_total"] == {
        'edgeflow_rows_total{pipeline="a",input="x"}': 3,
        'edgeflow_rows_total{pipeline="b",input="q\\"\\\\\\n"}': 4,
    }
    assert found["edgeflow_counters_overflow_total"] == {"edgeflow_counters_overflow_total": 7}
    assert "# TYPE edgeflow_rows_total counter\n" in text
    assert "# TYPE edgeflow_uplink_connected gauge\n" in text


@given(durations=st.lists(st.integers(0, 10**11), max_size=50))
def test_buckets_are_cumulated_up_to_infinity(durations: list[int]) -> None:
    fd = boards.create()
    slot = Board(fd).slot(3)
    histogram = Histogram(slot, "decision")
    for duration in durations:
        histogram.record(duration)
    found = parse(metrics.exposition(list(counters.samples(Board(fd), 3))))["edgeflow_decision_us"]
    shm.close(fd)
    buckets = [(le, count) for name, count in found.items() if (le := _limit(name)) is not None]
    assert [le for le, _ in buckets] == sorted(le for le, _ in buckets)
    assert buckets[-1] == (math.inf, len(durations))
    for le, count in buckets:
        exact = sum(duration // 1000 <= le for duration in durations)
        assert count == exact or le > 1e6  # limits over 10⁶ are written with six digits
    assert found["edgeflow_decision_us_count"] == len(durations)
    assert found["edgeflow_decision_us_sum"] == sum(duration // 1000 for duration in durations)


def _limit(name: str) -> float | None:
    match = re.search(r'le="([^"]+)"', name)
    return float(match[1].replace("+Inf", "inf")) if match else None


@given(
    labels=st.dictionaries(st.sampled_from(["pipeline", "input", "reason"]), st.text(max_size=12), min_size=1)
)
def test_a_name_from_the_board_is_taken_apart_and_put_together_again(labels: dict[str, str]) -> None:
    name = labelled("rows_total", **labels)
    sample = counters.parse(name, 7)
    assert sample == Sample("rows_total", labels, 7)
    assert sample.text == name


def test_a_name_that_was_cut_is_left_out() -> None:
    assert counters.parse('rows_total{input="abc', 1) is None
    assert counters.parse('rows_total{input="abc"', 1) is None
    assert counters.parse("9lives", 1) is None


def test_a_pipelines_counters_come_from_its_worker_and_from_io() -> None:
    own = [Sample("rows_total", {"input": "x"}, 3)]
    shared = [
        Sample("input_rows_total", {"pipeline": "a", "input": "x"}, 9),
        Sample("input_rows_total", {"pipeline": "b", "input": "x"}, 8),
    ]
    found = counters.plain(counters.of_pipeline(own, shared, "a"))
    assert found == {'rows_total{input="x"}': 3, 'input_rows_total{input="x"}': 9}


@pytest.mark.system
def test_what_lies_on_the_disk_is_told_and_every_number_is_explained(link: AgentdStandIn) -> None:
    link.commit("watch", block(5), block(3, 5))
    link.commit("_agent", block(1))
    (link.store / "logs").mkdir(exist_ok=True)
    (link.store / "logs" / "io.1.jsonl").write_bytes(bytes(5000))
    link.http.get("/api/v1/events")  # it looks for new journals then
    text = link.http.get("/metrics").text
    found = parse(text)
    assert found["edgeflow_journal_first_event"]['edgeflow_journal_first_event{pipeline="watch"}'] == 1
    assert found["edgeflow_journal_last_event"]['edgeflow_journal_last_event{pipeline="watch"}'] == 8
    assert found["edgeflow_journal_segments"]['edgeflow_journal_segments{pipeline="_agent"}'] == 1
    assert found["edgeflow_log_bytes"]["edgeflow_log_bytes"] >= 8192
    assert found["edgeflow_clock_synchronised"]["edgeflow_clock_synchronised"] in (0, 1)
    assert set(found["edgeflow_log_lines_lost_total"]) == {'edgeflow_log_lines_lost_total{process="link"}'}
    plain = {name: name.removeprefix("edgeflow_").replace("_", " ") + "." for name in found}
    assert not [name for name, words in _HELP_LINE.findall(text) if words == plain[name]]
