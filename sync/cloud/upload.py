"""Takes batches of a hub's entries into the cloud's storage: order by hash, duplicates, forks, quarantine (S1, S3, S5).

Pure on the storage: what to say about a batch is returned, not sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sync.cloud.down import DownJournal
from sync.cloud.hashing import GENESIS, CloudEntry, NotAnEntry, document_digest, read_entry
from sync.cloud.ledger import Ledger, Page
from sync.cloud.statements import Statements
from sync.cloud.storage import PENDING, QUARANTINED, STOPPED, CloudStorage, HubRow, LineRow
from sync.codec import Entries, Place, Range, WireDocument

INTERPRETED_AT_ONCE_MAX = 50
"""A longer batch is a backlog: it is stored and confirmed first, and interpreted right after (S1)."""
PENDING_ALL = 1 << 40


@dataclass(frozen=True, slots=True)
class Taken:
    """The batch is stored, or was before. `last` is its last entry, `head` the line's present head."""

    last: Place
    head: Place
    quarantined: bool
    new_count: int


@dataclass(frozen=True, slots=True)
class Gap:
    """What comes before the batch is not known here."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The batch is no run of entries."""

    reason: str


@dataclass(slots=True)
class _Run:
    """What happens to the entries of one batch as they are taken one after the other."""

    quarantined: bool
    rows: dict[bytes, LineRow] = field(default_factory=dict)
    outages: dict[str, None] = field(default_factory=dict)
    opened: list[CloudEntry] = field(default_factory=list)


