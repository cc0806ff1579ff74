"""The reference cloud as one object: storage, conversations, settlement and enrolment. Transports are put in front."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hubd.errors import AccessError, Retry, SyncError
from hubd.runtime import Runtime
from sync.carried import Header
from sync.cloud.carried import Import
from sync.cloud.keys import CloudKeys, hub_id_of, signature_holds
from sync.cloud.ledger import SETTLE
from sync.cloud.replacing import replace_line
from sync.cloud.service import CloudService
from sync.cloud.settlement import ForwardedPayment, SettlementSource, SettlementVerdict
from sync.cloud.storage import DONE, CloudRunner, CloudStorage, CodeRow, EffectRow, HubRow
from sync.cloud.topics import topic_of
from sync.codec import Limits

log = logging.getLogger(__name__)

ENROL_DOMAIN = b"hubd.enrol.v1\0"
RENEW_DOMAIN = b"hubd.renew.v1\0"
EFFECTS_A_TURN = 100
INTERPRETED_A_TURN = 400
"""Entries of a backlog that are interpreted in one go."""
INTERPRETED_BESIDE = 200
"""The same while a backlog is coming: it waits for them."""
INTERPRETING_WAITS_MAX_S = 0.25
"""For so long interpretation makes way for what hubs send; then it has a turn all the same."""
QUIET_S = 0.05
"""When nothing has come for so long, a hub that drains has ended: it is not only its window that was full."""
CODE_LIFETIME_S = 24 * 3600
NONCE_MAX_BYTES = 64
REFUSALS = {
    "enrol.code": "The code is not known.",
    "enrol.spent": "The code has served as often as it may.",
    "enrol.expired": "The code is too old.",
}


def enrol_bytes(code: str, public_key: bytes, nonce: bytes) -> bytes:
    """What a hub signs to be enrolled: the code, its key and a nonce of its own."""
    raw = code.encode("utf-8")
    return ENROL_DOMAIN + bytes((len(raw),)) + raw + public_key + bytes((len(nonce),)) + nonce


def renew_bytes(hub: bytes, time_us: int, nonce: bytes) -> bytes:
    """What a hub signs to renew its broker credentials: by its key alone."""
    return RENEW_DOMAIN + hub + time_us.to_bytes(8, "big", signed=True) + bytes((len(nonce),)) + nonce


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a hub is told when it is enrolled."""

    hub: bytes
    tenant: str
    store: str
    locations: tuple[str, ...]
    root_key: bytes


def refused(code: str, detail: str, remedy: str = "") -> AccessError:
    """A request for enrolment or credentials that is not granted."""
    return AccessError(code, detail, remedy=remedy, retry=Retry.NEVER)


