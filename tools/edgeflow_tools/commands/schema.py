"""``edgeflow schema``: what editors complete and check pipeline files by."""

from __future__ import annotations

import json

import click


@click.command(epilog="Example: edgeflow schema > pipeline.schema.json")
def command() -> None:
    """Print the JSON Schema of pipeline files, with all kinds that are installed here.

    A pipeline names it in its first line, for editors that speak the YAML language server's protocol:
    # yaml-language-server: $schema=pipeline.schema.json
    """
    from edgeflow_proto.pipeline.jsonschema import schema

    click.echo(json.dumps(schema(), ensure_ascii=False, indent=1))
