"""Traces as OpenLineage, held against its published schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

from edgeflow_proto.event import ROW_BITS
from edgeflow_proto.openlineage import run_events
from edgeflow_proto.recorded import Recorded
from edgeflow_proto.trace import trace
from tests.support.traced import decided, journal, lost, told

RUN_EVENT = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"


class Published:
    """The published schemas: that of events, and those of facets."""

    def __init__(self, folder: Path) -> None:
        schemas = [json.loads(path.read_text()) for path in folder.rglob("*.json")]
        self._registry = Registry().with_resources(
            (schema["$id"], Resource.from_contents(schema)) for schema in schemas
        )

    def check(self, schema: str, value: Any) -> None:
        """Raise ValidationError unless a value fits a schema, formats included."""
        formats = Draft202012Validator.FORMAT_CHECKER
        Draft202012Validator({"$ref": schema}, registry=self._registry, format_checker=formats).validate(
            value
        )


@pytest.fixture(scope="module")
def published(test_data: Path) -> Published:
    return Published(test_data / "protocol" / "openlineage")


def facets(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every facet inside a value."""
    if isinstance(value, dict):
        if "_schemaURL" in value:
            yield value
        for each in value.values():
            yield from facets(each)
    elif isinstance(value, list):
        for each in value:
            yield from facets(each)


def exported(event_at: int = 1, **changes: Any) -> list[dict[str, Any]]:
    events = journal(told(), decided(**changes), lost(2))
    found = run_events(trace(events[event_at], events[0], events))
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def test_events_and_each_of_their_facets_are_valid(published: Published) -> None:
    start, wrote = exported()
    for event in (start, wrote):
        published.check(RUN_EVENT, event)
    found = [*facets(start), *facets(wrote)]
    assert len(found) > 10
    for facet in found:
        published.check(facet["_schemaURL"], facet)
    with pytest.raises(ValidationError):
        published.check(RUN_EVENT, wrote | {"eventTime": "yesterday", "run": {"runId": 5}})


def test_they_say_the_job_the_run_the_rows_read_and_the_event_written() -> None:
    start, wrote = exported()
    assert (start["eventType"], wrote["eventType"]) == ("START", "RUNNING")
    assert (wrote["job"]["namespace"], wrote["job"]["name"]) == ("edgeflow://dev-1", "watch")
    (accel,) = wrote["inputs"]
    assert accel["name"] == "watch/accel"
    assert accel["facets"]["version"]["datasetVersion"] == "3"
    assert [field["name"] for field in accel["facets"]["schema"]["fields"]] == ["x", "y", "z"]
    condition = accel["inputFacets"]["subset"]["inputCondition"]
    numbers, key = condition["left"], condition["right"]
    assert (numbers["left"]["right"]["value"], numbers["right"]["right"]["value"]) == ("768", "1023")
    assert (key["left"]["field"], key["right"]["value"]) == ("machine", "press-7")
    (output,) = wrote["outputs"]
    assert output["facets"]["edgeflow_event"]["event"]["id"] == "j1-2"
    run = wrote["run"]["facets"]
    assert run["executionParameters"]["parameters"] == [{"key": "limit", "value": "0.9"}]
    assert run["processing_engine"]["version"] == "0.1.0"
    assert run["edgeflow_setup"]["functions"] == {"features.py": "f" * 64}
    assert [event["id"] for event in run["edgeflow_lost"]["events"]] == ["j1-3"]


def test_a_run_is_the_same_for_all_its_events_and_another_for_another_set_up() -> None:
    events = journal(told(), decided(2), told(5), decided(1, 6))
    runs = [
        run_events(trace(events[i], events[t], []))[1]["run"]["runId"] for i, t in ((1, 0), (2, 0), (4, 3))
    ]
    assert len({*runs}) == 1
    events[0]["data"] = events[0]["data"] | {"params": {"limit": 0.5}}
    assert run_events(trace(events[1], events[0], []))[1]["run"]["runId"] != runs[0]


def test_rows_of_two_rings_are_no_subset_by_number_and_still_valid(published: Published) -> None:
    start, event = journal(told(), decided())
    event["inputspan"] = f"accel:{2 << ROW_BITS}-{3 << ROW_BITS}"
    wrote = json.loads(json.dumps(run_events(trace(event, start, []))[1]))
    published.check(RUN_EVENT, wrote)
    assert "subset" not in wrote["inputs"][0]["inputFacets"]


@pytest.mark.parametrize(
    ("subject", "found", "count"),
    [
        (True, Recorded(count=256, own=100), 100), (True, Recorded(count=200, own=100), None),
        (True, None, None), (False, None, 256),
    ],
)  # fmt: skip
def test_the_rows_of_a_key_are_counted_where_all_are_recorded(
    subject: bool, found: Recorded | None, count: int | None, published: Published
) -> None:
    start, event = journal(told(), decided())
    if not subject:
        del event["subject"]
    traced = msgspec.structs.replace(trace(event, start, []), rows={"accel": found} if found else {})
    wrote = json.loads(json.dumps(run_events(traced)[1]))
    published.check(RUN_EVENT, wrote)
    assert wrote["inputs"][0]["inputFacets"]["inputStatistics"].get("rowCount") == count


def test_without_a_set_up_there_is_no_run_to_tell_of() -> None:
    (event,) = journal(decided())
    with pytest.raises(ValueError, match="set-up that explains it is not stored"):
        run_events(trace(event, None, []))
