"""The other side of the conversation: an executable definition (docs/reference/sync.asyncapi.yaml).

`CloudService.receive` runs inside a storage transaction and returns what to publish once that is committed. What it
keeps in memory are conversations; when it forgets them, the hubs say hello again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hubd.errors import SyncError
from sync.cloud.down import DownJournal
from sync.cloud.hashing import GENESIS, CloudEntry, NotAnEntry, read_entry
from sync.cloud.keys import CloudKeys, signature_holds
from sync.cloud.ledger import SETTLE, Ledger
from sync.cloud.replacing import is_replaced
from sync.cloud.statements import Statements
from sync.cloud.storage import DONE, FORGOTTEN, CloudStorage, EffectRow, HubRow
from sync.cloud.topics import topic_of
from sync.cloud.upload import Gap, Taken, Unreadable, Upload
from sync.codec import (
    BATCH_SMALL_BYTES,
    DOCUMENTS_WANTED_MAX,
    ENTRY_OVERHEAD_BYTES,
    NO_NONCE,
    NONCE_BYTES,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Again,
    Confirm,
    DocConfirm,
    Documents,
    Entries,
    Expect,
    Forgotten,
    ForgottenWanted,
    Frame,
    HashAt,
    HashIs,
    Hello,
    Limits,
    Message,
    Ping,
    Place,
    Pong,
    Proof,
    Refused,
    Sealer,
    Stale,
    WireEntry,
    common_protocol,
    decode,
    encode,
    open_frame,
    proof_bytes,
)

SESSIONS_MAX = 8
"""Conversations kept for one hub; the oldest is forgotten and says hello again."""
PARKED_MAX = 32
DOWN_AHEAD_MAX = 400
"""Entries of the cloud's journal that may be on their way to a hub unconfirmed."""
DOWN_RESEND_S = 10.0


@dataclass(slots=True)
class Bisection:
    """The search for the last entry that hub and cloud have in common: known at `low`, unknown at `high` (S3)."""

    low: int
    high: int
    asked: int
    high_line: bytes
    guessing: bool = True


@dataclass(slots=True)
class Session:
    """One conversation with one start of a hub."""

    hub_nonce: bytes
    cloud_nonce: bytes
    start: str
    connection: int
    line: bytes
    limits: Limits = field(default_factory=Limits)
    holds: Place | None = None
    """The furthest place that this very hub has shown to hold, by its hash: in its hello, or by sending it."""
    parked: dict[bytes, None] = field(default_factory=dict)
    """What the batches that this conversation has sent too early join: those of another start are not its own."""
    established: bool = False
    stale: bool = False
    next_seq: int = 1
    expected: int | None = None
    bisection: Bisection | None = None
    down_sent: int = 0
    down_confirmed: int = 0
    down_moved_at: float = 0.0
    probe: int = 0
    rivals_alarmed: bool = False


