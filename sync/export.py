"""Writes the file of what this hub has not sent (sync.carried), from its store alone: the daemon may run or not."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from hubd.cloud_ports import LinkAddress, Signer
from hubd.errors import SyncError
from hubd.identity import key_id_of
from hubd.store import cursors, enrolment, journal
from hubd.store.tx import Connection, read_head
from sync.carried import MAGIC, Header, piece
from sync.codec import NO_NONCE, Documents, Limits, Sealer
from sync.sender import document_of, documents_of, pack_all

ENTRIES_A_READ = 100


def header_of(connection: Connection, signer: Signer, now_us: int) -> Header | None:
    """What an export of this store holds now; None when the cloud has confirmed everything.

    Raises `carried.not_enrolled` for a hub that belongs to no cloud, whose entries nobody could take.
    """
    bound = enrolment.get(connection)
    if bound is None:
        raise SyncError(
            "carried.not_enrolled",
            "This hub belongs to no cloud, so there is nobody to carry its entries to.",
            remedy="Make a backup instead: `hubctl backup make --to DIRECTORY`.",
        )
    confirmed, last = cursors.get(connection, cursors.CONFIRMED), read_head(connection)
    if last.seq <= confirmed.seq:
        return None
    return Header(signer.hub_id.hex(), bound.tenant, confirmed.seq + 1, last.seq, last.hash.hex(), now_us)


def export(connection: Connection, signer: Signer, header: Header) -> Iterator[bytes]:
    """The file, in pieces; changes nothing in the store."""
    yield MAGIC + msgspec.json.encode(header) + b"\n"
    topic = LinkAddress(header.tenant, header.hub, "").topic("up")
    sealer = Sealer(topic, key_id_of(signer.public_key), signer.sign)
    after, prev_hash, limits = header.from_seq - 1, journal.hash_at(connection, header.from_seq - 1), Limits()
    while after < header.upto_seq:
        found = journal.stored_after(connection, after, min(ENTRIES_A_READ, header.upto_seq - after))
        assert found, "entries that were not confirmed are never cut"
        assert prev_hash is not None, "the entry before the first unconfirmed one is kept"
        for batch in pack_all(prev_hash, found, documents_of(connection, found), limits):
            yield piece(sealer.seal(batch, NO_NONCE))
            for id_ in batch.documents_missing:
                document = document_of(connection, id_)
                if document is not None:
                    yield piece(sealer.seal(Documents((document,)), NO_NONCE))
        after, prev_hash = found[-1][0], found[-1][3]
