"""Keeps the conversation with the cloud: connects for ever, says hello, sends, applies, confirms.

The engine decides, this file carries out. Time, chance and the transport come in through the constructor, so the whole
of it runs in the simulation as it runs in a shop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct

import hubd
from hubd.cloud_ports import CloudLink, LinkAddress, LinkSession, Signer
from hubd.errors import HubError, StoreError, SyncError
from hubd.identity import key_id_of
from hubd.runtime import Runtime
from hubd.services import cloud_entries
from hubd.services.lines import LINE_BYTES, LineReason, open_new_line
from hubd.store import cursors, enrolment, journal, mirror
from hubd.store.cursors import Cursor
from hubd.store.cursors import Proof as StoredProof
from hubd.store.db import Database
from hubd.store.tx import Connection, Tx
from sync import engine as act
from sync import proofs
from sync.backoff import STABLE_AFTER_S, Backoff
from sync.codec import (
    NO_NONCE,
    NONCE_BYTES,
    Confirm,
    Documents,
    Entries,
    ForgottenWanted,
    HashIs,
    Hello,
    Limits,
    Message,
    Packed,
    Ping,
    Place,
    Pong,
    Proof,
    Range,
    Sealer,
)
from sync.engine import HubEngine
from sync.outgoing import Outgoing, Ready
from sync.receiver import Receiver
from sync.sender import Archive, Sender
from sync.trust import Trust

log = logging.getLogger(__name__)

PING_EVERY_S = 10.0
ANSWER_TIMEOUT_S = 25.0
"""A cloud that says nothing for so long, pings included, is gone: the connection is made anew."""
HELLO_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""A first hello is said again after each of these but the last, which ends the connection: where broker, hub and cloud
have all just come back, the first ones may find nobody who listens."""
KEYS_ROTATED = b"cloud.keys_rotated"
WITNESS_DIFFERS_MAX_US = 60_000_000
"""A cloud whose clock differs from ours by less than this confirms ours, the way of its message included."""
GONE_WITH_A_HELLO = ("sync.too_old", "sync.codec", "sync.too_large", "sync.not_the_cloud", "sync.rejected")
"""Problems of a connection. If they have not gone with it they are seen again on the next."""

CURSOR_RESTS = 9
"""After a move of the cursor the writer is left alone for so many times as long: it has a tenth of it in a drain."""
CURSOR_RESTS_MAX_S = 0.5

AddressSource = Callable[[], Awaitable[LinkAddress | None]]
"""Where the hub's topics are and with which credentials; None while it is not enrolled."""


class SyncStatus(Struct, frozen=True):
    """How the conversation stands, for the page, `hubctl sync` and health."""

    enrolled: bool
    connected: bool
    """Both hellos are exchanged on the connection that is open."""
    confirmed_seq: int
    head_seq: int
    last_error: str
    last_cloud_answer_monotonic: float | None
    last_confirm_monotonic: float | None
    uninterpreted_count: int
    """Our entries that an older cloud has stored and cannot interpret yet (S16)."""
    problems: tuple[tuple[str, str], ...]
    """(code, detail), oldest first; gone when the next connection works without them."""

    @property
    def unsent_count(self) -> int:
        """Entries that the cloud has not confirmed."""
        return self.head_seq - self.confirmed_seq


