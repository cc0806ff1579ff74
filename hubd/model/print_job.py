"""A print job's life as a pure table: asked for, begun, on paper; or nobody knows.

`unknown` is never printed again by the hub: the paper may be out. A person or the till asks for it again, and what is
printed then says COPY.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from hubd.errors import InvalidTransitionError
from hubd.model.entry import Accepted


class PrintState(StrEnum):
    """How far a job is."""

    WAITING = "waiting"
    PRINTING = "printing"
    PRINTED = "printed"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"


class PrintEvent(StrEnum):
    """What may happen to a job; each is the tail of a journal kind (`print.started`)."""

    STARTED = "started"
    PRINTED = "printed"
    UNKNOWN = "unknown"
    POSTPONED = "postponed"
    """The printer said before the first byte that it cannot print now."""
    AGAIN = "again"
    """A person or the till wants it once more."""
    CANCELLED = "cancelled"
    MOVED = "moved"
    """Its printer was replaced before anything of the job was on paper."""


_S, _E = PrintState, PrintEvent

PRINT_TRANSITIONS: dict[PrintState, dict[PrintEvent, PrintState]] = {
    _S.WAITING: {_E.STARTED: _S.PRINTING, _E.CANCELLED: _S.CANCELLED, _E.MOVED: _S.WAITING},
    _S.PRINTING: {_E.PRINTED: _S.PRINTED, _E.UNKNOWN: _S.UNKNOWN, _E.POSTPONED: _S.WAITING},
    _S.PRINTED: {_E.AGAIN: _S.WAITING},
    _S.UNKNOWN: {_E.AGAIN: _S.WAITING, _E.CANCELLED: _S.CANCELLED},
    _S.CANCELLED: {_E.AGAIN: _S.WAITING},
}


def next_print_state(state: PrintState, event: PrintEvent) -> PrintState:
    """The state after an event. Raises InvalidTransitionError for what must not happen."""
    try:
        return PRINT_TRANSITIONS[state][event]
    except KeyError:
        raise InvalidTransitionError("print_job", state, event) from None


class PrintJob(Struct, frozen=True):
    """One job as the journal knows it. What is printed is an erasable document beside it."""

    id: str
    seq: int
    line: bytes
    hash: bytes
    last_seq: int
    state: PrintState
    title: str
    printer: str
    """Device id of the printer."""
    payment: str
    """Whose receipt it is; empty for anything else."""
    purpose: str
    """`customer` or `merchant` for a receipt, else empty."""
    document: bytes
    """Id of the document that holds the content."""
    papers: int
    """How often this job is, or may be, on paper."""
    till: str
    staff: str | None
    location: str
    reason: str
    requested_at_us: int
    updated_at_us: int

    @property
    def accepted(self) -> Accepted:
        """Where the journal took it."""
        return Accepted(self.line, self.seq, self.hash)
