"""What every terminal driver must keep whose protocol tells name or version of the terminal's software (D14, D15)."""

from __future__ import annotations

from drivers.kit.virtual_time import run
from hubd.model.device import Capability
from tests.contract.terminal_bench import bench, terminals_that

CARD = "4111111111111111"


@terminals_that(Capability.TELLS_SOFTWARE)
def test_the_software_is_told_with_each_sign_of_life_and_the_last_word_counts(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            told = await made.runner.look()
            assert told.endswith("sim_1")
            assert made.terminal.status.software == told
            made.simulator.software = "sim_2"
            assert await made.runner.look() == made.terminal.status.software
            assert made.terminal.status.software.endswith("sim_2")
            made.simulator.software = ""
            assert await made.runner.look() == "", "what it says no more is not made up"

    run(main())


@terminals_that(Capability.TELLS_SOFTWARE)
def test_a_card_number_where_the_software_should_stand_goes_no_further(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            made.simulator.software = CARD
            assert CARD not in await made.runner.look()
            assert CARD not in made.terminal.status.software

    run(main())


@terminals_that(Capability.TELLS_SOFTWARE, Capability.TMS_CONTACT)
def test_the_software_after_a_call_home_is_the_one_that_it_brought(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            made.simulator.update = "sim_2"
            assert (await made.terminal.tms_contact()).done
            assert (await made.runner.look()).endswith("sim_2")

    run(main())


@terminals_that()
def test_a_driver_that_does_not_claim_it_tells_nothing(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            told = await made.runner.look()
            assert bool(told) is (Capability.TELLS_SOFTWARE in made.terminal.capabilities)

    run(main())
