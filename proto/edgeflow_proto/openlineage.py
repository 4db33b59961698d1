"""A trace as OpenLineage tells it, for catalogues that gather lineage from many systems.

A pipeline is a job, and a worker with one set-up is a run of it, which begins when the set-up is told and has
no end of its own. An event is something that the run wrote, out of a subset of the rows of its inputs. What
OpenLineage has no facet for stands in facets whose names begin with ``edgeflow_``, under its schema of all.
Source: OpenLineage 2-0-2 (openlineage.io/spec), "Naming", "Facets", "Custom Facet Naming".
"""

from __future__ import annotations

import uuid
from typing import Any

from edgeflow_proto.recorded import Recorded
from edgeflow_proto.trace import Json, Span, Step, Trace

_SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json"
_FACETS = {
    "processing_engine": "1-1-1/ProcessingEngineRunFacet",
    "executionParameters": "1-0-0/ExecutionParametersRunFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
    "schema": "1-2-0/SchemaDatasetFacet",
    "version": "1-0-1/DatasetVersionDatasetFacet",
    "inputStatistics": "1-0-0/InputStatisticsInputDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
}
_SUBSET = (
    "https://openlineage.io/spec/facets/1-0-0/BaseSubsetDatasetFacet.json#/$defs/InputSubsetInputDatasetFacet"
)


def run_events(trace: Trace) -> list[Json]:
    """Return the RunEvents of a trace: the start of the run, and that it went on to write the event.

    Raises ValueError where the set-up is not known: there is then no run to tell of.
    """
    if trace.told is None:
        raise ValueError(trace.missing)
    lineage = _Lineage(trace)
    told = lineage.event("START", trace.told.time, lineage.run_facets())
    lost = lineage.facets("RunFacet", edgeflow_lost={"events": trace.lost})
    wrote = lineage.event("RUNNING", trace.event["time"], lineage.run_facets() | lost)
    return [told, wrote | {"inputs": lineage.inputs(), "outputs": [lineage.output()]}]


class _Lineage:
    """The parts of the RunEvents of one trace."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._version = trace.versions.get("edgeflow", "0")
        self._producer = f"pkg:generic/edgeflow@{self._version}"  # a package URL (purl-spec)

    def event(self, kind: str, time: str, run_facets: Json) -> Json:
        trace = self._trace
        job_type = {"processingType": "STREAMING", "integration": "EDGEFLOW", "jobType": "PIPELINE"}
        return {
            "eventType": kind, "eventTime": time, "producer": self._producer,
            "schemaURL": f"{_SPEC}#/$defs/RunEvent",
            "run": {"runId": run_id(trace), "facets": run_facets},
            "job": {"namespace": self._namespace, "name": trace.pipeline,
                    "facets": self.facets("JobFacet", jobType=job_type)},
        }  # fmt: skip

    @property
    def _namespace(self) -> str:
        return f"edgeflow://{self._trace.device}"

    def facets(self, base: str, **facets: Json) -> Json:
        """Return facets with what each must say of itself; `base` defines those that are not published."""
        return {name: self._signed(_schema(name, base), facet) for name, facet in facets.items()}

    def _signed(self, schema: str, facet: Json) -> Json:
        return {"_producer": self._producer, "_schemaURL": schema, **facet}

    def run_facets(self) -> Json:
        trace, whole = self._trace, self._trace.to_json()
        engine = {"name": "EdgeFlow", "version": self._version, "openlineageAdapterVersion": self._version}
        parameters = [{"key": name, "value": _text(value)} for name, value in trace.params.items()]
        named = ("digest", "models", "functions", "versions", "settings", "path")
        return self.facets(
            "RunFacet",
            processing_engine=engine,
            executionParameters={"parameters": parameters},
            edgeflow_setup={name: whole[name] for name in named},
        )

    def inputs(self) -> list[Json]:
        steps = {step.name: step for step in self._trace.path}
        return [self._input(name, span, steps.get(name)) for name, span in self._trace.spans.items()]

    def _input(self, name: str, span: Span, step: Step | None) -> Json:
        kind = step.options.get("dtype", "") if step else ""
        columns = [{"name": column, "type": kind} for column in self._trace.columns.get(name, ())]
        rows = _count(span, self._trace.rows.get(name))
        count = {} if rows is None else {"rowCount": rows}
        told = self.facets("InputDatasetFacet", inputStatistics=count, edgeflow_span=_plain(span))
        if span.began is None:  # rows of one ring, whose numbers can be compared
            told["subset"] = self._signed(_SUBSET, {"inputCondition": _condition(span, step)})
        return {
            "namespace": self._namespace, "name": f"{self._trace.pipeline}/{name}",
            "facets": self.facets(
                "DatasetFacet", schema={"fields": columns}, version={"datasetVersion": str(span.generation)}
            ),
            "inputFacets": told,
        }  # fmt: skip

    def output(self) -> Json:
        event = self._trace.event
        return {
            "namespace": self._namespace, "name": f"{self._trace.pipeline}/{event['output']}",
            "facets": self.facets("DatasetFacet", edgeflow_event={"event": event}),
            "outputFacets": self.facets("OutputDatasetFacet", outputStatistics={"rowCount": 1}),
        }  # fmt: skip


def run_id(trace: Trace) -> str:
    """Return the id of the run: of what was set up and where, so whoever derives it gets the same one.

    Source: RFC 9562, section 5.5 (UUID version 5).
    """
    fingerprint = trace.told.fingerprint if trace.told else ""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{trace.event['source']}#{fingerprint}"))


def _schema(name: str, base: str) -> str:
    if name not in _FACETS:
        return f"{_SPEC}#/$defs/{base}"
    path = _FACETS[name]
    return f"https://openlineage.io/spec/facets/{path}.json#/$defs/{path.partition('/')[2]}"


def _count(span: Span, found: Recorded | None) -> int | None:
    """Return how many rows are behind the event; those of one key can be counted where all are recorded."""
    if span.key is None:
        return span.count
    return found.own if found is not None and found.whole and found.count == span.count else None


def _condition(span: Span, step: Step | None) -> Json:
    numbered = _both(
        _compared("row", "GREATER_EQUAL_THAN", str(span.first)),
        _compared("row", "LESS_EQUAL_THAN", str(span.last)),
    )
    if span.key is None or step is None:
        return numbered
    return _both(numbered, _compared(str(step.options["key"]), "EQUAL", span.key))


def _both(left: Json, right: Json) -> Json:
    return {"type": "binary", "operator": "AND", "left": left, "right": right}


def _compared(field: str, comparison: str, value: str) -> Json:
    left, right = {"type": "field", "field": field}, {"type": "literal", "value": value}
    return {"type": "compare", "comparison": comparison, "left": left, "right": right}


def _plain(span: Span) -> Json:
    return {name: value for name in span.__struct_fields__ if (value := getattr(span, name)) is not None}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
