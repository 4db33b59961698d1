"""The `edgeflow` command. Each subcommand is a module of `edgeflow_tools.commands`, imported on demand.

Results go to standard output, progress and notes to standard error. Exit code 0: all is well; 1: it was
done, and what was looked at is not well; 2: it could not be done.
"""

from __future__ import annotations

import os
import pkgutil
import sys
from importlib import import_module

import click

from edgeflow_tools import commands

_RUNTIMES = ("onnxruntime", "ai_edge_litert", "tflite_runtime")


class Commands(click.Group):
    """Finds a command's module by the command's name; what it needs beyond click it imports when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(module.name for module in pkgutil.iter_modules(commands.__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, ``None`` when there is none of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = import_module(f"{commands.__name__}.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; a name that is nearly right is told with the one that was probably meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from edgeflow_proto.pipeline.problem import closest

            meant = closest(args[0], self.list_commands(ctx))
            hint = f" (did you mean '{meant}'?)" if meant else ""
            raise click.UsageError(f"{error.message.rstrip('.')}{hint}", ctx) from None


@click.command(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="edgeflow", message="edgeflow %(version)s")
def edgeflow() -> None:
    """Run sensor pipelines with models on small devices, and look after them.

    Write a pipeline (new, check, run), put it on a device (deploy), see what it does (status, events).
    """


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        edgeflow(prog_name="edgeflow")
    except SystemExit as end:
        _leave(end)
        raise


def _leave(end: SystemExit) -> None:
    """Leave at once where a model runtime was loaded: taking it down can crash the process."""
    if not any(name in sys.modules for name in _RUNTIMES) or not isinstance(end.code, int):
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(end.code)


if __name__ == "__main__":
    main()
