"""One of thirty devices talks as fast as its line takes it: it is shown, and everybody else goes on.

How little they notice of it is measured by `bench/devices.py`, whose shop this is.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.devices import BABBLERS, PAUSES_S, Seen, name_of, rig
from hubd.runtime import system_runtime

SHOWN_S_MAX = 60.0
CLOCK = system_runtime().clock


@pytest.mark.timeout(300)
async def test_a_babbling_device_is_shown_and_the_shop_goes_on(tmp_path: Path) -> None:
    async with rig(tmp_path, 20) as made:
        for kind in BABBLERS:
            assert await made.problem_of(name_of(kind)) == ""
            await made.bank.tell("babble", kind)
            async with CLOCK.timeout(SHOWN_S_MAX):
                while not await made.problem_of(name_of(kind)):
                    pass
            seen = Seen()
            await made.load(seen, 1.0)  # raises for an answer that is not good, and for a payment that is not approved
            assert all(seen.waits[call] for call in PAUSES_S)
            await made.bank.tell("well")
