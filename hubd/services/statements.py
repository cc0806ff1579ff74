"""The end-of-outage statement on the hub's side: compare what the cloud counted with what the hub's own entries say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from hubd.errors import HubError
from hubd.identity import key_id_of, verify_signature
from hubd.model.entry import Draft, Entry, Json
from hubd.model.statement import count_outage, differences, verify_statement
from hubd.store import enrolment, journal, outages
from hubd.store.tx import Connection, Tx

ENTRIES_A_READ = 1_000


class Comparison(Struct, frozen=True):
    """The hub's own word on a statement: whether it agrees, and in what not."""

    agrees: bool
    reasons: tuple[str, ...] = ()


def compare(connection: Connection, document: Mapping[str, Any]) -> Comparison:
    """Check signature, hashes, counts, sums and ids of a statement against the hub's own journal.

    Reads the entries again rather than the projections, so that neither side's running totals are believed.
    """
    reasons = [*_signature(connection, document), *_chain(connection, document)]
    if not reasons:
        first = min((span["from_seq"] for span in document["ranges"]), default=1)
        reasons = differences(document, count_outage(document, _entries_from(connection, first)))
    return Comparison(not reasons, tuple(reasons))


def _signature(connection: Connection, document: Mapping[str, Any]) -> list[str]:
    bound = enrolment.get(connection)
    if bound is None:
        return ["not_enrolled"]
    keys = {key_id_of(bound.root_key): bound.root_key} | enrolment.cloud_keys(connection)
    key = keys.get(str(document.get("key_id", "")))
    if key is None:
        return ["unknown_key"]
    return [] if verify_statement(document, key, verify_signature).ok else ["signature"]


def _chain(connection: Connection, document: Mapping[str, Any]) -> list[str]:
    for span in document["ranges"]:
        own = journal.hash_at(connection, span["upto_seq"])
        line = journal.line_at(connection, span["upto_seq"])
        if own is None or line is None or own.hex() != span["hash"] or line.hex() != span["line"]:
            return ["hash"]
    return []


def _entries_from(connection: Connection, first_seq: int) -> Iterator[Entry]:
    after = first_seq - 1
    while found := journal.entries_after(connection, after, ENTRIES_A_READ):
        yield from found
        after = found[-1].seq


def receive(
    tx: Tx, document: Mapping[str, Json], comparison: Comparison, actor: str, cause: Mapping[str, Json]
) -> None:
    """Keep a statement with the hub's own word on it; one that is here already is not kept twice."""
    outage = str(document.get("outage", ""))
    if outages.get(tx.connection, outage) is None:
        raise HubError("statement.no_outage", "A statement speaks of an outage that this hub does not know.")
    if any(known.id == document["id"] for known in outages.statements(tx.connection, outage)):
        return
    body = {
        "agrees": comparison.agrees,
        "cause": dict(cause),
        "reasons": list(comparison.reasons),
        "statement": dict(document),
    }
    journal.append(tx, Draft("statement.received", str(document["id"]), actor, body))
