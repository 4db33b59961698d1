"""What the relay wants run here, carried out: fetched, offered to `agentd`, and reported back.

The rules of the relay's wishes: the newest revision wins; a name it no longer lists is withdrawn, but only
in its own name; each wish ends as active, refused or removed, and until then it is tried again.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from edgeflow_agent.core.bell import Bell
from edgeflow_agent.core.errors import told
from edgeflow_agent.core.messages import Offer, Offered, PipelineStatus, Withdraw
from edgeflow_agent.uplink.memory import Memory, Outcome
from edgeflow_agent.uplink.patience import Patience
from edgeflow_agent.uplink.ports import BlobError, Lost, Stream
from edgeflow_proto.bundle import Manifest, decode_manifest, sha256
from edgeflow_proto.v1.relay_pb2 import Desired, DesiredState

log = logging.getLogger("edgeflow.deploy")
RETRY_S = (1.0, 60.0)
FOR_GOOD = (errno.EFBIG, errno.EISDIR)  # too large for this device; a file and a folder of one name


class Stager(Protocol):
    """Brings a bundle onto the device."""

    async def stage(self, manifest: bytes, files: Manifest, source: Stream) -> Path:
        """Return a folder with the bundle, fetching what is missing.

        Raises Lost and BlobError as the stream does, ValueError when what came is not what was asked for,
        OSError when the disk refuses; of some numbers (`FOR_GOOD`) no other try would fare better.
        """

    def prune(self, keep: set[str]) -> None:
        """Drop fetched blobs but those of the digests in `keep`."""


class Wishes:
    """Keeps the device at what the relay wants. `tell` sends to `agentd`, False when it could not."""

    def __init__(self, memory: Memory, stager: Stager, tell: Callable[[Offer | Withdraw], bool]) -> None:
        self._memory = memory
        self._stager = stager
        self._tell = tell
        self._desired: DesiredState | None = None
        self._pipelines: Mapping[str, PipelineStatus] | None = None
        self._offered: dict[str, str] = {}  # name → digest that `agentd` has to answer for
        self._accepted: dict[str, str] = {}  # name → digest that it said is active; its list follows later
        self._coming: tuple[Desired, asyncio.Future[Path]] | None = None  # the bundle that is being fetched
        self._heard = True  # something since the last look
        self._patience = Patience()
        self._wished, self._todo = Bell(), Bell()
        self.changed = Bell()  # an outcome is new

    @property
    def outcomes(self) -> Mapping[str, Outcome]:
        """The newest outcome per name."""
        return self._memory.outcomes

    @property
    def _revision(self) -> int:
        """The revision of the newest wish."""
        return self._desired.revision if self._desired is not None else 0

    # what is heard

    def desire(self, state: DesiredState) -> None:
        """Take the relay's whole wish; one older than what was carried out is not followed."""
        if state.revision < self._memory.revision:
            log.error("wish %d is older than %d: not followed", state.revision, self._memory.revision)
            reason = f"revision {state.revision} is older than {self._memory.revision}, which was carried out"
            for wish in state.pipelines:
                self._note(wish, "refused", reason, state.revision)
            return
        self._desired = state
        self._patience.keep({wish.digest for wish in state.pipelines})
        self._wished.ring()
        self._look()

    def pipelines(self, pipelines: Mapping[str, PipelineStatus]) -> None:
        """Take what `agentd` runs."""
        self._pipelines = pipelines
        self._look()

    def _look(self) -> None:
        self._heard = True
        self._todo.ring()
        if self._coming is not None and self._desired is not None:
            self._overtake(self._desired, *self._coming)

    def _overtake(self, desired: DesiredState, coming: Desired, work: asyncio.Future[Path]) -> None:
        """Do what does not wait for the bundle that is coming, which may take hours."""
        self._withdraw(desired)
        if not any((wish.name, wish.digest) == (coming.name, coming.digest) for wish in desired.pipelines):
            work.cancel()

    def answered(self, answer: Offered) -> None:
        """Take what became of an offer or a withdrawal of the relay's."""
        if answer.origin != "relay":
            return
        digest = self._offered.pop(answer.name, answer.digest)
        self._put(Outcome(answer.name, digest, answer.state, answer.reason, answer.revision))
        if answer.state == "active":
            self._accepted[answer.name] = digest
        else:
            self._accepted.pop(answer.name, None)
        self._look()

    # what is done

    async def run(self, stream: Stream) -> None:
        """Carry out wishes while the connection lasts; raises Lost."""
        delay, most = RETRY_S
        while True:
            self._heard = False
            if (
                self._desired is None
                or self._pipelines is None
                or await self._carry_out(self._desired, stream)
            ):
                delay = RETRY_S[0]
                if not self._heard:
                    await self._todo.wait()
            else:
                await self._wished.wait(delay)
                delay = min(most, delay * 2)

    async def _carry_out(self, desired: DesiredState, stream: Stream) -> bool:
        """Work towards a wish; False when something has to be tried again."""
        self._withdraw(desired)
        done = True
        for wish in desired.pipelines:
            if desired is not self._desired:
                return True  # a newer one came
            if not self._settled(wish, desired.revision) and wish.name not in self._offered:
                done &= await self._deploy(wish, desired.revision, stream)
        if desired is not self._desired:
            return True
        if done and all(self._settled(wish, desired.revision) for wish in desired.pipelines):
            self._finish(desired)
        return done

    def _settled(self, wish: Desired, revision: int) -> bool:
        known = (self._pipelines or {}).get(wish.name)
        outcome = self.outcomes.get(wish.name)
        refused = Outcome(wish.name, wish.digest, "refused", outcome.reason if outcome else "", revision)
        if outcome == refused:
            return True
        runs = known is not None and (known.origin, known.digest) == ("relay", wish.digest)
        if runs or self._accepted.get(wish.name) == wish.digest:
            said = outcome is not None and (outcome.state, outcome.digest) == ("active", wish.digest)
            self._note(wish, "active", outcome.reason if outcome and said else "", revision)
            return True
        return False

    def _withdraw(self, desired: DesiredState) -> None:
        wanted = {wish.name for wish in desired.pipelines}
        for name, known in (self._pipelines or {}).items():
            if known.origin != "relay" or name in wanted or name in self._offered:
                continue
            outcome = self.outcomes.get(name)
            told = outcome is not None and (outcome.state, outcome.revision) == ("removed", desired.revision)
            if not told and self._tell(Withdraw(name, "relay", desired.revision)):
                self._offered[name] = known.digest

    async def _deploy(self, wish: Desired, revision: int, stream: Stream) -> bool:
        try:
            manifest = _checked(wish)
        except ValueError as error:
            self._note(wish, "refused", str(error), revision)
            return True
        if self._patience.waits(wish.digest, revision):
            return False
        self._note(wish, "fetching", "", revision)
        try:
            staging = await self._staged(wish, manifest, stream)
        except Lost:
            raise
        except (OSError, ValueError, BlobError) as error:
            return self._failed(wish, error)
        return staging is None or await self._offer(wish, staging)

    async def _staged(self, wish: Desired, manifest: Manifest, stream: Stream) -> Path | None:
        """Return where a bundle lies once it has come, ``None`` when it was no longer wanted before that."""
        work = asyncio.ensure_future(self._stager.stage(wish.manifest, manifest, stream))
        self._coming = wish, work
        try:
            await asyncio.wait({work})
        finally:
            self._coming = None
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        return None if work.cancelled() else work.result()

    def _failed(self, wish: Desired, error: Exception) -> bool:
        """Note why a bundle did not come; True when it never will."""
        if isinstance(error, OSError) and error.errno in FOR_GOOD:
            self._note(wish, "refused", told(error), self._revision)
            return True
        words = f"{told(error)}; it is tried again"
        if isinstance(error, ValueError):
            words += f" in {self._patience.spoiled(wish.digest, self._revision) / 60:.0f} min"
        log.warning("%s: %s", wish.name, words, extra={"pipeline": wish.name})
        self._note(wish, "fetching", words, self._revision)
        return False

    async def _offer(self, wish: Desired, staging: Path) -> bool:
        self._note(wish, "verified", "", self._revision)
        if self._tell(Offer(wish.name, "relay", str(staging), self._revision)):
            self._offered[wish.name] = wish.digest
            return True
        await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)
        return False

    def _finish(self, desired: DesiredState) -> None:
        names = {wish.name for wish in desired.pipelines}
        outcomes = {
            name: outcome
            for name, outcome in self.outcomes.items()
            if name in names or outcome.revision == desired.revision
        }
        if (self._memory.revision, self._memory.outcomes) != (desired.revision, outcomes):
            self._memory.keep(desired.revision, outcomes)
            self._stager.prune(set())
            log.info("the relay's wish %d is carried out", desired.revision)

    # outcomes

    def _note(self, wish: Desired, state: str, reason: str, revision: int) -> None:
        self._put(Outcome(wish.name, wish.digest, state, reason, revision))

    def _put(self, outcome: Outcome) -> None:
        if self.outcomes.get(outcome.name) != outcome:
            self._memory.keep(self._memory.revision, {**self.outcomes, outcome.name: outcome})
            self.changed.ring()


def _checked(wish: Desired) -> Manifest:
    """Return the manifest of a wish; raises ValueError when it is not what the digest names."""
    if sha256(wish.manifest) != wish.digest:
        raise ValueError("the manifest does not have the digest it was sent with")
    manifest = decode_manifest(wish.manifest)
    if manifest.name != wish.name:
        raise ValueError(f"the bundle is of a pipeline named {manifest.name!r}, not {wish.name!r}")
    return manifest
