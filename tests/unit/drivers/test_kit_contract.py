"""The kit's contract passes a driver that keeps it, and finds what breaks it."""

from __future__ import annotations

import pytest

from drivers.faces import AnyFace, RunnerScale
from drivers.kit.contract import Answer, Check, Contract, checks
from drivers.scale_line import WEIGH_TIMEOUT_S
from drivers.sim.scale import ToledoSimulator
from drivers.toledo8217 import Toledo8217Scale
from hubd.ports import NoWeight, Weight


class BelievingScale(Toledo8217Scale):
    """Takes whatever comes for the answer, once, and goes on after silence as if nothing had happened."""

    async def weigh(self) -> Weight | NoWeight:
        try:
            return await self._weigh_once(self._attached())
        except TimeoutError:
            return NoWeight("no_answer")
        except OSError:
            return NoWeight("unreachable")


class PatientScale(Toledo8217Scale):
    """Waits as long as it takes."""

    async def weigh(self) -> Weight | NoWeight:
        said = await super().weigh()
        while isinstance(said, NoWeight):
            await self._clock.sleep(1)
            said = await super().weigh()
        return said


async def ask(face: AnyFace, simulator: ToledoSimulator) -> Answer:
    assert isinstance(face, RunnerScale)
    simulator.grams += 7
    truth = Weight(simulator.grams)
    said = await face.weigh()
    if isinstance(said, NoWeight):
        return Answer.NONE
    return Answer.RIGHT if said == truth else Answer.WRONG


def contract_of(driver: type[Toledo8217Scale]) -> Contract[ToledoSimulator]:
    return Contract(driver, "tcp://scale:4001", ToledoSimulator, ask, answers_within_s=WEIGH_TIMEOUT_S + 0.1)


@pytest.mark.parametrize("check", checks(contract_of(Toledo8217Scale)), ids=str)
def test_a_driver_that_keeps_the_contract_passes(check: Check[ToledoSimulator]) -> None:
    check.run()


@pytest.mark.parametrize("driver", [BelievingScale, PatientScale])
def test_a_driver_that_breaks_it_is_found_with_the_place(driver: type[Toledo8217Scale]) -> None:
    found = []
    for check in checks(contract_of(driver)):
        try:
            check.run()
        except* AssertionError as broken:
            found.append((check.name, str(broken.exceptions[0])))
    assert found, "nothing was found"