class ReferenceCloud:
    """One cloud, for any number of hubs."""

    def __init__(
        self,
        runner: CloudRunner,
        keys: CloudKeys,
        runtime: Runtime,
        settlement: SettlementSource,
        *,
        limits: Limits | None = None,
    ) -> None:
        self.keys = keys
        self._runner = runner
        self._runtime = runtime
        self._settlement = settlement
        self._settlement_answers = True
        self._settling = asyncio.Lock()
        self._pending = asyncio.Event()
        self._pending.set()  # an earlier run may have stored what it had no time to interpret
        self._receiving = 0
        self._backlog_goes_on = False
        """Whether more of a backlog has come since somebody last looked."""
        self._received = asyncio.Event()
        """Set with the end of each turn of receiving."""
        self._may_settle = True
        """Whether a payment may wait for its verdict: only what hubs send makes one wait."""
        self._topics: dict[bytes, str] = {}
        self.service = CloudService(
            keys,
            now_us=runtime.clock.now_us,
            monotonic=runtime.clock.monotonic,
            token_bytes=runtime.ids.token_bytes,
            new_id=runtime.ids.new_id,
            boot=runtime.boot,
            providers=lambda: {settlement.name: self._settlement_answers},
            limits=limits,
        )

    async def close(self) -> None:
        """Let go of the storage."""
        await self._runner.close()

    async def read(self, fn: Any) -> Any:
        """Look something up in the storage."""
        return await self._runner.run(fn)

    async def down_topic(self, hub: bytes) -> str:
        """The topic on which a hub listens; asked once for each hub."""
        topic = self._topics.get(hub)
        if topic is None:
            row = await self._runner.run(lambda storage: storage.hub(hub))
            assert row is not None, "frames go to enrolled hubs"
            topic = self._topics[hub] = topic_of(row.tenant, hub, "down")
        return topic

    # -- conversations -----------------------------------------------------------------------------------------------

    async def receive(self, frames: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Take frames of any hubs in one transaction; what comes back may be published, for it is committed."""
        self._receiving += 1
        before = self.service.upload.backlog_count
        try:
            return await self._turn(lambda storage: self.service.receive(storage, frames))
        finally:
            self._receiving -= 1
            self._backlog_goes_on = self._backlog_goes_on or self.service.upload.backlog_count > before
            self._received.set()

    async def _turn(self, work: Callable[[CloudStorage], list[tuple[bytes, bytes]]]) -> list[tuple[bytes, bytes]]:
        """Commit what one turn did to storage and conversations, and note what it has left to be done."""

        def look(storage: CloudStorage) -> tuple[list[tuple[bytes, bytes]], bool]:
            return work(storage), bool(storage.pending_hubs())

        try:
            answers, pending = await self._runner.run(look)
        except BaseException:
            # What the conversations remember was never committed: let the hubs say hello again.
            self.service.forget_conversations()
            self._pending.set()
            raise
        self._may_settle = True
        if pending:
            self._pending.set()
        return answers

    async def interpret(self, others_wait: Callable[[], bool]) -> list[tuple[bytes, bytes]]:
        """Wait until something is stored that is not interpreted yet, and interpret some of it.

        Returns what may be published. To be called again and again, beside `receive`, for which it makes way while
        `others_wait` tells that frames have come: a hub waits for its confirmation, and nobody for this.
        """
        await self._pending.wait()
        await self._make_way(others_wait)
        self._pending.clear()
        limit = INTERPRETED_BESIDE if self._receiving or self._backlog_goes_on else INTERPRETED_A_TURN
        return await self._turn(
            lambda storage: [
                (hub, out) for hub in storage.pending_hubs() for out in self.service.interpret(storage, hub, limit)
            ]
        )

    async def _make_way(self, others_wait: Callable[[], bool]) -> None:
        clock = self._runtime.clock
        until = clock.monotonic() + INTERPRETING_WAITS_MAX_S
        while (left_s := until - clock.monotonic()) > 0 and (self._backlog_goes_on or self._receiving or others_wait()):
            self._backlog_goes_on = False
            self._received.clear()
            try:
                async with clock.timeout(left_s if self._receiving or others_wait() else min(left_s, QUIET_S)):
                    await self._received.wait()
            except TimeoutError:
                continue

    async def settle(self) -> list[tuple[bytes, bytes]]:
        """Ask the settlement source about forwarded payments and write its verdicts down, each once."""
        async with self._settling:
            if not self._may_settle:
                return []
            self._may_settle = False  # what is received from here on sets it again
            try:
                return await self._settle_once()
            except BaseException:
                self._may_settle = True
                raise

    async def _settle_once(self) -> list[tuple[bytes, bytes]]:
        todo = await self._runner.run(_to_settle)
        self._may_settle = self._may_settle or bool(todo)
        answers: list[tuple[EffectRow, SettlementVerdict]] = []
        for effect, payment in todo:
            try:
                verdict = await self._settlement.verdict(payment)
            except OSError as exc:
                self._settlement_answers = False
                log.warning("cloud.settlement_silent", extra={"reason": type(exc).__name__})
                break
            self._settlement_answers = True
            if verdict is not None:
                answers.append((effect, verdict))
        if not answers:
            return []
        return await self._runner.run(lambda storage: self._record(storage, answers))

    def _record(
        self, storage: CloudStorage, answers: Sequence[tuple[EffectRow, SettlementVerdict]]
    ) -> list[tuple[bytes, bytes]]:
        outages: dict[tuple[bytes, str], None] = {}
        hubs: dict[bytes, None] = {}
        for effect, verdict in answers:
            present = storage.effect(effect.hub, effect.subject, SETTLE, effect.attempt)
            if present is None or present.state == DONE:
                continue
            storage.put_effect(EffectRow(effect.hub, effect.subject, SETTLE, effect.attempt, DONE, verdict.verdict))
            fields = {
                "payment": effect.subject,
                "attempt": effect.attempt,
                "verdict": verdict.verdict,
                "code": verdict.code,
            }
            self.service.down.append(storage, effect.hub, "payment.verdict", effect.subject, fields)
            outage = self.service.ledger.record_verdict(storage, effect.hub, effect.subject, verdict.verdict)
            outages[effect.hub, outage] = None
            hubs[effect.hub] = None
        for hub_id, outage in outages:
            hub = storage.hub(hub_id)
            if hub is not None and outage:
                self.service.statements.issue_if_due(storage, hub, outage)
        return [(hub_id, frame) for hub_id in hubs for frame in self.service.push(storage, hub_id)]

    async def say(self, hub: bytes, kind: str, subject: str, fields: dict[str, Any]) -> list[tuple[bytes, bytes]]:
        """Append an entry to the cloud's journal for a hub (a setting, a verdict by hand) and say so."""

        def work(storage: CloudStorage) -> list[tuple[bytes, bytes]]:
            self.service.down.append(storage, hub, kind, subject, fields)
            return [(hub, frame) for frame in self.service.push(storage, hub)]

        return await self._runner.run(work)

    async def replace_line(self, hub: bytes, line: bytes, successor: bytes) -> list[tuple[bytes, bytes]]:
        """A person says that `successor` sells in the place of `line`; the same again says nothing new.

        Raises `replace.unknown_line` for what is not a line of this hub.
        """

        def work(storage: CloudStorage) -> list[tuple[bytes, bytes]]:
            row = storage.hub(hub)
            if row is None:
                raise SyncError("replace.unknown_line", "The hub is not enrolled here.", remedy="Read the hubs.")
            now_us = self._runtime.clock.now_us()
            replace_line(storage, self.keys, self.service.down, row, line, successor, now_us)
            return [(hub, frame) for frame in self.service.push(storage, hub)]

        return await self._runner.run(work)

    def importing(self) -> Import:
        """Begin with a file of entries that was carried here."""
        return Import(self.service.upload)

    async def take_carried(self, into: Import, header: Header, frame: bytes) -> list[tuple[bytes, bytes]]:
        """Take one frame of a carried file; durable on return. See `Import.take` for what it raises."""

        def work(storage: CloudStorage) -> list[tuple[bytes, bytes]]:
            hub = into.take(storage, header, frame)
            return [(hub.hub, one) for one in self.service.push(storage, hub.hub)]

        answers = await self._runner.run(work)
        self._pending.set()  # a long run is stored first and interpreted right after
        return answers

    async def rotate_key(self, seed: bytes) -> list[tuple[bytes, bytes]]:
        """Sign with a new key from now on and tell every hub in its journal, still under the key that it knows."""
        self.keys.vouch_for(seed)

        def work(storage: CloudStorage) -> list[tuple[bytes, bytes]]:
            frames: list[tuple[bytes, bytes]] = []
            for hub in storage.hubs():
                if storage.down_head(hub) is not None:
                    self.service.down.introduce_new_keys(storage, hub)
                    frames += [(hub, frame) for frame in self.service.push(storage, hub)]
            return frames

        frames = await self._runner.run(work)
        self.keys.rotate()
        return frames

    async def set_backup_key(self, tenant: str, public_key: bytes) -> list[tuple[bytes, bytes]]:
        """Let the hubs of a tenant seal their backups for this key (X25519) too, from now on; told in their journals.

        The private half never comes here: it is the tenant's, for the day on which a recovery code is lost.
        """

        def work(storage: CloudStorage) -> list[tuple[bytes, bytes]]:
            frames: list[tuple[bytes, bytes]] = []
            if storage.backup_key(tenant) == public_key:
                return frames
            storage.put_backup_key(tenant, public_key)
            for hub in storage.hubs():
                row = storage.hub(hub)
                if row is not None and row.tenant == tenant and storage.down_head(hub) is not None:
                    self.service.down.introduce_backup_key(storage, hub)
                    frames += [(hub, frame) for frame in self.service.push(storage, hub)]
            return frames

        return await self._runner.run(work)

    # -- enrolment ---------------------------------------------------------------------------------------------------

    async def add_code(
        self, code: str, tenant: str, store: str, locations: Sequence[str] = (), *, uses: int = 1,
        lifetime_s: int = CODE_LIFETIME_S,
    ) -> None:  # fmt: skip
        """Let `code` bind `uses` hubs to a store, a group token if more than one; only its digest is kept.

        Uses and expiry are the storage's: a cloud that starts again does not fill a known code up.
        """
        expires_us = self._runtime.clock.now_us() + lifetime_s * 1_000_000
        row = CodeRow(tenant, store, tuple(locations))
        digest = hashlib.sha256(code.encode("utf-8")).digest()
        await self._runner.run(lambda storage: storage.add_code(digest, row, uses, expires_us))

    async def enrol(self, code: str, public_key: bytes, nonce: bytes, signature: bytes) -> Enrolled:
        """Bind a hub by a code. The same hub with the same code again gets the same answer; it may never have come."""
        if len(nonce) > NONCE_MAX_BYTES or len(code) > 255:
            raise refused("enrol.invalid", "The request is larger than an enrolment is.")
        if not signature_holds(public_key, signature, enrol_bytes(code, public_key, nonce)):
            raise refused("enrol.signature", "The request is not signed by the key that it names.")
        hub = hub_id_of(public_key)
        digest = hashlib.sha256(code.encode("utf-8")).digest()
        now_us = self._runtime.clock.now_us()

        def work(storage: CloudStorage) -> HubRow | str:
            known = storage.hub(hub)
            used = storage.effect(hub, digest.hex(), "enrol", 1)
            if known is not None and used is not None:
                return known
            row = storage.take_code(digest, now_us)
            if row is None:
                return storage.code_refusal(digest, now_us)
            bound = HubRow(hub, row.tenant, row.store, public_key, row.locations)
            if known is None or known.tenant != row.tenant:
                storage.put_hub(bound)
                self._topics.pop(hub, None)
            storage.put_effect(EffectRow(hub, digest.hex(), "enrol", 1, DONE, row.tenant))
            if storage.down_head(hub) is None:
                self.service.down.open_line(storage, hub, "new")
            made = storage.hub(hub)
            assert made is not None, "it was known or has just been put"
            return made

        row = await self._runner.run(work)
        if isinstance(row, str):
            raise refused(row, REFUSALS[row], "Ask for a new code.")
        return Enrolled(hub, row.tenant, row.store, row.locations, self.keys.root.public_key)

    async def check_renewal(self, hub: bytes, time_us: int, nonce: bytes, signature: bytes) -> HubRow:
        """Whether this hub itself asks for fresh credentials, now and for the first time with this nonce."""
        if len(nonce) > NONCE_MAX_BYTES or abs(time_us) >= 2**63:
            raise refused("renew.invalid", "The request is larger than a renewal is.")
        row = await self._runner.run(lambda storage: storage.hub(hub))
        if row is None or not signature_holds(row.public_key, signature, renew_bytes(hub, time_us, nonce)):
            raise refused("renew.signature", "The request is not signed by an enrolled hub.")
        now_us = self._runtime.clock.now_us()
        if not await self._runner.run(lambda storage: storage.note_renewal(hub, nonce, now_us)):
            raise refused("renew.replayed", "This request was made before.")
        return row

    async def statement(self, statement_id: str) -> dict[str, Any] | None:
        """The cloud's copy of a statement, as it was signed."""
        found = await self._runner.run(lambda storage: storage.statement(statement_id))
        return dict(json.loads(found[1])) if found else None


def _to_settle(storage: CloudStorage) -> list[tuple[EffectRow, ForwardedPayment]]:
    found = []
    for effect in storage.effects_to_do(EFFECTS_A_TURN):
        row = storage.payment(effect.hub, effect.subject, False)
        if effect.effect == SETTLE and row is not None:
            amount = row.amount + row.tip + row.rounding
            found.append((effect, ForwardedPayment(effect.hub, row.id, effect.attempt, amount, row.currency)))
    return found