class CloudSync:
    """The hub's side of the conversation, for as long as `run` runs."""

    def __init__(
        self,
        db: Database,
        runtime: Runtime,
        signer: Signer,
        link: CloudLink,
        address: LinkAddress | AddressSource,
        *,
        archive: Archive | None = None,
        reach: Callable[[], Mapping[str, list[str]]] = dict,
        witness: Callable[[], None] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._clock = runtime.clock
        self._signer = signer
        self._link = link
        self._address = address
        self._reach = reach
        self._witness = witness
        self._limits = limits or Limits()
        self._sender = Sender(db, archive)
        self._receiver = Receiver(db)
        self._backoff = Backoff(runtime.rng)
        self._wake = asyncio.Event()
        self._connections = 0
        self._confirmed = 0
        self._enrolled = False
        self._transport: bool | None = None
        self._last_error = ""
        self._answered: float | None = None
        self._confirmed_at: float | None = None
        self._uninterpreted = 0
        self._providers: dict[str, bool] = {}
        self._problems: dict[str, str] = {}
        self._talk: Conversation | None = None

    @property
    def expected(self) -> bool:
        """Whether there is a cloud to talk to: False while the hub is not enrolled."""
        return self._enrolled

    @property
    def connected(self) -> bool | None:
        """Whether the broker has accepted the connection that is open; None before the first attempt ended."""
        return self._transport

    @property
    def last_cloud_answer_monotonic(self) -> float | None:
        """When the cloud application last said something with its signature on this run's connections."""
        return self._answered

    @property
    def providers(self) -> Mapping[str, bool]:
        """The payment providers behind the cloud, by name, as it last reported them."""
        return self._providers

    @property
    def status(self) -> SyncStatus:
        """How the conversation stands now; never waits."""
        return SyncStatus(
            enrolled=self._enrolled,
            connected=self._talk is not None and self._talk.engine.talking,
            confirmed_seq=self._confirmed,
            head_seq=self._db.head.seq,
            last_error=self._last_error,
            last_cloud_answer_monotonic=self._answered,
            last_confirm_monotonic=self._confirmed_at,
            uninterpreted_count=self._uninterpreted,
            problems=tuple(self._problems.items()),
        )

    def wake(self) -> None:
        """Service is back, or the hub was enrolled: try at once instead of waiting for the next attempt."""
        self._backoff.reset()
        self._wake.set()

    async def retry(self) -> int:
        """Apply dead letters and what an update has made readable, in order; returns how many were applied."""
        return await self._db.write("sync.retry", cloud_entries.retry)

    async def run(self) -> None:
        """Converse for ever; returns only by cancellation. What is lost with a connection is sent again."""
        self._confirmed = (await self._db.read("sync.cursor", _confirmed_cursor)).seq
        await self.retry()
        while True:
            address = await self._next_address()
            started = self._clock.monotonic()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._attempt(address), name="sync.connection")
            if self._clock.monotonic() - started >= STABLE_AFTER_S:
                self._backoff.reset()
            await self._pause(self._backoff.next_s())

    async def _next_address(self) -> LinkAddress:
        while True:
            address = self._address if isinstance(self._address, LinkAddress) else await self._address()
            self._enrolled = address is not None
            if address is not None:
                return address
            self._wake.clear()
            await self._wake.wait()

    async def _pause(self, seconds: float) -> None:
        if self._wake.is_set():
            self._wake.clear()
            return
        try:
            async with self._clock.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    def _failed(self, exc: Exception) -> None:
        text = f"{exc.code}: {exc.detail}" if isinstance(exc, HubError) else f"{type(exc).__name__}: {exc}"
        if isinstance(exc, SyncError):
            self.report(exc.code, exc.detail)
        if text != self._last_error:
            log.warning("sync.link_down", extra={"reason": text})
        self._last_error = text

    async def _attempt(self, address: LinkAddress) -> None:
        """One connection, in a task of its own: a task group that fails while it is cancelled drops the cancellation.

        Whoever waits for this task hears of the cancellation all the same.
        """
        try:
            await self._once(address)
        except (OSError, SyncError, StoreError, TimeoutError) as exc:
            self._failed(exc)
        finally:
            self._transport, self._talk = False, None

    async def _once(self, address: LinkAddress) -> None:
        """One connection from its start to its end; always raises."""
        self._connections += 1
        async with self._link.connect(address) as session:
            self._transport = True
            talk = Conversation(self, address, session, self._connections)
            self._talk = talk
            try:
                await talk.run()
            except BaseExceptionGroup as group:
                raise _first_of(group) from group

    # -- what a conversation tells us --------------------------------------------------------------------------------

    def heard(self, message: Message) -> None:
        """The cloud application has spoken, signed and on this connection."""
        self._answered = self._clock.monotonic()
        if isinstance(message, Hello):
            self._last_error = ""
            self._uninterpreted = message.uninterpreted
            for code in GONE_WITH_A_HELLO:
                self._problems.pop(code, None)
        if isinstance(message, Hello | Pong):
            self._providers = dict(message.providers)
            if self._witness is not None and abs(message.time_us - self._clock.now_us()) < WITNESS_DIFFERS_MAX_US:
                self._witness()  # further apart: one of the two is wrong, and ours is never corrected by the cloud
        if isinstance(message, Confirm):
            self._uninterpreted = message.uninterpreted

    def confirmed(self, seq: int) -> None:
        """The cursor has moved, durably."""
        self._confirmed = seq
        self._confirmed_at = self._clock.monotonic()
        self._problems.pop("sync.proof_mismatch", None)
        if seq >= self._db.head.seq:
            self._problems.pop("sync.cloud_restored", None)

    def lowered(self, seq: int) -> None:
        """The cloud has lost what lies beyond `seq`; it is being sent again."""
        self._confirmed = seq
        self.report("sync.cloud_restored", "The cloud has lost entries that it had confirmed; they are sent again.")

    def report(self, code: str, detail: str) -> None:
        """Keep a problem for health; logged once."""
        if self._problems.get(code) != detail:
            log.warning("sync.problem", extra={"problem": code, "detail": detail})
        self._problems[code] = detail


