"""Batches made ready ahead of the window, away from the event loop.

They are read, encoded and compressed before there is room, so that what becomes room is filled at once and a till that
asks for something meanwhile waits for none of it.
"""

from __future__ import annotations

import asyncio
from collections import deque

from msgspec import Struct

from hubd.store.db import Database
from sync.codec import Entries, Packed, pack
from sync.engine import HubEngine
from sync.sender import Sender

READY_MAX = 8
"""Batches that wait, ready to be sent, beyond those in flight."""
READ_AT_ONCE = 2
"""Batches that are read in one go."""


class Ready(Struct, frozen=True):
    """A batch that may leave as it is."""

    line: bytes
    from_seq: int
    upto_seq: int
    upto_hash: bytes
    packed: Packed


class Outgoing:
    """The next batches of one conversation. Nothing here counts as sent; the engine decides what follows."""

    def __init__(self, db: Database, sender: Sender, changed: asyncio.Event) -> None:
        self._db = db
        self._sender = sender
        self._changed = changed
        self._wanted = asyncio.Event()
        self._ready: deque[Ready] = deque()

    def take(self, engine: HubEngine) -> Ready | None:
        """The batch that follows what has been sent, if it is ready and there is room; `changed` tells of the next."""
        if self._ready and self._ready[0].from_seq != engine.sent_upto + 1:
            self._ready.clear()  # the cloud has asked for something else meanwhile
        self._wanted.set()
        return self._ready.popleft() if self._ready and engine.room else None

    async def run(self, engine: HubEngine) -> None:
        """Keep batches ready, for as long as the conversation lasts."""

        def prepare(batch: Entries) -> Ready:
            upto_seq = batch.from_seq + len(batch.entries) - 1
            packed = pack(batch, compress=engine.compress(batch.from_seq))
            return Ready(batch.line, batch.from_seq, upto_seq, batch.upto_hash, packed)

        while True:
            self._wanted.clear()
            after = self._end(engine)
            if len(self._ready) >= READY_MAX or not engine.sending or self._db.head.seq <= after:
                await self._wanted.wait()
                continue
            found = await self._sender.prepared(after, READ_AT_ONCE, engine.batch_limits, prepare)
            if after == self._end(engine):
                self._ready.extend(found)
                self._changed.set()

    def _end(self, engine: HubEngine) -> int:
        return self._ready[-1].upto_seq if self._ready else engine.sent_upto
