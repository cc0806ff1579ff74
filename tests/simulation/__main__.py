"""`python -m tests.simulation --seeds 200`: simulate many stores; the first line of output per failure replays it."""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from os import cpu_count
from time import perf_counter

from tests.simulation.plants import PLANTS
from tests.simulation.run import DEFAULT_HOURS, Result, simulate

EVERY = "every"
"""As a plant: all of them, one after the other."""


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _one(seed: int, *, hours: float, verbose: bool, plant: str) -> Result:
    return simulate(seed, hours=hours, verbose=verbose, plant=plant)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--hours", type=float, default=DEFAULT_HOURS, help="how long each shop is open")
    parser.add_argument("--jobs", type=int, default=cpu_count() or 1)
    parser.add_argument(
        "--plant", choices=[*sorted(PLANTS), EVERY], default="", help="make this bug and stop when it is found"
    )
    parser.add_argument("--verbose", action="store_true", help="print every step")
    given = parser.parse_args()
    if given.plant == EVERY:
        found = [_run(given, plant) for plant in sorted(PLANTS)]
        return 0 if all(found) else 1
    return 0 if _run(given, given.plant) else 1


def _run(given: argparse.Namespace, plant: str) -> bool:
    """All seeds; with a plant, until one of them finds it. Whether that went as it should."""
    seeds = range(given.first, given.first + given.seeds)
    one = partial(_one, hours=given.hours, verbose=given.verbose, plant=plant)
    started = perf_counter()
    failed: list[Result] = []
    ran = steps = sales = 0

    def note(result: Result) -> None:
        nonlocal ran, steps, sales
        ran, steps, sales = ran + 1, steps + result.steps, sales + result.sales
        if result.violation is None:
            return
        failed.append(result)
        more = "" if given.hours == DEFAULT_HOURS else f" --hours {given.hours:g}"
        more += f" --plant {plant}" if plant else ""
        print(result.line(_commit(), f".venv/bin/python -m tests.simulation --first {result.seed} --seeds 1{more}"))
        if given.verbose:
            for error in result.errors:
                print(error)
        sys.stdout.flush()

    if given.seeds == 1 or given.jobs == 1:
        for seed in seeds:
            note(one(seed))
            if plant and failed:
                break
    else:
        with ProcessPoolExecutor(given.jobs) as pool:
            for result in pool.map(one, seeds):
                note(result)
                if plant and failed:
                    pool.shutdown(cancel_futures=True)
                    break
    took = perf_counter() - started
    print(
        f"{ran} seeds, {len(failed)} failed: {sales} sales in {steps} steps,"
        f" {given.hours * ran:g} shop hours in {took:.1f} s"
    )
    if plant:
        print(f"{plant}: {'found' if failed else 'NOT FOUND'}", flush=True)
    return bool(failed) == bool(plant)


if __name__ == "__main__":
    sys.exit(main())