class Conversation:
    """One connection: its engine, and the tasks that carry out what it decides."""

    def __init__(self, owner: CloudSync, address: LinkAddress, session: LinkSession, connection: int) -> None:
        self._owner = owner
        self._db = owner._db
        self._clock = owner._clock
        self._signer = owner._signer
        self._runtime = owner._runtime
        self._address = address
        self._session = session
        self._connection = connection
        self._sealer = Sealer(address.topic("up"), key_id_of(owner._signer.public_key), owner._signer.sign)
        self._changed = asyncio.Event()
        self._moved = asyncio.Event()
        self._outgoing = Outgoing(self._db, owner._sender, self._changed)
        self._newest: Confirm | None = None
        self._trust = Trust(address.topic("down"))
        self._heard_at = owner._clock.monotonic()
        self.engine = HubEngine(b"", 0, b"")

    async def run(self) -> None:
        """Say hello and converse until the connection ends; always raises."""
        await self._first_hello()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hear(), name="sync.hear")
            group.create_task(self._outgoing.run(self.engine), name="sync.prepare")
            group.create_task(self._speak(), name="sync.speak")
            group.create_task(self._follow(), name="sync.follow")
            group.create_task(self._move_cursor(), name="sync.cursor")
            group.create_task(self._beat(), name="sync.beat")

    # -- hello -------------------------------------------------------------------------------------------------------

    async def _first_hello(self) -> None:
        nonce = self._runtime.ids.token_bytes(NONCE_BYTES)
        hello = await self._hello(nonce)
        confirmed = await self._db.read("sync.cursor", _confirmed_cursor)
        self.engine = HubEngine(nonce, confirmed.seq, hello.line, limits=self._owner._limits)
        await self._say(hello)

    async def _hello(self, nonce: bytes) -> Hello:
        def read(connection: Connection) -> tuple[Cursor, StoredProof | None]:
            return cursors.get(connection, cursors.APPLIED), cursors.latest_proof(connection)

        await self._know_keys()
        applied, proof = await self._db.read("sync.hello", read)
        head, confirmed = self._db.head, await self._db.read("sync.cursor", _confirmed_cursor)
        return Hello(
            nonce=nonce,
            connection=self._connection,
            line=head.line,
            head_seq=head.seq,
            head_hash=head.hash,
            limits=self._owner._limits,
            proof=Proof(proof.key_id, proof.line, proof.seq, proof.hash, proof.time_us, proof.signature)
            if proof
            else None,
            applied=Place(applied.line, applied.seq, applied.hash) if applied.seq else None,
            confirmed=Place(confirmed.line, confirmed.seq, confirmed.hash) if confirmed.seq else None,
            boot=self._runtime.boot,
            start=self._runtime.start_id,
            clock_trusted=self._clock.trusted(),
            time_us=self._clock.now_us(),
            versions={"hubd": hubd.__version__},
            reach={name: list(values) for name, values in self._owner._reach().items()},
        )

    async def _know_keys(self) -> None:
        """Believe what the journal knows by now."""

        def read(connection: Connection) -> tuple[bytes, dict[str, bytes]]:
            bound = enrolment.get(connection)
            return bound.root_key if bound else b"", enrolment.cloud_keys(connection)

        self._trust.know(*await self._db.read("sync.keys", read))

    # -- in ----------------------------------------------------------------------------------------------------------

    async def _hear(self) -> None:
        async for raw in self._session.messages():
            message = self._opened(raw)
            if message is None:
                continue
            self._owner.heard(message)
            self._heard_at = self._clock.monotonic()
            # What was just sent may have been read a moment before the writer heard that it is committed.
            written = max(self._db.head.seq, self.engine.sent_upto)
            if isinstance(message, Confirm) and message.upto_seq > written:
                self._owner.report("sync.proof_mismatch", proofs.NOT_OURS)
                continue
            for action in self.engine.hear(message, self._heard_at):
                await self._do(action)
            self._changed.set()
        raise ConnectionResetError("the connection to the broker ended")

    def _opened(self, raw: bytes) -> Message | None:
        """The message, if it is the cloud's and for this connection."""
        try:
            return self._trust.open(raw, self.engine.nonce, self.engine.peer_nonce)
        except SyncError as exc:
            self._owner.report(exc.code, exc.detail)
            return None

    # -- actions -----------------------------------------------------------------------------------------------------

    async def _do(self, action: act.Action) -> None:
        match action:
            case act.SayHello():
                await self._say(await self._hello(self.engine.nonce))
            case act.MoveCursor(confirm):
                self._newest = confirm
                self._moved.set()
            case act.LowerCursor(seq):
                await self._lower_cursor(seq)
            case act.OpenLine(reason, _):
                await self._open_line(reason)
            case act.AnswerHash(seq):
                await self._say(await self._hash_of(seq))
            case act.Apply(batch):
                await self._apply(batch)
            case act.SendDocuments(ids):
                await self._send_documents(ids)
            case act.FetchForgotten(span):
                await self._fetch_forgotten(span)
            case act.KeepForgotten(batch):
                await self._owner._receiver.keep_forgotten(batch)
            case act.GiveForgotten(wanted):
                for forgotten in await self._owner._receiver.forgotten_by_the_cloud(wanted):
                    await self._say(forgotten)
            case act.Say(message):
                await self._say(message)
            case act.EndSession(reason):
                raise ConnectionResetError(reason)
            case act.Report(code, detail):
                self._owner.report(code, detail)

    async def _apply(self, batch: Entries) -> None:
        """Apply and confirm; what this program cannot read stays unconfirmed and never stops what goes up (E15)."""
        try:
            answer = await self._owner._receiver.apply(batch, self.engine.repeated_upto)
        except SyncError as exc:
            self._owner.report(exc.code, exc.detail)
        else:
            if any(KEYS_ROTATED in entry.head for entry in batch.entries):
                await self._know_keys()  # what follows is signed by them
            await self._say(answer)

    async def _open_line(self, reason: str) -> None:
        """Open a new line on our present head, unless something else has opened one since (S2, S3, S11)."""
        line = self._runtime.ids.token_bytes(LINE_BYTES)
        why = LineReason.FORK if reason == "fork" else LineReason.STALE
        stale = self.engine.line

        def work(tx: Tx) -> bytes:
            if tx.head.line != stale:
                return tx.head.line
            return open_new_line(tx, self._signer, line, why).line

        opened = await self._db.write("sync.open_line", work)
        log.warning("sync.line_opened", extra={"reason": reason, "line": opened.hex()})
        self.engine.line_opened(opened)

    async def _hash_of(self, seq: int) -> HashIs:
        def read(connection: Connection) -> tuple[bytes, bytes]:
            return journal.line_at(connection, seq) or b"", journal.hash_at(connection, seq) or b""

        line, hash_ = await self._db.read("sync.hash_at", read)
        return HashIs(seq, line, hash_)

    async def _send_documents(self, ids: tuple[bytes, ...]) -> None:
        for group in await self._owner._sender.documents(ids, self.engine.batch_limits):
            await self._say(Documents(tuple(group)))

    async def _fetch_forgotten(self, span: Range) -> None:
        def here(connection: Connection) -> bool:
            # What a clone has forgotten may well be in our own chain; the cloud tells it to every start of this hub.
            ours = journal.hash_at(connection, span.upto_seq) == span.hash
            return ours or mirror.forgotten_range_complete(connection, span.line, span.from_seq, span.upto_seq)

        if not await self._db.read("sync.forgotten", here):
            await self._say(ForgottenWanted(span.line, span.from_seq, span.upto_seq))

    # -- out ---------------------------------------------------------------------------------------------------------

    async def _say(self, message: Message | Packed) -> None:
        to = self.engine.peer_nonce or NO_NONCE
        await self._session.send(self._sealer.seal(message, to))

    async def _follow(self) -> None:
        """Notice new entries."""
        seq = self._db.head.seq
        while True:
            seq = await self._db.moved_beyond(seq)
            self._changed.set()

    async def _speak(self) -> None:
        """Send batches for as long as there are entries and room; then wait for either."""
        while True:
            self._changed.clear()
            batch = self._outgoing.take(self.engine)
            if batch is not None:
                await self._send_batch(batch)
            else:
                await self._changed.wait()

    async def _send_batch(self, batch: Ready) -> None:
        self.engine.sent(batch.from_seq, batch.upto_seq, self._clock.monotonic())
        await self._say(batch.packed)

    async def _beat(self) -> None:
        """Ask the cloud application now and then, notice its silence, and send again what it did not confirm."""
        await self._greet()
        count = 0
        while True:
            await self._clock.sleep(PING_EVERY_S)
            now = self._clock.monotonic()
            if now - self._heard_at > ANSWER_TIMEOUT_S:
                raise TimeoutError("the cloud application does not answer")
            count += 1
            await self._say(Ping(count))
            if self.engine.tick(now):
                self._changed.set()

    async def _greet(self) -> None:
        """Wait until both hellos are exchanged, saying ours again meanwhile."""
        for wait_s in HELLO_WAITS_S:
            await self._clock.sleep(wait_s)
            if self.engine.talking:
                return
            if wait_s < HELLO_WAITS_S[-1]:
                await self._say(await self._hello(self.engine.nonce))
        raise TimeoutError("the cloud application does not answer")

    # -- the confirmed cursor ----------------------------------------------------------------------------------------

    async def _move_cursor(self) -> None:
        """Make the newest confirmation durable. Confirmations are cumulative, so those between may be left out."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            confirm, self._newest = self._newest, None
            if confirm is not None:
                begun = self._clock.monotonic()
                await self._move_to(confirm)
                await self._rest(CURSOR_RESTS * (self._clock.monotonic() - begun))

    async def _rest(self, seconds: float) -> None:
        """Leave the writer to the tills for a while; no longer than until everything that was sent is confirmed."""
        until = self._clock.monotonic() + min(seconds, CURSOR_RESTS_MAX_S)
        while (left_s := until - self._clock.monotonic()) > 0 and not self._all_confirmed():
            self._moved.clear()
            try:
                async with self._clock.timeout(left_s):
                    await self._moved.wait()
            except TimeoutError:
                break
        if self._newest is not None:
            self._moved.set()

    def _all_confirmed(self) -> bool:
        return self._newest is not None and self._newest.upto_seq >= self.engine.sent_upto

    async def _move_to(self, confirm: Confirm) -> None:
        """S6: nothing but a proof that holds moves the cursor."""
        tenant, hub = self._address.tenant, self._signer.hub_id
        wrong = await self._db.read("sync.check", lambda c: proofs.flaw(c, confirm, tenant, hub, self._trust.keys))
        if wrong:
            self._owner.report("sync.proof_mismatch", wrong)
            proven = (await self._db.read("sync.cursor", _confirmed_cursor)).seq
            self.engine.distrust(proven, self._clock.monotonic())
            return
        await self._db.write("sync.confirm", lambda tx: proofs.keep(tx, confirm, self._clock.now_us()))
        self._owner.confirmed(confirm.upto_seq)

    async def _lower_cursor(self, seq: int) -> None:
        """The cloud holds less than it has proven (S7): what it lost counts as unconfirmed until it is proven again."""

        def work(tx: Tx) -> None:
            line, hash_ = journal.line_at(tx.connection, seq), journal.hash_at(tx.connection, seq)
            lower = Cursor(line or b"", seq, hash_ or bytes(32), self._clock.now_us())
            if seq < _confirmed_cursor(tx.connection).seq:
                cursors.put(tx, cursors.CONFIRMED, lower)

        self._newest = None
        await self._db.write("sync.lower_cursor", work)
        self._owner.lowered(seq)


def _confirmed_cursor(connection: Connection) -> Cursor:
    return cursors.get(connection, cursors.CONFIRMED)


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended a conversation: one that we handle if any, else the first, so that nothing is hidden."""
    leaves: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        exc = waiting.pop(0)
        waiting.extend(exc.exceptions) if isinstance(exc, BaseExceptionGroup) else leaves.append(exc)
    for exc in leaves:
        if not isinstance(exc, OSError | SyncError | StoreError | TimeoutError):
            return exc
    return leaves[0]
