"""The hub's side of one connection as pure decisions: what a message means, what may be sent next. No sockets, no disk.

`sync.link_worker` carries out the actions. An engine lives as long as its connection; continuity is in the cursors.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct, field

from sync.codec import (
    IN_FLIGHT_MAX,
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
    HashAt,
    HashIs,
    Hello,
    Limits,
    Message,
    Ping,
    Place,
    Pong,
    Range,
    Refused,
    Stale,
    common_protocol,
)

RESEND_AFTER_S = 10.0
"""Batches in flight that brought no confirmation for so long are sent again from the confirmed cursor."""


class SayHello(Struct, frozen=True):
    """Answer the cloud's hello with its nonce: from then on the conversation counts."""


class MoveCursor(Struct, frozen=True):
    """Check the proof against our own hash and, if it holds, move the confirmed cursor."""

    confirm: Confirm


class LowerCursor(Struct, frozen=True):
    """The cloud lost what it had confirmed beyond `seq` (S7)."""

    seq: int


class OpenLine(Struct, frozen=True):
    """Open a new line before anything more is sent."""

    reason: str
    head: Place


class AnswerHash(Struct, frozen=True):
    """Tell the hash of our entry `seq`."""

    seq: int


class Apply(Struct, frozen=True):
    """Apply a batch of the cloud's journal and confirm or correct it."""

    batch: Entries


class SendDocuments(Struct, frozen=True):
    """Send these documents, or say that they are erased."""

    ids: tuple[bytes, ...]


class FetchForgotten(Struct, frozen=True):
    """Ask for entries of our own that we have lost, unless we have them by now."""

    span: Range


class KeepForgotten(Struct, frozen=True):
    """Keep entries of our own that the cloud gave back."""

    batch: Forgotten


class GiveForgotten(Struct, frozen=True):
    """Give back what the cloud has lost of its journal."""

    wanted: ForgottenWanted


class Say(Struct, frozen=True):
    """Send this message."""

    message: Message


class EndSession(Struct, frozen=True):
    """Start over with a new connection."""

    reason: str


class Report(Struct, frozen=True):
    """A problem for people, by its code."""

    code: str
    detail: str


Action = (
    SayHello
    | MoveCursor
    | LowerCursor
    | OpenLine
    | AnswerHash
    | Apply
    | SendDocuments
    | FetchForgotten
    | KeepForgotten
    | GiveForgotten
    | Say
    | EndSession
    | Report
)