class Upload:
    """One hub's entries into storage, ledger, and what follows from them in the cloud's own journal."""

    def __init__(self, ledger: Ledger, statements: Statements, down: DownJournal) -> None:
        self._ledger = ledger
        self._statements = statements
        self._down = down
        self.backlog_count = 0
        """Entries that came in batches too long to be interpreted at once."""

    def take(self, storage: CloudStorage, hub: HubRow, batch: Entries) -> Taken | Gap | Unreadable:
        """Store what is new of a batch and interpret it, in the caller's transaction."""
        try:
            entries = _chain(batch)
        except NotAnEntry as exc:
            return Unreadable(str(exc))
        row = storage.line(hub.hub, batch.line)
        goes_on = row is not None and not row.stopped and batch.prev_hash == row.head_hash
        if row is not None and goes_on and (len(entries) > INTERPRETED_AT_ONCE_MAX or storage.pending(hub.hub, 1)):
            return self._store(storage, hub.hub, row, entries, batch.documents)
        before = storage.known(hub.hub, batch.prev_hash)
        if before is None and not (batch.prev_hash == GENESIS and batch.from_seq == 1):
            return Gap()
        if not goes_on:
            self.interpret(storage, hub, PENDING_ALL)  # what is out of the ordinary looks at what is understood
        new = [entry for entry in entries if storage.known(hub.hub, entry.hash) is None]
        run = self._take_new(storage, hub, new, batch.prev_hash)
        self._take_documents(storage, hub.hub, batch.documents)
        last = Place(batch.line, entries[-1].seq, entries[-1].hash)
        row = storage.line(hub.hub, batch.line)
        assert row is not None, "a line with entries has a row"
        quarantined = storage.known(hub.hub, last.hash) == QUARANTINED
        for outage in run.outages:
            self._statements.issue_if_due(storage, hub, outage)
        return Taken(last, Place(row.line, row.head_seq, row.head_hash), quarantined, len(new))

    def _store(
        self, storage: CloudStorage, hub: bytes, row: LineRow, entries: list[CloudEntry],
        documents: tuple[WireDocument, ...],
    ) -> Taken:  # fmt: skip
        """Keep a run that goes on where its line ends, for `interpret` to take up."""
        storage.add_entries(hub, entries, PENDING)
        if len(entries) > INTERPRETED_AT_ONCE_MAX:
            self.backlog_count += len(entries)
        for entry in entries:
            for document, digest in entry.documents:
                storage.want_document(hub, document, digest)
        self._take_documents(storage, hub, documents)
        last = Place(row.line, entries[-1].seq, entries[-1].hash)
        grown = replace(row, head_seq=last.seq, head_hash=last.hash)
        storage.put_line(hub, grown)
        self._line_grew(storage, hub, grown)
        return Taken(last, last, quarantined=False, new_count=len(entries))

    def interpret(self, storage: CloudStorage, hub: HubRow, limit: int) -> int:
        """Interpret up to `limit` entries that were only stored, in the order in which they came; returns how many."""
        outages: dict[str, None] = {}
        stopped: dict[bytes, bool] = {}
        waiting, states = storage.pending(hub.hub, limit), list[str]()
        page = Page(storage, hub.hub, waiting)
        for entry in waiting:
            if entry.line not in stopped:
                row = storage.line(hub.hub, entry.line)
                assert row is not None, "a line with entries has a row"
                stopped[entry.line] = row.stopped
            state, touched = STOPPED, list[str]()
            if not stopped[entry.line]:
                state, touched = self._ledger.interpret(
                    storage, hub.hub, entry, quarantined=False, restored=entry.seq <= hub.restored_upto, payments=page
                )
                if state == STOPPED:
                    stopped[entry.line] = True
                    self._stop(storage, hub.hub, entry.line)
            states.append(state)
            outages.update(dict.fromkeys(touched))
        page.write()
        storage.settle_pending(hub.hub, states)
        for outage in outages:
            self._statements.issue_if_due(storage, hub, outage)
        return len(waiting)

    def _stop(self, storage: CloudStorage, hub: bytes, line: bytes) -> None:
        row = storage.line(hub, line)
        assert row is not None, "a line with entries has a row"
        storage.put_line(hub, replace(row, stopped=True))

    def _take_new(self, storage: CloudStorage, hub: HubRow, new: list[CloudEntry], prev_hash: bytes) -> _Run:
        place = storage.place(hub.hub, new[0].prev_hash) if new else None
        continues = place is not None and place[0] == new[0].line
        run = _Run(quarantined=continues and storage.known(hub.hub, new[0].prev_hash) == QUARANTINED)
        for entry in new:
            self._take_entry(storage, hub, entry, run)
        for row in run.rows.values():
            storage.put_line(hub.hub, row)
        for opened in run.opened:
            self._line_opened(storage, hub.hub, opened)
        if not run.opened and not run.quarantined and run.rows:
            for row in run.rows.values():
                self._line_grew(storage, hub.hub, row)
        return run

    def _take_entry(self, storage: CloudStorage, hub: HubRow, entry: CloudEntry, run: _Run) -> None:
        row = run.rows.get(entry.line) or storage.line(hub.hub, entry.line)
        if row is None:
            row = self._new_line(storage, hub, entry)
            run.opened.append(entry)
            run.quarantined = False
        elif entry.seq <= row.head_seq and not run.quarantined:
            # This place is taken by another entry: a fork. Both are kept, and the later one waits for a person (S3).
            run.quarantined = True
            storage.add_incident(hub.hub, "fork", f"{entry.line.hex()} at {entry.seq}")
        if row.stopped:
            state, touched = STOPPED, list[str]()
        else:
            state, touched = self._ledger.interpret(
                storage, hub.hub, entry, quarantined=run.quarantined, restored=entry.seq <= hub.restored_upto
            )
        if run.quarantined:
            state = QUARANTINED
        else:
            row = replace(row, head_seq=entry.seq, head_hash=entry.hash, stopped=row.stopped or state == STOPPED)
        run.rows[entry.line] = row
        run.outages.update(dict.fromkeys(touched))
        storage.add_entry(hub.hub, entry, state)
        for document, digest in entry.documents:
            storage.want_document(hub.hub, document, digest)

    def _new_line(self, storage: CloudStorage, hub: HubRow, entry: CloudEntry) -> LineRow:
        present = storage.hub(hub.hub)
        assert present is not None, "entries come from an enrolled hub"
        storage.put_hub(replace(present, next_epoch=present.next_epoch + 1))
        parent = storage.place(hub.hub, entry.prev_hash)
        if entry.kind != "line.opened":
            storage.add_dead_letter(hub.hub, entry.hash, "a line begins without line.opened")
        return LineRow(
            line=entry.line,
            opened_seq=entry.seq,
            head_seq=entry.seq,
            head_hash=entry.hash,
            parent_hash=entry.prev_hash,
            parent_line=parent[0] if parent else b"",
            epoch=present.next_epoch,
        )

    def _line_opened(self, storage: CloudStorage, hub: bytes, entry: CloudEntry) -> None:
        row = storage.line(hub, entry.line)
        assert row is not None, "the line was just stored"
        self._down.append(storage, hub, "epoch.assigned", "", {"line": entry.line.hex(), "epoch": row.epoch})
        _note_forgotten(storage, hub, forgotten_by(storage, hub, row))

    def _line_grew(self, storage: CloudStorage, hub: bytes, grown: LineRow) -> None:
        """A line goes on after a younger one began: late messages of a hub that was restored since, or two clones."""
        for younger in storage.lines(hub):
            if younger.epoch > grown.epoch:
                spans = forgotten_by(storage, hub, younger)
                _note_forgotten(storage, hub, [span for span in spans if span.line == grown.line])

    def _take_documents(self, storage: CloudStorage, hub: bytes, documents: tuple[WireDocument, ...]) -> None:
        for document in documents:
            self.take_document(storage, hub, document)

    def take_document(self, storage: CloudStorage, hub: bytes, document: WireDocument) -> bool:
        """Keep a document if an entry has asked for exactly it; False for any other content."""
        digest = storage.document_digest(hub, document.id)
        if digest is None:
            return False
        if document.erased:
            storage.erase_document(hub, document.id)
            return True
        if document_digest(document.salt, document.content) != digest:
            storage.add_incident(hub, "document_digest", document.id.hex())
            return False
        storage.put_document(hub, document.id, document.klass, document.salt, document.content)
        return True


