"""Sending what terminals have stored, once service is back: one flusher for each terminal, shortest deadline first.

A flush is not an approval. `forwarded` is the terminal's word that its host has the transactions; the verdicts come
from the cloud (design 7).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from hubd.errors import DeviceError, StoreError
from hubd.model.entry import Draft
from hubd.model.payment import (
    CONTRADICTS_DECISION,
    Custody,
    CustodyEvent,
    Payment,
    PaymentEvent,
    contradicts_decision,
)
from hubd.ports import FlushResult
from hubd.runtime import Runtime
from hubd.services.jobs import Jobs
from hubd.services.taking import mode_flags, settle_order
from hubd.services.terminals import READY, Attached, Terminals
from hubd.store import journal, outages, payments
from hubd.store.db import Database
from hubd.store.tx import Tx

log = logging.getLogger(__name__)

FLUSH_RETRY_S = 30.0
"""Pause between tries while a terminal still holds payments and service is there; its return ends the pause."""
FLUSH_PAUSE_MIN_S = 5.0
"""Shortest pause after a try that has failed: a terminal that breaks down over it and returns is not worn out."""


class Flusher:
    """Tells each terminal that holds payments to send them, for as long as `service_is_back()`."""

    def __init__(
        self, db: Database, runtime: Runtime, terminals: Terminals, jobs: Jobs, service_is_back: Callable[[], bool]
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._terminals = terminals
        self._jobs = jobs
        self._service_is_back = service_is_back
        self._pauses: dict[str, asyncio.Event] = {}
        """For each terminal that a flush is for: set when trying again makes sense before the pause is over."""
        self._ready: dict[str, bool] = {}
        terminals.watch(self._terminal_moved)

    async def resume(self) -> None:
        """After a start: a flush that was running did not end, so its payments are held again."""
        forwarding = await self._db.read("flush.forwarding", lambda c: payments.in_custody(c, Custody.FORWARDING))
        if forwarding:
            await self._move(forwarding, CustodyEvent.REQUEUED, "hub_restarted")

    async def service_back(self) -> None:
        """No flush waits any longer for its next try; one starts wherever something is held."""
        for pause in self._pauses.values():
            pause.set()
        await self.wake()

    def _terminal_moved(self, terminal_id: str) -> None:
        status = self._terminals.status(terminal_id)
        ready = status is not None and status.state in READY
        if ready and not self._ready.get(terminal_id) and terminal_id in self._pauses:
            self._pauses[terminal_id].set()
        self._ready[terminal_id] = ready

    async def wake(self) -> None:
        """A terminal is back, or holds something new: start a flush wherever something is held."""
        held = await self._db.read("flush.held", lambda c: payments.in_custody(c, Custody.HELD))
        order: dict[str, None] = dict.fromkeys(payment.terminal for payment in held if payment.terminal)
        for terminal_id in order:
            self._jobs.start(f"flush:{terminal_id}", self._flush(terminal_id))

    async def _flush(self, terminal_id: str) -> None:
        pause = self._pauses[terminal_id] = asyncio.Event()
        while self._service_is_back():
            pause.clear()  # before the look, so that a return during it is not missed
            held = await self._held_by(terminal_id)
            if not held:
                return
            attached = self._terminals.get(terminal_id)
            if attached is not None and attached.terminal.status.state in READY:
                async with attached.lock:
                    await self._flush_once(attached, await self._held_by(terminal_id))
                if not await self._held_by(terminal_id):
                    return
                await self._runtime.clock.sleep(FLUSH_PAUSE_MIN_S)
            await self._paused(pause)

    async def _paused(self, pause: asyncio.Event) -> None:
        try:
            async with self._runtime.clock.timeout(FLUSH_RETRY_S):
                await pause.wait()
        except TimeoutError:
            pass

    async def _held_by(self, terminal_id: str) -> list[Payment]:
        held = await self._db.read("flush.held", lambda c: payments.in_custody(c, Custody.HELD))
        return [payment for payment in held if payment.terminal == terminal_id]

    async def _flush_once(self, attached: Attached, held: list[Payment]) -> None:
        if not held:
            return
        try:
            await self._move(held, CustodyEvent.FORWARDING, "")
        except StoreError as exc:
            log.warning("flush.waits_for_disk", extra={"device_id": attached.id, "code": exc.code})
            return
        try:
            result = await attached.terminal.send_offline()
        except DeviceError as exc:
            result = FlushResult(complete=False, reason=exc.code)
        sent = [payment for payment in held if _was_sent(payment, result)]
        kept = [payment for payment in held if not _was_sent(payment, result)]
        while True:
            try:
                await self._move(sent, CustodyEvent.FORWARDED, "")
                await self._move(kept, CustodyEvent.REQUEUED, result.reason)
            except StoreError as exc:
                if exc.code == "store.closed":
                    raise
                log.warning("flush.outcome_waits_for_disk", extra={"device_id": attached.id, "code": exc.code})
                await self._runtime.clock.sleep(1.0)
            else:
                return

    async def _move(self, moved: list[Payment], event: CustodyEvent, reason: str) -> None:
        """Append one custody step for each, in one transaction; one that has moved on meanwhile is left alone."""
        if not moved:
            return

        def work(tx: Tx) -> None:
            before = Custody.FORWARDING if event is not CustodyEvent.FORWARDING else Custody.HELD
            for payment in moved:
                now = payments.get(tx.connection, payment.id)
                if now is None or now.custody is not before:
                    continue
                custody = {
                    CustodyEvent.FORWARDING: Custody.FORWARDING,
                    CustodyEvent.FORWARDED: Custody.FORWARDED,
                    CustodyEvent.REQUEUED: Custody.HELD,
                }[event]
                more: dict[str, str | None] = {"custody": custody.value, "reason": reason}
                if now.outage is None and (found := outages.covering(tx.connection, now.updated_at_us)):
                    # The terminal noticed the outage before the hub did: the payment belongs to its statement.
                    more["outage"] = found.id
                body = now.entry_body(**more)
                flags = mode_flags(now.mode)
                journal.append(tx, Draft(f"payment.{event}", now.id, "hub", body, flags=flags))
                if contradicts_decision(now.decision, event):
                    body |= {"reason": CONTRADICTS_DECISION, "verdict": event.value}
                    journal.append(tx, Draft(f"payment.{PaymentEvent.CONFLICTED}", now.id, "hub", body, flags=flags))
                    if now.order_id is not None:
                        settle_order(tx, now.order_id, "hub")

        await self._db.write("flush.move", work)


def _was_sent(payment: Payment, result: FlushResult) -> bool:
    if not result.forwarded:
        return result.complete and not result.remaining
    return str(payment.evidence.get("receipt_number", "")) in result.forwarded