class HubEngine(Struct):
    """What has been said on this connection and what may be said next."""

    nonce: bytes
    """Ours: every message of the cloud on this connection is addressed to it."""
    confirmed_seq: int
    line: bytes
    limits: Limits = field(default_factory=Limits)
    peer_nonce: bytes = b""
    peer_limits: Limits = field(default_factory=Limits)
    repeated_upto: Place | None = None
    """Down entries up to here were confirmed by this hub once, perhaps before a restore (S10)."""
    sent_upto: int = 0
    halted: bool = False
    """A batch was refused twice: nothing more goes up until a person or a new connection tries again (S14)."""
    _in_flight: deque[int] = field(default_factory=deque)
    _progress_at: float = 0.0
    _rewound_to: int | None = None
    _plain: dict[int, None] = field(default_factory=dict)
    _opening: bool = False
    _asked: dict[Range, None] = field(default_factory=dict)
    _restarted: bool = False

    def __post_init__(self) -> None:
        """Sending begins at the confirmed cursor (S5)."""
        self.sent_upto = self.confirmed_seq

    @property
    def talking(self) -> bool:
        """Whether both hellos have been exchanged."""
        return bool(self.peer_nonce)

    @property
    def sending(self) -> bool:
        """Whether batches go out at all, once there is room."""
        return self.talking and not self._opening and not self.halted

    @property
    def room(self) -> int:
        """How many batches may go out now."""
        if not self.sending:
            return 0
        return max(0, min(IN_FLIGHT_MAX, self.limits.in_flight, self.peer_limits.in_flight) - len(self._in_flight))

    @property
    def batch_limits(self) -> Limits:
        """The smaller of both sides' limits."""
        mine, theirs = self.limits, self.peer_limits
        return Limits(
            batch_entries=min(mine.batch_entries, theirs.batch_entries),
            batch_bytes=min(mine.batch_bytes, theirs.batch_bytes),
            message_bytes=min(mine.message_bytes, theirs.message_bytes),
            in_flight=min(mine.in_flight, theirs.in_flight),
        )

    def compress(self, from_seq: int) -> bool:
        """Whether the batch that begins here may be compressed: not after it was refused once."""
        return from_seq not in self._plain

    def sent(self, from_seq: int, upto_seq: int, now: float) -> None:
        """A batch has been handed to the transport; that is no proof of anything."""
        assert from_seq == self.sent_upto + 1, "batches leave in order, without gaps"
        if not self._in_flight:
            self._progress_at = now
        self._in_flight.append(upto_seq)
        self.sent_upto = upto_seq

    def tick(self, now: float) -> bool:
        """Send again from the confirmed cursor if nothing was confirmed for too long; True if so."""
        if not self._in_flight or now - self._progress_at < RESEND_AFTER_S:
            return False
        self._rewind(self.confirmed_seq)
        self._progress_at = now
        return True

    def line_opened(self, line: bytes) -> None:
        """The new line that `OpenLine` asked for is open: sending goes on."""
        self.line = line
        self._opening = False

    def distrust(self, proven_seq: int, now: float) -> None:
        """A confirmation did not hold (S6): what was proven before it is all that counts.

        What is out stays out until it is confirmed or `tick` finds it late: a cloud that repeats itself costs no storm.
        """
        self.confirmed_seq = proven_seq
        self._in_flight.clear()
        self._in_flight.append(self.sent_upto)
        self._progress_at = now

    def _rewind(self, seq: int) -> None:
        self.sent_upto = seq
        self._in_flight.clear()

    def hear(self, message: Message, now: float) -> list[Action]:
        """What to do about a message whose signature and address have been checked."""
        if isinstance(message, Hello):
            return self._hello(message)
        if not self.talking:
            return []
        match message:
            case Confirm():
                return self._confirmed(message, now)
            case Expect(_, seq):
                return self._expected(seq)
            case HashAt(seq):
                return [AnswerHash(seq)]
            case Stale(reason, head):
                return self._stale(reason, head)
            case Refused(from_seq, reason):
                return self._refused(from_seq, reason)
            case Entries():
                return [Apply(message)]
            case Forgotten():
                return [KeepForgotten(message)]
            case ForgottenWanted():
                return [GiveForgotten(message)]
            case DocConfirm(_, wanted):
                return [SendDocuments(wanted)] if wanted else []
            case Again(echo):
                return [EndSession("the cloud has forgotten this connection")] if echo == self.peer_nonce else []
            case Ping(id_):
                return [Say(Pong(id_, 0))]
            case Pong() | HashIs() | Documents():
                return []

    def _hello(self, hello: Hello) -> list[Action]:
        if self.talking:
            return []  # an answer to our first hello that came twice
        common_protocol((PROTOCOL_MIN, PROTOCOL_MAX), hello.protocol)
        self.peer_nonce, self.peer_limits, self.repeated_upto = hello.nonce, hello.limits, hello.confirmed
        return [SayHello(), *self._forgotten(hello.forgotten)]

    def _forgotten(self, spans: tuple[Range, ...]) -> list[Action]:
        new = [span for span in spans if span not in self._asked]
        self._asked.update(dict.fromkeys(new))
        return [FetchForgotten(span) for span in new]

    def _confirmed(self, confirm: Confirm, now: float) -> list[Action]:
        actions: list[Action] = []
        if confirm.upto_seq > self.confirmed_seq:
            self.confirmed_seq = confirm.upto_seq
            self._progress_at, self._rewound_to = now, None
            while self._in_flight and self._in_flight[0] <= confirm.upto_seq:
                self._in_flight.popleft()
            if self.sent_upto < confirm.upto_seq:
                self._rewind(confirm.upto_seq)
            actions.append(MoveCursor(confirm))
        elif self._in_flight and confirm.upto_seq >= self._in_flight[-1]:
            # What is in flight was confirmed before: a repeat whose confirmation had been lost.
            self._in_flight.clear()
        if confirm.documents_wanted:
            actions.append(SendDocuments(confirm.documents_wanted))
        return actions + self._forgotten(confirm.forgotten)

    def _expected(self, seq: int) -> list[Action]:
        if not 1 <= seq <= self.sent_upto or seq == self._rewound_to:
            return []  # each of the batches behind a gap asks for the same
        self._rewound_to = seq
        self._rewind(seq - 1)
        if seq > self.confirmed_seq:
            return []
        # The cloud holds less than it has proven: it was restored. What it confirms from now on counts anew.
        self.confirmed_seq = seq - 1
        return [LowerCursor(seq - 1)]

    def _stale(self, reason: str, head: Place) -> list[Action]:
        if self._opening or head.line != self.line or (reason == "two_starts" and self._restarted):
            return []
        self._opening = True
        self._restarted = self._restarted or reason == "two_starts"
        actions: list[Action] = [OpenLine(reason, head)]
        if reason == "two_starts":
            actions.append(Report("sync.two_starts", "Another device writes with this hub's key."))
        return actions

    def _refused(self, from_seq: int, reason: str) -> list[Action]:
        if not 1 <= from_seq <= self.sent_upto:
            return []
        if self.compress(from_seq):
            self._plain[from_seq] = None
            self._rewind(from_seq - 1)
            return []
        self.halted = True
        return [Report("sync.rejected", f"The cloud cannot read the entries from {from_seq} on ({reason}).")]
