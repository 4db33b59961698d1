"""``edgeflow schema``: what editors complete and check pipeline files by."""

from __future__ import annotations

import json

import click

from edgeflow_tools.terminal import emit, json_option


@click.command(epilog="Example: edgeflow schema > pipeline.schema.json")
@json_option
def command(as_json: bool) -> None:
    """Print the JSON Schema of pipeline files, with all kinds that are installed here.

    Editors complete and check by it where a pipeline's first line says
    "# yaml-language-server: $schema=pipeline.schema.json"; a pipeline in JSON says it as "$schema".
    """
    from edgeflow_proto.pipeline.jsonschema import schema

    if as_json:
        emit(schema())
    else:
        click.echo(json.dumps(schema(), ensure_ascii=False, indent=1))
