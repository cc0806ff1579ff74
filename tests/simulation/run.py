"""One run, and what to say about it."""

from __future__ import annotations

import logging
import shutil
import tempfile
import traceback
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from drivers.kit import virtual_time
from tests.simulation.faults import Options, draw
from tests.simulation.plants import PLANTS
from tests.simulation.seeded import stream
from tests.simulation.trace import Trace, Violation
from tests.simulation.world import Store

FAST = Path("/dev/shm")
DEFAULT_HOURS = 0.4
STEPS_MAX, STEPS_AN_HOUR_MAX = 5_000, 10_000
"""A run that needs more goes round in circles."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended."""

    seed: int
    steps: int
    digest: str
    violation: Violation | None
    errors: tuple[str, ...]
    sales: int

    def line(self, commit: str, command: str) -> str:
        """One line for a failure: what broke, and what to type to see it again."""
        assert self.violation is not None, "a run that was fine has no failure"
        found = self.violation
        return (
            f"seed={self.seed} commit={commit} step={found.step} broken: {found.invariant}: {found.detail}"
            f" | replay: {command}"
        )


def simulate(
    seed: int,
    *,
    hours: float = DEFAULT_HOURS,
    options: Options | None = None,
    plant: str = "",
    verbose: bool = False,
) -> Result:
    """Run one seed to its end; the same seed gives the same steps. `plant` names a bug to make meanwhile."""
    chosen = options or draw(stream(seed, "options"), hours)
    folder = Path(tempfile.mkdtemp(prefix="hubd-sim-", dir=FAST if FAST.is_dir() else None))
    logging.disable(logging.NOTSET if verbose else logging.CRITICAL)
    stores: list[Store] = []
    steps_max = STEPS_MAX + round(STEPS_AN_HOUR_MAX * chosen.hours)

    async def main() -> None:
        stores.append(Store(seed, chosen, folder, Trace(verbose=verbose, steps_max=steps_max)))
        await stores[0].run()

    try:
        with PLANTS[plant]() if plant else nullcontext():
            try:
                virtual_time.run(main(), seed)
            except virtual_time.DeadlockError as error:
                trace = stores[0].trace
                trace.violation = trace.violation or Violation("nothing hangs", str(error), trace.steps)
    finally:
        logging.disable(logging.NOTSET)
        for run in stores:
            run.put_away()
        shutil.rmtree(folder)
    store = stores[0]
    trace = store.trace
    sales = sum(len(till.sales) for till in store.tills)
    errors = tuple("".join(traceback.format_exception(error)) for error in store.errors)
    return Result(seed, trace.steps, trace.digest, trace.violation, errors, sales)
