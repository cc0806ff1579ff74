"""The clock's own entry: from here on the wall time has a witness (design 6). Older entries are not rewritten."""

from __future__ import annotations

from hubd.model.entry import CLOCK_UNCERTAIN, Draft
from hubd.store import journal
from hubd.store.tx import Tx


def note_clock_corrected(tx: Tx) -> None:
    """Append `clock.corrected` if the entries before it were written by a clock without a witness."""
    if not tx.clock_trusted() or not tx.head.seq:
        return
    last = journal.entry_at(tx.connection, tx.head.seq)
    if last.head.clock != CLOCK_UNCERTAIN:
        return
    body = {"before_us": last.head.at_us, "now_us": tx.now_us()}
    journal.append(tx, Draft("clock.corrected", "", "hub", body))