class CloudService:
    """Receives frames of enrolled hubs and says what to publish. One at a time for each hub (S5)."""

    def __init__(
        self,
        keys: CloudKeys,
        *,
        now_us: Callable[[], int],
        monotonic: Callable[[], float],
        token_bytes: Callable[[int], bytes],
        new_id: Callable[[], str],
        boot: bytes,
        providers: Callable[[], dict[str, bool]] = dict,
        limits: Limits | None = None,
    ) -> None:
        self.keys = keys
        self.ledger = Ledger()
        self.down = DownJournal(keys, now_us, monotonic, token_bytes, boot)
        self.statements = Statements(keys, self.down, now_us, new_id)
        self._upload = Upload(self.ledger, self.statements, self.down)
        self._now_us = now_us
        self._monotonic = monotonic
        self._token_bytes = token_bytes
        self._providers = providers
        self._limits = limits or Limits()
        self._sessions: dict[bytes, dict[bytes, Session]] = {}
        self._probes = 0

    @property
    def upload(self) -> Upload:
        """Takes entries that came by another way than a conversation, under the same rules."""
        return self._upload

    def forget_conversations(self) -> None:
        """As after a restart of the process, or when a transaction failed that conversations rested on."""
        self._sessions.clear()

    def receive(self, storage: CloudStorage, frames: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Take (hub, frame) from topics `up`; returns those for topics `down`, to be sent after the commit.

        Batches that are committed together are confirmed together: a confirmation is cumulative, so of several in
        one conversation only the last is made.
        """
        turns = [turn for hub_id, raw in frames if (turn := self._hear(storage, hub_id, raw)) is not None]
        covered = dict[bytes, Place]()
        for turn in reversed(turns):
            turn.leave_out(covered)
        return [(turn.hub_id, frame) for turn in turns for frame in turn.frames()]

    def _hear(self, storage: CloudStorage, hub_id: bytes, raw: bytes) -> _Turn | None:
        hub = storage.hub(hub_id)
        if hub is None:
            return None
        turn = _Turn(self, storage, hub)
        try:
            frame = open_frame(raw)
        except SyncError as exc:
            storage.add_incident(hub_id, "unreadable", exc.code)
            return None
        if not frame.check(topic_of(hub.tenant, hub_id, "up"), hub.public_key, signature_holds):
            storage.add_incident(hub_id, "forged", "a frame without the hub's signature")
            return None
        session = self._sessions.get(hub_id, {}).get(frame.to)
        turn.hear(frame, session)
        return turn

    def interpret(self, storage: CloudStorage, hub_id: bytes, limit: int) -> list[bytes]:
        """Interpret up to `limit` entries of a hub that were only stored so far; returns what follows from them."""
        hub = storage.hub(hub_id)
        assert hub is not None, "entries come from an enrolled hub"
        self._upload.interpret(storage, hub, limit)
        return self.push(storage, hub_id)

    def push(self, storage: CloudStorage, hub_id: bytes) -> list[bytes]:
        """Send what the cloud's journal has gained to every conversation with this hub."""
        hub = storage.hub(hub_id)
        if hub is None:
            return []
        turn = _Turn(self, storage, hub)
        for session in list(self._sessions.get(hub_id, {}).values()):
            turn.push_down(session)
        return turn.frames()


class _Turn:
    """One frame of one hub, from hearing to what is said about it."""

    def __init__(self, service: CloudService, storage: CloudStorage, hub: HubRow) -> None:
        self._said: list[tuple[Session, Message | Place]] = []
        """In order; a place stands for the confirmation up to it."""
        self._service = service
        self._storage = storage
        self._hub = hub
        key = service.keys.current
        self._sealer = Sealer(topic_of(hub.tenant, hub.hub, "down"), key.key_id, key.sign)

    @property
    def hub_id(self) -> bytes:
        """Whose frame it is."""
        return self._hub.hub

    def frames(self) -> list[bytes]:
        """What is said, sealed."""
        messages = [(s, self._confirmation(said) if isinstance(said, Place) else said) for s, said in self._said]
        return [self._sealer.seal(message, session.hub_nonce) for session, message in messages]

    def leave_out(self, covered: dict[bytes, Place]) -> None:
        """Drop confirmations that a later one covers; `covered` has the furthest of each conversation, by nonce."""
        kept: list[tuple[Session, Message | Place]] = []
        for session, said in reversed(self._said):
            if isinstance(said, Place):
                later = covered.get(session.cloud_nonce)
                if later is not None and later.line == said.line and later.seq >= said.seq:
                    continue
                covered[session.cloud_nonce] = said
            kept.append((session, said))
        self._said = kept[::-1]

    def _say(self, session: Session, message: Message | Place) -> None:
        self._said.append((session, message))

    @property
    def _sessions(self) -> dict[bytes, Session]:
        return self._service._sessions.setdefault(self._hub.hub, {})

    def hear(self, frame: Frame, session: Session | None) -> None:
        """Dispatch one frame whose signature holds."""
        try:
            message = frame.message()
        except SyncError as exc:
            if session is not None:
                reason = "too_large" if exc.code == "sync.too_large" else "codec"
                self._say(session, Refused(session.next_seq, reason))
            return
        if isinstance(message, Hello):
            self._hello(message, frame.to, session)
        elif session is None or not session.established:
            # Not a conversation of ours (any more). The echo lets the hub tell an answer from an old recording.
            stranger = Session(NO_NONCE, NO_NONCE, "", 0, b"")
            self._say_to_all_of(stranger, frame.to)
        else:
            self._talk(session, message)

    def _say_to_all_of(self, stranger: Session, echo: bytes) -> None:
        self._say(stranger, Again(echo, self._service.keys.certificates()))

    # -- hello -------------------------------------------------------------------------------------------------------

    def _hello(self, hello: Hello, to: bytes, session: Session | None) -> None:
        if to == NO_NONCE:
            self._greet(hello)
        elif session is not None and not session.established and hello.nonce == session.hub_nonce:
            self._establish(session, hello)

    def _greet(self, hello: Hello) -> None:
        """Answer a first hello with our nonce; nothing of it counts before the hub has signed that."""
        sessions = self._sessions
        session = next((s for s in sessions.values() if s.hub_nonce == hello.nonce), None)
        if session is None:
            cloud_nonce = self._service._token_bytes(NONCE_BYTES)
            session = Session(hello.nonce, cloud_nonce, hello.start, hello.connection, hello.line, hello.limits)
            while len(sessions) >= SESSIONS_MAX:
                sessions.pop(next(iter(sessions)))
            sessions[cloud_nonce] = session
        self._say(session, self._own_hello(session, hello))

    def _own_hello(self, session: Session, hello: Hello) -> Hello:
        down = self._storage.down_head(self._hub.hub) or self._service.down.open_line(
            self._storage, self._hub.hub, "new"
        )
        row = self._storage.line(self._hub.hub, hello.line)
        return Hello(
            nonce=session.cloud_nonce,
            connection=hello.connection,
            line=down.line,
            head_seq=down.seq,
            head_hash=down.hash,
            limits=self._service._limits,
            applied=Place(row.line, row.head_seq, row.head_hash) if row else None,
            confirmed=self._storage.down_confirmed(self._hub.hub),
            time_us=self._service._now_us(),
            keys=self._service.keys.certificates(),
            forgotten=tuple(self._storage.forgotten(self._hub.hub)),
            uninterpreted=self._storage.uninterpreted_count(self._hub.hub),
            providers=self._service._providers(),
        )

    def _establish(self, session: Session, hello: Hello) -> None:
        """The hub has signed our nonce: from now on the conversation counts (S18)."""
        same = [s for s in self._sessions.values() if s.start == hello.start and s is not session and s.established]
        if any(other.connection >= hello.connection for other in same):
            return  # an older connection of the same start, delivered late
        common_protocol((PROTOCOL_MIN, PROTOCOL_MAX), hello.protocol)
        for other in same:
            del self._sessions[other.cloud_nonce]
        session.established = True
        session.line, session.limits = hello.line, hello.limits
        row = self._storage.line(self._hub.hub, hello.line)
        if row is not None and row.head_hash == hello.head_hash:
            session.holds = Place(row.line, row.head_seq, row.head_hash)
        session.next_seq = hello.confirmed.seq + 1 if hello.confirmed else 1
        self._probe_rivals(session)
        self._notice_restore(session, hello)
        self._compare_heads(session, hello)
        self._service.down.introduce_new_keys(self._storage, self._hub.hub)
        if hello.confirmed is not None and not self._storage.known(self._hub.hub, hello.confirmed.hash):
            # The hub would send only what follows; what we have lost before that we must ask for.
            self._ask_for(session, hello.confirmed.line, hello.confirmed.seq + 1)
        known = hello.applied is not None and self._storage.down_known(self._hub.hub, hello.applied.hash)
        confirmed = self._storage.down_confirmed(self._hub.hub)
        common = hello.applied if known else confirmed
        # A hub that was restored has applied less than it once confirmed: it gets the rest again (S10).
        session.down_sent = session.down_confirmed = common.seq if common and hello.applied else 0
        self.push_down(session)

    def _probe_rivals(self, session: Session) -> None:
        """Ask other starts of this hub whether they live; one that answers is a second device with its key (S11)."""
        if is_replaced(self._storage, self._hub.hub, session.line):
            return  # known to be a second device, and no longer one that sells
        for other in self._sessions.values():
            replaced = is_replaced(self._storage, self._hub.hub, other.line)
            if other.established and other.start != session.start and not replaced:
                self._service._probes += 1
                other.probe = self._service._probes
                self._say(other, Ping(other.probe))

    def _rival_lives(self, session: Session) -> None:
        session.probe = 0
        for one in self._sessions.values():
            row = self._storage.line(self._hub.hub, one.line)
            if one.established and not one.rivals_alarmed:
                one.rivals_alarmed = True
                head = Place(one.line, row.head_seq, row.head_hash) if row else Place(one.line, 0, GENESIS)
                self._say(one, Stale("two_starts", head))
        self._storage.add_incident(self._hub.hub, "two_starts", f"{session.start} lives beside another")

    def _notice_restore(self, session: Session, hello: Hello) -> None:
        """The hub holds our word for something that we do not have: we were restored (S7, S8)."""
        hub, storage, mark, upto = self._hub, self._storage, b"", 0
        if hello.proof is not None and self._is_ours(hello.proof) and not storage.known(hub.hub, hello.proof.hash):
            mark, upto = hello.proof.hash, hello.proof.seq
        forgot = hello.applied is not None and not storage.down_known(hub.hub, hello.applied.hash)
        if forgot and hello.applied is not None:
            mark = mark or hello.applied.hash
            confirmed = storage.down_confirmed(hub.hub)
            first = confirmed.seq + 1 if confirmed else 1
            self._say(session, ForgottenWanted(hello.applied.line, first, hello.applied.seq))
        if mark and mark != hub.restored_mark:
            self._hub = replace(hub, restored_upto=max(upto, hub.restored_upto), restored_mark=mark)
            storage.put_hub(self._hub)
            storage.add_incident(hub.hub, "cloud_restored", f"up to {upto}")
            self._service.down.open_line(storage, hub.hub, "restored")

    def _is_ours(self, proof: Proof) -> bool:
        key = self._service.keys.public_keys().get(proof.key_id, b"")
        place = Place(proof.line, proof.seq, proof.hash)
        signed = proof_bytes(self._hub.tenant, self._hub.hub, place, proof.time_us)
        return signature_holds(key, proof.signature, signed)

    def _compare_heads(self, session: Session, hello: Hello) -> None:
        """A hub that knows less of its line than we do was restored, one that knows other things is forked (S2, S3)."""
        row = self._storage.line(self._hub.hub, hello.line)
        if row is None or hello.head_seq > row.head_seq:
            return
        head = Place(row.line, row.head_seq, row.head_hash)
        if hello.head_seq < row.head_seq:
            session.stale = True
            self._storage.add_incident(self._hub.hub, "behind", f"{hello.head_seq} of {row.head_seq}")
            self._say(session, Stale("behind", head))
        elif hello.head_hash != row.head_hash:
            session.stale = True
            self._storage.add_incident(self._hub.hub, "fork", f"{row.line.hex()} at or before {row.head_seq}")
            self._say(session, Stale("fork", head))

    # -- talk --------------------------------------------------------------------------------------------------------

    def _talk(self, session: Session, message: Message) -> None:
        match message:
            case Entries():
                self._entries(session, message)
            case Confirm(line, upto_seq, hash_):
                self._down_confirmed(session, Place(line, upto_seq, hash_))
            case Expect(_, seq):
                session.down_sent = max(0, seq - 1)
                session.down_confirmed = min(session.down_confirmed, session.down_sent)
                self.push_down(session)
            case HashIs():
                self._hash_is(session, message)
            case Ping(id_):
                self._say(session, Pong(id_, self._service._now_us(), self._service._providers()))
                self._look_after(session)
            case Pong(id_, _) if session.probe and id_ == session.probe:
                self._rival_lives(session)
            case ForgottenWanted():
                self._give_forgotten(session, message)
            case Forgotten():
                self._learn_forgotten(message)
            case Documents(documents):
                taken = [
                    d.id for d in documents if self._service._upload.take_document(self._storage, self._hub.hub, d)
                ]
                self._say(session, DocConfirm(tuple(taken), self._wanted()))
            case _:
                return

    def _wanted(self) -> tuple[bytes, ...]:
        return tuple(self._storage.documents_wanted(self._hub.hub, DOCUMENTS_WANTED_MAX))

    def _entries(self, session: Session, batch: Entries) -> None:
        """Take a batch and those parked behind it; confirm once, up to what is now held (S4, S5).

        What another start of this hub left parked (a clone, a life before a restore) is taken, but not confirmed here.
        """
        taken: Taken | None = None
        waiting: Entries | None = batch
        own, new_count = True, 0
        while waiting is not None:
            result = self._service._upload.take(self._storage, self._hub, waiting)
            if isinstance(result, Unreadable):
                self._say(session, Refused(waiting.from_seq, "not_entries"))
                break
            if isinstance(result, Gap):
                self._gap(session, waiting)
                break
            new_count += result.new_count
            if own:
                taken = result
                session.next_seq, session.expected, session.bisection = taken.last.seq + 1, None, None
                session.line = taken.last.line
                if session.holds is None or taken.last.seq > session.holds.seq:
                    session.holds = taken.last
            own = own and result.last.hash in session.parked
            session.parked.pop(result.last.hash, None)
            parked = self._storage.unpark(self._hub.hub, result.last.hash)
            message = decode(parked) if parked else None
            waiting = message if isinstance(message, Entries) else None
        if taken is not None:
            self._confirm(session, taken)
        if new_count:
            for other in list(self._sessions.values()):
                self.push_down(other)

    def _confirm(self, session: Session, taken: Taken) -> None:
        # Not simply the line's head: it may have grown by entries that this hub has lost, or that a clone has written.
        place, held = taken.last, session.holds
        if held is not None and held.line == place.line and not taken.quarantined and not session.stale:
            place = held
        self._say(session, place)

    def _confirmation(self, place: Place) -> Confirm:
        """The cloud's word, with its proof, that it has committed everything up to `place`."""
        time_us = self._service._now_us()
        key = self._service.keys.current
        signature = key.sign(proof_bytes(self._hub.tenant, self._hub.hub, place, time_us))
        return Confirm(
            line=place.line,
            upto_seq=place.seq,
            hash=place.hash,
            proof=Proof(key.key_id, place.line, place.seq, place.hash, time_us, signature),
            documents_wanted=self._wanted(),
            forgotten=tuple(self._storage.forgotten(self._hub.hub)),
            uninterpreted=self._storage.uninterpreted_count(self._hub.hub),
        )

    def _gap(self, session: Session, batch: Entries) -> None:
        """Keep the batch for later if there is room, and ask for what is missing: once, not for each batch behind."""
        if self._storage.park(self._hub.hub, batch.prev_hash, encode(batch), PARKED_MAX):
            session.parked[batch.prev_hash] = None
        if session.bisection is None:
            self._ask_for(session, batch.line, batch.from_seq)

    def _ask_for(self, session: Session, line: bytes, from_seq: int) -> None:
        """Ask for what lies before `from_seq`; where it joins what we have is searched if the line does not tell."""
        row = self._storage.line(self._hub.hub, line)
        if row is not None and row.head_seq + 1 < from_seq:
            if session.expected != row.head_seq + 1:
                session.expected = row.head_seq + 1
                self._say(session, Expect(line, session.expected))
            return
        high = from_seq - 1
        if high < 1:
            self._found_common(session, Bisection(0, 1, 0, line))
            return
        guess = self._storage.highest_seq(self._hub.hub, high - 1)
        session.bisection = Bisection(0, high, guess if 0 < guess < high else high // 2, line)
        self._bisect(session, session.bisection)

    def _bisect(self, session: Session, search: Bisection) -> None:
        if search.high - search.low <= 1:
            session.bisection = None
            self._found_common(session, search)
        else:
            self._say(session, HashAt(search.asked))

    def _hash_is(self, session: Session, answer: HashIs) -> None:
        search = session.bisection
        if search is None or answer.seq != search.asked:
            return
        if answer.hash and self._storage.known(self._hub.hub, answer.hash):
            search.low = answer.seq
        else:
            search.high, search.high_line = answer.seq, answer.line
        # What is missing is usually the newest: after a first guess that was right, its neighbour ends the search.
        middle = search.low + 1 if search.guessing and answer.seq == search.low else (search.low + search.high) // 2
        search.guessing = False
        search.asked = min(max(middle, search.low + 1), search.high - 1)
        self._bisect(session, search)

    def _found_common(self, session: Session, search: Bisection) -> None:
        """The last common entry is `low`: the hub sends on from there; a place that is taken there is a fork."""
        first = search.low + 1
        if self._storage.hash_in_line(self._hub.hub, search.high_line, first) is not None:
            row = self._storage.line(self._hub.hub, search.high_line)
            assert row is not None, "a line with entries has a row"
            session.stale = True
            self._say(session, Stale("fork", Place(row.line, row.head_seq, row.head_hash)))
        session.expected = first
        self._say(session, Expect(search.high_line, first))

    def _look_after(self, session: Session) -> None:
        """With each ping: repeat what may have been lost on the way."""
        if session.bisection is not None:
            self._say(session, HashAt(session.bisection.asked))
        idle_s = self._service._monotonic() - session.down_moved_at
        if session.down_sent > session.down_confirmed and idle_s > DOWN_RESEND_S:
            session.down_sent = session.down_confirmed
        self.push_down(session)

    # -- the cloud's own journal -------------------------------------------------------------------------------------

    def push_down(self, session: Session) -> None:
        """Send entries of the cloud's journal behind what this conversation has been sent, within the window."""
        if not session.established:
            return
        while session.down_sent - session.down_confirmed < DOWN_AHEAD_MAX:
            count = min(session.limits.batch_entries, self._service._limits.batch_entries)
            found = self._storage.down_entries(self._hub.hub, session.down_sent + 1, count)
            if not found or found[0].seq != session.down_sent + 1:
                return
            batch, size = list[CloudEntry](), 0
            for entry in found:
                size += len(entry.head) + len(entry.body) + ENTRY_OVERHEAD_BYTES
                if batch and (size > BATCH_SMALL_BYTES or entry.line != batch[0].line):
                    break
                batch.append(entry)
            wire = tuple(WireEntry(entry.head, entry.body) for entry in batch)
            first, last = batch[0], batch[-1]
            self._say(session, Entries(first.line, first.seq, first.prev_hash, wire, last.hash))
            session.down_sent = last.seq
            session.down_moved_at = self._service._monotonic()

    def _down_confirmed(self, session: Session, place: Place) -> None:
        if not self._storage.down_known(self._hub.hub, place.hash):
            return
        session.down_confirmed = max(session.down_confirmed, place.seq)
        session.down_sent = max(session.down_sent, place.seq)
        session.down_moved_at = self._service._monotonic()
        before = self._storage.down_confirmed(self._hub.hub)
        if before is None or place.seq > before.seq:
            self._storage.set_down_confirmed(self._hub.hub, place)
        self.push_down(session)

    def _give_forgotten(self, session: Session, wanted: ForgottenWanted) -> None:
        """Entries that the hub lost, read-only, all of the range."""
        at = wanted.from_seq
        while at <= wanted.upto_seq:
            count = session.limits.batch_entries
            found = self._storage.entries(self._hub.hub, wanted.line, at, wanted.upto_seq, count)
            if not found or found[0].seq != at:
                return
            wire = tuple(WireEntry(entry.head, entry.body) for entry in found)
            done = found[-1].seq >= wanted.upto_seq
            self._say(session, Forgotten(wanted.line, at, found[0].prev_hash, wire, found[-1].hash, done))
            at = found[-1].seq + 1

    def _learn_forgotten(self, batch: Forgotten) -> None:
        """Our own entries that the hub gives back: what we have said once we must not say differently (S8)."""
        prev_hash = batch.prev_hash
        for wire in batch.entries:
            try:
                entry = read_entry(prev_hash, wire.head, wire.body)
                fields: dict[str, Any] = entry.fields()
            except NotAnEntry as exc:
                self._storage.add_incident(self._hub.hub, "forgotten_unreadable", str(exc))
                return
            prev_hash = entry.hash
            if self._storage.down_known(self._hub.hub, entry.hash):
                continue
            self._storage.add_down(self._hub.hub, entry, FORGOTTEN)
            if entry.kind == "payment.verdict":
                done = EffectRow(self._hub.hub, fields["payment"], SETTLE, fields["attempt"], DONE, fields["verdict"])
                self._storage.put_effect(done)
            elif entry.kind == "epoch.assigned":
                hub = self._storage.hub(self._hub.hub)
                assert hub is not None, "the hub is enrolled"
                self._storage.put_hub(replace(hub, next_epoch=max(hub.next_epoch, fields["epoch"] + 1)))
