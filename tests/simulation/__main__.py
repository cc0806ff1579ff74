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
    parser.add_argument("--plant", choices=sorted(PLANTS), default="", help="make this bug and stop when it is found")
    parser.add_argument("--verbose", action="store_true", help="print every step")
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    one = partial(_one, hours=given.hours, verbose=given.verbose, plant=given.plant)
    started = perf_counter()
    failed: list[Result] = []
    ran = steps = sales = 0

    def note(result: Result) -> None:
        nonlocal ran, steps, sales
        ran, steps, sales = ran + 1, steps + result.steps, sales + result.sales
        if result.violation is None:
            return
        failed.append(result)
        plant = f" --plant {given.plant}" if given.plant else ""
        hours = "" if given.hours == DEFAULT_HOURS else f" --hours {given.hours:g}"
        command = f".venv/bin/python -m tests.simulation --first {result.seed} --seeds 1{hours}{plant}"
        print(result.line(_commit(), command))
        if given.verbose:
            for error in result.errors:
                print(error)
        sys.stdout.flush()

    if given.seeds == 1 or given.jobs == 1:
        for seed in seeds:
            note(one(seed))
            if given.plant and failed:
                break
    else:
        with ProcessPoolExecutor(given.jobs) as pool:
            for result in pool.map(one, seeds):
                note(result)
                if given.plant and failed:
                    pool.shutdown(cancel_futures=True)
                    break
    took = perf_counter() - started
    print(
        f"{ran} seeds, {len(failed)} failed: {sales} sales in {steps} steps,"
        f" {given.hours * ran:g} shop hours in {took:.1f} s"
    )
    if given.plant:
        print(f"{given.plant}: {'found' if failed else 'NOT FOUND'}")
        return 0 if failed else 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
