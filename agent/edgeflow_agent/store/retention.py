"""What of a journal goes to make room: its oldest segments, or all where nobody will write to it again."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from edgeflow_agent.store import pages, segment

log = logging.getLogger("edgeflow.journal")
DAMAGED = ".damaged"  # behind the name of a segment that was set aside


class Evicted(msgspec.Struct, frozen=True):
    """Events that had to go to make room, numbers `first` to `last`; those up to `acked` the relay has.

    `missing` of the numbers never were events, or went with a damaged segment; `beyond` of those are above
    what the relay has.
    """

    first: int
    last: int
    acked: int
    missing: int = 0
    beyond: int = 0

    @property
    def count(self) -> int:
        """How many they are."""
        return self.last - self.first + 1 - self.missing

    @property
    def lost(self) -> int:
        """How many of them nobody else has."""
        return max(0, self.last - max(self.first - 1, self.acked) - self.beyond)

    @property
    def data(self) -> dict[str, object]:
        """What the `gap` event says of it."""
        first = max(self.first, self.acked + 1)
        return {"reason": "evicted", "first": first, "last": self.last, "events_lost": self.lost}

    def behind(self, before: Evicted | None) -> Evicted:
        """Return these and what went before them as one."""
        if before is None:
            return self
        missing, beyond = before.missing + self.missing, before.beyond + self.beyond
        return Evicted(before.first, self.last, self.acked, missing, beyond)


def evict(
    path: Path,
    limit: int,
    acked: int | None,
    tell: Callable[[Evicted], object],
    *,
    hold: bool = False,
    end: int | None = None,
) -> None:
    """Keep a journal nobody writes to within a limit; with `hold`, let nothing go that the relay has not.

    Its newest segment stays, unless nobody will ever write to it again: `end` is the number behind its last
    event then (see `ending`), and what goes last is all of the journal. What is to go is told first. Where
    nobody knows what the relay has (`None`), the journal does.
    """
    over = segment.taken_below(path) - limit
    if over <= 0:
        return
    try:
        segments = _finished(path)
        known = _known(segments, acked, end)
        going, over = surplus(path, segments, over, known if hold else None)
        whole = over > 0 and end is not None and (not hold or end <= known + 1)
        gone = numbers(segments, segments if whole else going, known, end)
        if gone is not None:
            tell(gone)
        _remove_all(path) if whole else remove(path, going)
    except OSError as error:
        log.warning("%s: cannot be trimmed: %s", path.name, error)


def ending(path: Path) -> int | None:
    """Return the number behind the last event of a journal that nobody writes to.

    Of a damaged newest segment only its first event is known; ``None`` where it cannot be read just now.
    """
    try:
        segments = _finished(path)
        return _marks(segments[-1]).next if segments else 1
    except segment.DamagedError:
        return segment.number(segments[-1]) + 1
    except (OSError, segment.SegmentError):
        return None


def _known(segments: Sequence[Path], acked: int | None, end: int | None) -> int:
    """Return up to which event the relay has them; where that is more than there are, another journal's."""
    if acked is None or (end is not None and acked >= end):
        return _acked(segments)
    return acked


def _remove_all(path: Path) -> None:
    """Unlink all of a journal for good, the newest segment last: who reads finds it, or no journal at all."""
    for each in sorted(
        path.iterdir(), key=lambda each: (segment.NAME.fullmatch(each.name) is not None, each)
    ):
        each.unlink()
    path.rmdir()
    segment.sync(path.parent)


def remove(path: Path, going: Sequence[Path]) -> None:
    """Unlink segments for good: what is told to be gone must not be there again after a power cut."""
    for each in going:
        segment.remove(each)
    if going:
        segment.sync(path)


def leave_out(path: Path, damaged: str) -> tuple[int, int] | None:
    """Set a damaged segment aside; return the numbers that go with it, ``None`` where it is not to be.

    The newest one stays for its writer to see, and so does one that is sound after all.
    """
    try:
        segments = segment.names(path)
        place = [each.name for each in segments[:-1]].index(damaged)
        if (why := _wrong(segments[place])) is None:
            return None
        segments[place].rename(segments[place].with_name(damaged + DAMAGED))
    except (OSError, ValueError) as error:  # it went meanwhile, is the newest, or the disk refuses
        log.info("%s: %s is not set aside: %s", path.name, damaged, error)
        return None
    log.error("%s: %s is set aside: %s", path.name, damaged, why)
    return segment.number(segments[place]), segment.number(segments[place + 1]) - 1


def _wrong(path: Path) -> pages.DamagedError | None:
    try:
        pages.check(path)
    except pages.DamagedError as error:
        return error
    return None


def _finished(path: Path) -> list[Path]:
    """Return the segments up to the newest that holds anything: one behind it was never begun."""
    segments = segment.names(path)
    while segments:
        try:
            _marks(segments[-1])
        except segment.UnfinishedError:
            segments.pop()
            continue
        except segment.SegmentError:
            pass
        break
    return segments


def _acked(segments: Sequence[Path]) -> int:
    """Return up to which event the relay had them when a journal was last written to."""
    for each in reversed(segments):
        with contextlib.suppress(segment.SegmentError):
            return _marks(each).acked
    return 0


def _marks(path: Path) -> segment.Marks:
    found = segment.Segment(path)
    try:
        return found.marks
    finally:
        found.close()


def surplus(path: Path, segments: Sequence[Path], over: int, upto: int | None) -> tuple[list[Path], int]:
    """Return what is to go while bytes are `over`, and how many are then.

    What was set aside goes first, then the oldest of the segments; the last of them stays, and with `upto`
    those that have events above it. Raises OSError.
    """
    may = segments[:-1] if upto is None else ended(segments, upto)
    going = []
    for each in [*sorted(path.glob("*" + DAMAGED)), *may]:
        if over <= 0:
            break
        over -= segment.taken(each)
        going.append(each)
    return going, over


def ended(segments: Sequence[Path], upto: int) -> list[Path]:
    """Return the segments all of whose events are up to that one; never the last."""
    return [each for each, later in pairwise(segments) if segment.number(later) - 1 <= upto]


def numbers(
    segments: Sequence[Path], going: Sequence[Path], acked: int, end: int | None = None
) -> Evicted | None:
    """Return which events segments hold that are to go, ``None`` where there are none.

    `end` is the number behind the last event of all, needed where the last segment is to go as well.
    """
    gone = [each for each in segments if each in going]
    if not gone:
        return None
    starts = [*(segment.number(each) for each in segments[1:]), *([] if end is None else [end])][: len(gone)]
    holes = [(_end(each, start), start) for each, start in zip(gone, starts, strict=True)]
    missing = sum(start - end for end, start in holes)
    beyond = sum(max(0, start - max(end, acked + 1)) for end, start in holes)
    return Evicted(segment.number(gone[0]), starts[-1] - 1, acked, missing, beyond)


def _end(path: Path, following: int) -> int:
    """Return the number behind a segment's last event: `following`, unless it says otherwise."""
    try:
        return min(following, _marks(path).next)
    except segment.SegmentError:
        return following
