"""``edgeflow new``: a pipeline to start from."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import click

from edgeflow_tools.terminal import Failure, emit, json_option, note

STARTER = "starter"  # its folder in this package, and its name in its files
_FILES = ("pipeline.yaml", "features.py", "README.md", "tests/disturbance.yaml")
_SCHEMA = ".pipeline.schema.json"  # for editors; hidden files are not put on devices
RECORDING = "recording.csv"
_RATE_HZ, _SECONDS = 1000, 10


@click.command(epilog="Example: edgeflow new pump && edgeflow run pump --input accel=pump/recording.csv")
@click.argument("folder", metavar="NAME", type=click.Path(path_type=Path))
@json_option
def command(folder: Path, as_json: bool) -> None:
    """Make a folder with a pipeline that works, some Python, a recording and a README.

    The last part of the path becomes the pipeline's name.
    """
    import msgspec

    from edgeflow_proto.pipeline.jsonschema import schema
    from edgeflow_proto.pipeline.schema import NAME

    if not NAME.fullmatch(folder.name):
        raise Failure(
            f"{folder.name!r} is not a pipeline name: lower-case letters, digits and '-', a letter first"
        )
    try:
        folder.mkdir(parents=True)
        for name in _FILES:
            text = (files("edgeflow_tools") / STARTER / name).read_text(encoding="utf-8")
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text.replace(STARTER, folder.name), encoding="utf-8")
        (folder / RECORDING).write_text(_recording())
        (folder / _SCHEMA).write_bytes(msgspec.json.format(msgspec.json.encode(schema()), indent=1))
    except FileExistsError:
        raise Failure(f"{folder} is there already") from None
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from None
    _tell(folder, as_json=as_json)


def _tell(folder: Path, *, as_json: bool) -> None:
    made = [str(folder / name) for name in (*_FILES, RECORDING, _SCHEMA)]
    if as_json:
        emit({"name": folder.name, "files": made})
    else:
        click.echo("\n".join(made))
        note(f"try: edgeflow run {folder} --input accel={folder / RECORDING}")


def _recording() -> str:
    """Return ten seconds of a hum in noise as CSV, three times as strong from 4 s to 7 s."""
    import numpy as np

    t = np.arange(_RATE_HZ * _SECONDS) / _RATE_HZ
    noise = np.random.default_rng(1).normal(0, 0.1, len(t))
    strength = np.where((t >= 4) & (t < 7), 1.5, 0.4)
    x = strength * np.sin(2 * np.pi * 50 * t) + noise
    return "x\n" + "".join(f"{value:.3f}\n" for value in x)