def _chain(batch: Entries) -> list[CloudEntry]:
    prev_hash, found = batch.prev_hash, []
    for position, wire in enumerate(batch.entries):
        entry = read_entry(prev_hash, wire.head, wire.body)
        if entry.line != batch.line or entry.seq != batch.from_seq + position:
            raise NotAnEntry("an entry is not where its batch says")
        found.append(entry)
        prev_hash = entry.hash
    if not found or prev_hash != batch.upto_hash:
        raise NotAnEntry("the entries do not give the hash that the batch names")
    return found


def _note_forgotten(storage: CloudStorage, hub: bytes, spans: list[Range]) -> None:
    for span in spans:
        if storage.add_forgotten(hub, span):
            storage.add_incident(hub, "forgotten", f"{span.line.hex()} {span.from_seq}-{span.upto_seq}")


def forgotten_by(storage: CloudStorage, hub: bytes, opened: LineRow) -> list[Range]:
    """What the writer of a new line does not know of its own past: everything that follows its parent elsewhere."""
    common = opened.parent_hash
    place = storage.place(hub, common)
    while place is not None and storage.known(hub, common) == QUARANTINED:
        common = place[2]  # back over quarantined entries, whose places others hold, to the last common one
        place = storage.place(hub, common)
    if place is None:
        return []
    # The last entry of each line that the writer still knows; none of a line that began after it.
    known = {place[0]: place[1]}
    spans: list[Range] = []
    for row in storage.lines(hub):
        if row.line == opened.line:
            continue
        if row.line in known:
            first = known[row.line] + 1
        elif row.opened_seq > known.get(row.parent_line, row.opened_seq):
            first, known[row.line] = row.opened_seq, row.opened_seq - 1
        else:
            continue
        if first <= row.head_seq:
            spans.append(Range(row.line, first, row.head_seq, row.head_hash))
    return spans
