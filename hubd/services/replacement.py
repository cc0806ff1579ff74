"""A hub whose place another one took: learns it from the cloud's signed word, and stops selling (docs/adr/0013).

The word comes down in the cloud's journal, or from the new hub over the local network. Either way it is checked with
the root key that was pinned at enrolment, becomes one entry, and holds until a newer word says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hubd.errors import PaymentError, Retry, SyncError
from hubd.identity import key_id_of, verify_signature
from hubd.model.entry import Draft, Json
from hubd.model.replacement import InChain, Word, stops, word_bytes
from hubd.store import enrolment, journal, lines, replacements
from hubd.store.db import Database
from hubd.store.tx import Connection, Tx

KEY_DOMAIN = b"hubd.key.v1\0"
WORDS_MAX = 16
"""Words that are handed on; older ones are superseded."""
_KEPT = ("replacement", "stopped")


def _holds(connection: Connection, word: Word) -> bool:
    """Whether the cloud of this hub's enrolment has signed the word."""
    bound = enrolment.get(connection)
    if bound is None:
        return False
    try:
        key, vouched, signature = (bytes.fromhex(t) for t in (word.public_key, word.root_signature, word.signature))
        signed = word_bytes(bound.tenant, word)
        key_id = word.key_id.encode("ascii")
    except ValueError:
        return False
    if len(key_id) > 255 or key_id_of(key) != word.key_id:
        return False
    certificate = KEY_DOMAIN + bytes((len(key_id),)) + key_id + key
    known = key == bound.root_key or verify_signature(bound.root_key, vouched, certificate)
    return known and verify_signature(key, signature, signed)


def chain_of(connection: Connection, head_seq: int) -> list[InChain]:
    """The lines of this hub's own chain, oldest first, each with its last entry."""
    found = lines.all_lines(connection)
    ends = [after.opened_seq - 1 for after in found[1:]] + [head_seq]
    return [InChain(one.line, end) for one, end in zip(found, ends, strict=True)]


def learn(tx: Tx, word: Word, actor: str, more: Mapping[str, Json]) -> bool:
    """Keep a word that is new, as one entry; returns whether it was. Raises `sync.invalid_word` for one not signed."""
    if not _holds(tx.connection, word):
        raise SyncError("sync.invalid_word", "The word that a line was replaced is not signed by this hub's cloud.")
    if replacements.has(tx.connection, bytes.fromhex(word.hub), word.epoch):
        return False
    meant = stops(word, chain_of(tx.connection, tx.head.seq))
    journal.append(
        tx, Draft("line.replaced", word.line, actor, msgspec.structs.asdict(word) | {"stops": meant, **more})
    )
    return True


def demand_in_service(tx: Tx, hub: bytes) -> None:
    """Raise `hub_replaced` when another hub sells in the place of this one."""
    replaced = tx.kept.get(_KEPT)
    if replaced is None:
        replaced = tx.kept[_KEPT] = replacements.stopped(tx.connection, hub)
    if replaced:
        raise PaymentError(
            "hub_replaced",
            "This hub was replaced by another one and no longer sells.",
            remedy="Connect the till to the new hub. What this one took is kept and can be read here.",
            retry=Retry.NEVER,
        )


class ReplacementDesk:
    """What this hub knows of being replaced, and of having replaced another."""

    def __init__(self, db: Database, hub: bytes) -> None:
        self._db = db
        self._hub = hub

    async def stopped(self) -> bool:
        """Whether another hub sells in the place of this one."""
        return await self._db.read("replacement.stopped", lambda c: replacements.stopped(c, self._hub))

    async def words(self) -> list[Word]:
        """The newest words of the cloud about this hub's lines, for those who were not told."""
        return await self._db.read("replacement.words", lambda c: replacements.words(c, self._hub, WORDS_MAX))

    async def line_and_epoch(self) -> tuple[bytes, int | None]:
        """The present line and the cloud's number for it, if it has come."""

        def read(connection: Connection) -> tuple[bytes, int | None]:
            present = lines.all_lines(connection)[-1]
            return present.line, present.epoch

        return await self._db.read("replacement.epoch", read)

    async def hear(self, word: Word) -> bool:
        """Take a word from the network; returns whether it was new. Raises `sync.invalid_word`, and writes nothing."""
        if word.hub != self._hub.hex():
            raise SyncError("sync.invalid_word", "The word speaks of another hub.")
        if await self._db.read("replacement.known", lambda c: replacements.has(c, self._hub, word.epoch)):
            return False
        return await self._db.write("replacement.hear", lambda tx: learn(tx, word, "hub", {}))
