"""Hearing the terminals of an outage: each must have answered once since it ended before anybody says that all is well.

A terminal that took payments while its line was cut may hold what nobody knows of. Its first answer after the outage is
one entry, at most one for each terminal and outage; the cloud's statement stays provisional until it has it (design 7).
"""

from __future__ import annotations

import asyncio
import logging

from hubd.errors import StoreError
from hubd.model.entry import Draft
from hubd.model.mode import ModeSnapshot
from hubd.model.statement import TERMINAL_HEARD
from hubd.runtime import Runtime
from hubd.services.outages import OutageDesk
from hubd.services.terminals import Terminals
from hubd.store import journal, outages
from hubd.store.db import Database
from hubd.store.outages import Unheard
from hubd.store.tx import Tx

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 2.0
"""Pause between looks while a terminal is still to be heard; without one nothing is looked at until something moves."""


class Hearing:
    """Writes down which terminals have been heard since the outage in which they were used."""

    def __init__(self, db: Database, runtime: Runtime, terminals: Terminals, outage_desk: OutageDesk) -> None:
        self._db = db
        self._clock = runtime.clock
        self._terminals = terminals
        self._outages = outage_desk
        self._moved = asyncio.Event()
        terminals.watch(self._terminal_moved)
        outage_desk.listen(self._mode_moved)

    async def watch(self) -> None:
        """Look whenever a terminal or the mode has moved, and again while somebody is still to be heard."""
        while True:
            self._moved.clear()
            try:
                waiting = await self.look()
            except StoreError as exc:
                log.warning("hearing.waits_for_disk", extra={"code": exc.code})
                waiting = True
            if waiting:
                await self._clock.sleep(LOOK_AGAIN_S)
            else:
                await self._moved.wait()

    async def look(self) -> bool:
        """Note every terminal that has answered since its outage ended; whether one is still to be heard."""
        over = [one for one in await self._db.read("hearing.unheard", outages.unheard) if one.ended]
        heard = [one for one in over if self._was_heard(one)]
        if heard:
            await self._db.write("hearing.heard", lambda tx: _note(tx, heard))
        return len(over) > len(heard)

    def _was_heard(self, one: Unheard) -> bool:
        status = self._terminals.status(one.terminal)
        if status is None or status.last_answer_monotonic is None:
            return False
        return status.last_answer_monotonic >= self._outages.ended_s(one.outage)

    def _terminal_moved(self, _terminal_id: str) -> None:
        self._moved.set()

    def _mode_moved(self, _snapshot: ModeSnapshot) -> None:
        self._moved.set()


def _note(tx: Tx, heard: list[Unheard]) -> None:
    waiting = set(outages.unheard(tx.connection))
    for one in heard:
        if one in waiting:
            journal.append(tx, Draft(TERMINAL_HEARD, one.outage, "hub", {"terminal": one.terminal}))
