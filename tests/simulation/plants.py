"""Bugs that the simulation must find. Each is made for one run by replacing one step of the real program with a wrong
one; outside the `with` the program is as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from hubd.model.payment import Payment
from hubd.ports import AuthorizeRequest, Outcome, Unknown
from hubd.services.dialogue import Dialogues
from hubd.services.outcomes import record_started
from hubd.services.terminals import Attached
from hubd.store import cursors
from hubd.store.cursors import Cursor
from hubd.store.db import Database, _run_together, _Work
from hubd.store.tx import Tx
from sync.cloud.hashing import CloudEntry
from sync.cloud.service import Session, _Turn
from sync.cloud.storage import CloudStorage, HubRow
from sync.cloud.store import InlineRunner, SqliteCloudStorage
from sync.cloud.upload import Taken, Upload, _Run
from sync.link_worker import Conversation
from sync.outgoing import Ready


@contextmanager
def confirm_before_commit() -> Iterator[None]:
    """The cloud answers first and commits with its next piece of work."""

    async def run(self: InlineRunner, fn: Callable[[CloudStorage], Any]) -> Any:
        connection = self._connection
        if connection.in_transaction:
            connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")
        return fn(SqliteCloudStorage(connection))

    with patch.object(InlineRunner, "run", run):
        yield


@contextmanager
def retry_after_unknown() -> Iterator[None]:
    """A lost answer is answered by sending the authorisation again."""
    right = Dialogues._authorize

    async def authorize(self: Dialogues, attached: Attached, payment: Payment) -> Outcome | None:
        outcome = await right(self, attached, payment)
        if isinstance(outcome, Unknown):
            await self._runtime.clock.sleep(5.0)
            request = AuthorizeRequest(payment.id, payment.money)
            outcome = await attached.terminal.authorize(request, lambda _: None)
        return outcome

    with patch.object(Dialogues, "_authorize", authorize):
        yield


@contextmanager
def cursor_on_puback() -> Iterator[None]:
    """The cursor moves when the transport has taken a batch."""
    right = Conversation._send_batch

    async def send_batch(self: Conversation, batch: Ready) -> None:
        await right(self, batch)
        cursor = Cursor(batch.line, batch.upto_seq, batch.upto_hash, self._clock.now_us())
        await self._db.write("sync.confirm", lambda tx: cursors.put(tx, cursors.CONFIRMED, cursor))
        self._owner.confirmed(batch.upto_seq)

    with patch.object(Conversation, "_send_batch", send_batch):
        yield


@contextmanager
def duplicates_by_seq() -> Iterator[None]:
    """The cloud takes an entry for a duplicate when it has one with the same line and seq."""
    right = Upload._take_entry

    def take_entry(self: Upload, storage: CloudStorage, hub: HubRow, entry: CloudEntry, run: _Run) -> None:
        row = run.rows.get(entry.line) or storage.line(hub.hub, entry.line)
        if row is None or entry.seq > row.head_seq:
            right(self, storage, hub, entry, run)

    with patch.object(Upload, "_take_entry", take_entry):
        yield


@contextmanager
def charge_before_intent() -> Iterator[None]:
    """The authorisation leaves first, and `payment.started` is written with its verdict."""

    async def authorize(self: Dialogues, attached: Attached, payment: Payment) -> Outcome | None:
        await self._ask_about_earlier(attached)
        baseline = await attached.terminal.baseline()
        request = AuthorizeRequest(payment.id, payment.money)
        outcome = await attached.terminal.authorize(request, lambda _: None)
        await self._db.write("payment.started", lambda tx: record_started(tx, payment.id, baseline))
        return outcome

    with patch.object(Dialogues, "_authorize", authorize):
        yield


@contextmanager
def answer_before_commit() -> Iterator[None]:
    """Callers hear that their work is done before the commit."""
    right = Database._commit_group

    async def commit_group(self: Database, group: list[_Work]) -> None:
        assert self._thread is not None, "the writer runs"
        head, clock, boot = self.head, self._runtime.clock, self._runtime.boot

        def rehearse(connection: Any) -> Any:
            tx = Tx(connection, head, clock, boot)
            failed = _run_together(tx, group)
            found = [work.result for work in group] if failed is None else None
            tx.rollback(head)
            return found

        results = await self._thread.run(rehearse)
        if results is not None:
            for work, result in zip(group, results, strict=True):
                work.result = result
                work.answer()
        await right(self, group)

    with patch.object(Database, "_commit_group", commit_group):
        yield


@contextmanager
def confirm_what_was_lost() -> Iterator[None]:
    """The cloud confirms up to the head of a line, also when it has grown by entries that the hub has lost."""
    right = _Turn._confirm

    def confirm(self: _Turn, session: Session, taken: Taken) -> None:
        session.holds = taken.head
        right(self, session, taken)

    with patch.object(_Turn, "_confirm", confirm):
        yield


PLANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    plant.__name__.replace("_", "-"): plant
    for plant in (
        confirm_before_commit,
        retry_after_unknown,
        cursor_on_puback,
        duplicates_by_seq,
        charge_before_intent,
        answer_before_commit,
        confirm_what_was_lost,
    )
}
