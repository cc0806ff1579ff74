"""The recovery code between its making and the moment a person has written it down (docs/adr/0015).

The code opens the hub's backups, so it never lies on the hub's disk; only its public key does. Until a person confirms
that it is on paper, this process holds it in memory and shows it to the owner again: an answer that is lost on the way
loses nothing. If the process ends before, the code is gone, and the owner makes a new one in its place.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from hubd.errors import AccessError
from hubd.health import Problems
from hubd.model.permissions import Permission
from hubd.runtime import Runtime
from hubd.services.access import Caller
from hubd.store import backup
from hubd.store.backup import NewRecovery
from hubd.store.db import Database
from hubd.store.tx import Tx

log = logging.getLogger(__name__)

OWNER_ONLY = Permission.LOCATIONS_MANAGE
UNCONFIRMED = "backup.code_unconfirmed"


@dataclass(frozen=True, slots=True)
class RecoveryState:
    """What the owner may see of the code."""

    confirmed: bool
    """Also before set-up, when there is no code yet."""
    id: str = ""
    """Names the code in a confirmation, so that nobody confirms another one than he has read. It opens nothing."""
    code: str = field(default="", repr=False)
    """Empty once it is confirmed, and when this process never knew it."""


class RecoveryDesk:
    """Holds codes that nobody has confirmed; remembers nothing else."""

    def __init__(self, db: Database, runtime: Runtime, problems: Problems) -> None:
        self._db = db
        self._runtime = runtime
        self._problems = problems
        self._held: dict[str, NewRecovery] = {}
        self._one_at_a_time = asyncio.Lock()

    async def load(self) -> None:
        """Say at the start if a code was never confirmed."""
        await self._note()

    async def hold_new(self) -> NewRecovery:
        """Make a code and hold it: before it is on disk, so that no crash or cancellation finds it there alone."""
        made = await asyncio.to_thread(backup.new_recovery, self._runtime.ids)
        self._held[made.id] = made
        return made

    async def settled(self) -> None:
        """What was to be written has been, or has failed: forget codes that the store does not name."""
        await self._note()

    async def state(self, caller: Caller) -> RecoveryState:
        """The code while it is unconfirmed. For the owner alone."""
        caller.need(OWNER_ONLY)
        return await self._state()

    async def make_again(self, caller: Caller) -> RecoveryState:
        """Put a new code in the place of one that is lost: unconfirmed, and not held here. Else nothing changes."""
        caller.need(OWNER_ONLY)
        async with self._one_at_a_time:
            before = await self._state()
            if before.confirmed or before.code:
                return before
            made = await self.hold_new()

            def work(tx: Tx) -> None:
                if backup.unconfirmed_recovery(tx.connection) == before.id:
                    backup.set_recovery(tx, made)

            try:
                await self._db.write("recovery.make_again", work)
            finally:
                await self._note()
            log.info("recovery.made_again", extra={"staff_id": caller.staff})
            return await self._state()

    async def confirm(self, code_id: str, caller: Caller) -> None:
        """A person has this code on paper; it is told no more. Again: nothing happens.

        Raises `recovery.other_code` when another code has taken its place meanwhile.
        """
        caller.need(OWNER_ONLY)

        def work(tx: Tx) -> bool:
            present = backup.unconfirmed_recovery(tx.connection)
            if present == code_id:
                backup.confirm_recovery(tx)
            return present in {code_id, ""}

        if not await self._db.write("recovery.confirm", work):
            raise AccessError(
                "recovery.other_code",
                "Another recovery code has been made since.",
                remedy="Write down the one that is shown now.",
            )
        await self._note()
        log.info("recovery.confirmed", extra={"staff_id": caller.staff})

    async def _state(self) -> RecoveryState:
        present = await self._db.read("recovery.state", backup.unconfirmed_recovery)
        held = self._held.get(present)
        return RecoveryState(not present, present, held.code if held else "")

    async def _note(self) -> None:
        present = await self._db.read("recovery.state", backup.unconfirmed_recovery)
        self._problems.set(bool(present), UNCONFIRMED)
        for other in set(self._held) - {present}:
            del self._held[other]
