"""The cloud's own ledger against the files of the hubs, read with own SQL: what it holds, counts, and calls forgotten.

What the cloud counts, and where:

- an entry of its own chain that a hub has: once, in the ledger; in the ledger of what waits for a person (quarantined)
  if its place in the line was taken by another entry;
- an entry that no hub has any more: once, as it came; it must lie in a range that the cloud calls forgotten, or in the
  line of a clone that was switched off;
- a payment: once in each of the two ledgers, with the amount that the hub knows.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.simulation.trace import Trace

if TYPE_CHECKING:
    from tests.simulation.machine import HubMachine

KIND_AT = 58
"""Where in an entry's head the kind begins: format, line, seq, time, clock, boot and mono lie before it."""
QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry in the cloud, in the order of arrival."""

    number: int
    line: bytes
    seq: int
    hash: bytes
    state: str
    kind: str
    subject: str


def kind_and_subject(head: bytes) -> tuple[str, str]:
    """Both texts of an entry's head."""
    kind_end = KIND_AT + 1 + head[KIND_AT]
    subject_at = kind_end + 2
    subject = head[subject_at + 1 : subject_at + 1 + head[subject_at]]
    return head[KIND_AT + 1 : kind_end].decode(), subject.decode()


def read_only(path: Path) -> closing[sqlite3.Connection]:
    """A connection that changes nothing."""
    return closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True))


def chain_of(hub: HubMachine) -> dict[bytes, int]:
    """The hashes of a hub's journal with their seq."""
    with read_only(hub.disk.path) as own:
        return dict(own.execute("SELECT hash, seq FROM journal ORDER BY seq").fetchall())


class CloudLedger:
    """One look at the cloud's file, when everything is quiet."""

    def __init__(self, trace: Trace, path: Path, hub: HubMachine, retired: list[HubMachine]) -> None:
        self._trace = trace
        self._hub = hub
        self._id = hub.signer.hub_id
        self._own = chain_of(hub)
        self._of_clones = {hash_ for clone in retired for hash_ in chain_of(clone)} - self._own.keys()
        with read_only(path) as cloud:
            self._entries = list(self._read_entries(cloud))
            self._spans = cloud.execute(
                "SELECT line, from_seq, upto_seq FROM forgotten WHERE hub = ?", (self._id,)
            ).fetchall()
            self._payments = {
                (row[0], bool(row[1])): row[2:]
                for row in cloud.execute(
                    "SELECT id, quarantined, state, amount + tip + rounding, times_created FROM payments"
                    " WHERE hub = ? AND mode = 'live'",
                    (self._id,),
                )
            }
            self._dead = [row[0] for row in cloud.execute("SELECT reason FROM dead_letters WHERE hub = ?", (self._id,))]
        self._by_payment: dict[str, list[Stored]] = defaultdict(list)
        for entry in self._entries:
            if entry.kind.startswith("payment."):
                self._by_payment[entry.subject].append(entry)

    def _read_entries(self, cloud: sqlite3.Connection) -> Iterator[Stored]:
        for number, line, seq, digest, state, head in cloud.execute(
            "SELECT rowid, line, seq, hash, state, head FROM entries WHERE hub = ? ORDER BY rowid", (self._id,)
        ):
            yield Stored(number, line, seq, digest, state, *kind_and_subject(head))

    def _is_forgotten(self, entry: Stored) -> bool:
        return any(line == entry.line and first <= entry.seq <= last for line, first, last in self._spans)

    # -- what must be true ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Everything below, of a cloud that was restored itself too: what it has not lost it must name."""
        self._holds_everything()
        self._one_place_one_entry()
        self._names_what_was_forgotten()
        self._counts()

    def _holds_everything(self) -> None:
        held = {entry.hash for entry in self._entries}
        missing = [seq for digest, seq in self._own.items() if digest not in held]
        self._need(not missing, "the cloud has every entry", f"missing {missing[:10]} of {self._hub.name}")
        self._need(len(held) == len(self._entries), "one cloud record", f"{len(self._entries)} for {len(held)} hashes")
        self._need(not self._dead, "the cloud understands every entry", f"{self._dead[:5]}")

    def _one_place_one_entry(self) -> None:
        places = [(entry.line, entry.seq) for entry in self._entries if entry.state != QUARANTINED]
        self._need(len(places) == len(set(places)), "one place, one entry", "two entries count for one place in a line")

    def _names_what_was_forgotten(self) -> None:
        """The cloud's list is exactly what it holds and no hub has; what a clone wrote is told apart by its line."""
        lost = [e for e in self._entries if e.hash not in self._own and e.state != QUARANTINED]
        unnamed = [e for e in lost if not self._is_forgotten(e) and e.hash not in self._of_clones]
        self._need(not unnamed, "what was forgotten is named", f"{self._places(unnamed)} not in {self._named()}")
        if self._of_clones:
            return  # a clone, too, has a past that it does not know
        named = [e for e in self._entries if e.hash in self._own and e.state != QUARANTINED and self._is_forgotten(e)]
        self._need(not named, "only what was forgotten is named", f"{self._places(named)} in {self._named()}")

    def _places(self, entries: list[Stored]) -> list[tuple[str, int]]:
        return [(entry.line.hex()[:8], entry.seq) for entry in entries[:10]]

    def _named(self) -> list[tuple[str, int, int]]:
        return [(line.hex()[:8], first, last) for line, first, last in self._spans]

    def _counts(self) -> None:
        with read_only(self._hub.disk.path) as own:
            rows = own.execute("SELECT id, state, amount + tip + rounding FROM payments WHERE mode = 'live'").fetchall()
        for id_, state, amount in rows:
            self._counts_once(id_, state, amount)
        known = {row[0] for row in rows}
        for id_, quarantined in self._payments:
            if id_ not in known:
                self._is_explained(id_, quarantined=quarantined)

    def _counts_once(self, id_: str, state: str, amount: int) -> None:
        entries = self._by_payment[id_]
        mine = max((e for e in entries if e.hash in self._own), key=lambda e: self._own[e.hash])
        quarantined = mine.state == QUARANTINED
        row = self._payments.get((id_, quarantined))
        if row is None:
            self._need(False, "sums agree", f"the cloud does not count {id_}, {amount} {state} in {self._hub.name}")
            return
        their_state, their_amount, created = row
        self._need(their_amount == amount, "sums agree", f"{id_}: {amount} in {self._hub.name}, {their_amount} there")
        if all(e.hash in self._own for e in entries):
            # Nobody else has said anything about it: the hub's word is the only one.
            self._need(their_state == state, "sums agree", f"{id_} is {state} in {self._hub.name}, {their_state} there")
            self._need(created == 1 or quarantined, "one cloud record", f"{id_} was created {created} times")

    def _is_explained(self, id_: str, *, quarantined: bool) -> None:
        """A payment that only the cloud knows: all that was said of it is forgotten, or a clone's, or set aside."""
        strange = [
            e
            for e in self._by_payment[id_]
            if e.state != QUARANTINED and not self._is_forgotten(e) and e.hash not in self._of_clones
        ]
        self._need(not strange, "sums agree", f"only the cloud knows {id_} ({quarantined=}): {self._places(strange)}")

    def _need(self, holds: bool, invariant: str, detail: str) -> None:
        self._trace.need(holds, invariant, detail)
