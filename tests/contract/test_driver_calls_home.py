"""What every terminal driver must keep that can tell its terminal to call home (domain D07, D15)."""

from __future__ import annotations

from drivers.kit.virtual_time import run
from hubd.model.device import Capability
from tests.contract.terminal_bench import bench, terminals_that
from tests.contract.test_driver_contract import pay_again


@terminals_that(Capability.PARAMETER_SESSION, Capability.TMS_CONTACT)
def test_calls_home_end_by_the_terminals_word_and_not_otherwise(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            terminal = made.terminal
            assert (await terminal.parameter_session()).done
            assert made.simulator.called_home == ["parameter_session"]
            assert (await terminal.tms_contact()).done
            assert made.simulator.called_home == ["parameter_session", "tms_contact"]
            made.simulator.faults.says = "Configuration échouée"
            for ask in (terminal.parameter_session, terminal.tms_contact):
                failed = await ask()
                assert not failed.done
                assert failed.reason
                assert "Configuration échouée" in failed.text
            made.simulator.faults.clear()
            made.simulator.faults.silent = True
            lost = await terminal.tms_contact()
            assert (lost.done, lost.reason) == (False, "no_answer"), "a lost answer is not done"
            made.simulator.faults.clear()
            await made.ready()
            await pay_again(made)

    run(main())
