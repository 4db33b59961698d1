"""A candidate over rows that other versions of the pipeline ran: there is nothing to hold it against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from edgeflow_proto.event import Event
from edgeflow_proto.rows import Rows
from edgeflow_tools.replay.player import Player, Replay
from edgeflow_tools.terminal import Failure, counted


class Alone:
    """Such a run. It begins without memory: what the steps of others remembered says nothing here."""

    def __init__(self, player: Player, since: int | None, put: Callable[[Sequence[Event]], object]) -> None:
        """Rows before `since` only lead up; `put` is given the events."""
        self._player, self._put = player, put
        self._replay = Replay([player], None, since)
        self._running = False
        self.outputs: Counter[str] = Counter()  # events that there were
        self.left_out = 0  # rows that the candidate does not take
        self.why = ""

    def __bool__(self) -> bool:
        """Say whether there were rows, besides those that only lead up."""
        return bool(self._replay.ran)

    def run(self, commit: Sequence[Rows]) -> None:
        """Run rows that were written together. Raises StepStoppedError."""
        if not self._running:
            self._player.begin()
        self._running = True
        try:
            made = self._replay.run([msgspec.structs.replace(rows, state=b"") for rows in commit])
        except Failure as error:
            self.why = self.why or error.message
            self.left_out += sum(rows.count for rows in commit)
            return
        self._tell(made[0])

    def end(self) -> None:
        """Let time pass up to when the last rows were written."""
        if self._running:
            self._tell(self._replay.passed()[0])
        self._running = False

    def _tell(self, events: Sequence[Event]) -> None:
        if self:
            self.outputs.update(event.output for event in events)
            self._put(events)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        replay = self._replay
        return {
            "rows": replay.rows, "leading_rows": replay.leading, "left_out": self.left_out,
            "outputs": dict(sorted(self.outputs.items())),
        }  # fmt: skip

    def __str__(self) -> str:
        ran = f"{counted(self._replay.rows, 'row', 'rows')} that another version ran"
        said = ", ".join(f"{output} {count:,}" for output, count in sorted(self.outputs.items()))
        told = f"the candidate alone, over {ran}: {said or 'no events'}"
        return f"{told}; left out: {self.left_out:,} rows: {self.why}" if self.left_out else told
