"""The simulation in `make test`: some seeds are fine, the same seed is the same run, and planted bugs are found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.plants import PLANTS
from tests.simulation.run import simulate

SEEDS = (1, 2, 3, 7, 14, 17, 20, 24)
"""Half of them have a restore in their story, half a clone."""
FOUND = {
    "confirm-before-commit": (1, "what is confirmed is in the cloud"),
    "cursor-on-puback": (1, "what is confirmed is in the cloud"),
    "retry-after-unknown": (2, "one payment, one charge"),
    "answer-before-commit": (1, "nothing acknowledged is lost"),
    "charge-before-intent": (9, "a charged payment is never declined"),
    "duplicates-by-seq": (17, "what is confirmed is in the cloud"),
    "confirm-what-was-lost": (1, "the cloud confirms what the hub has written"),
}
"""Seeds that are known to find a planted bug, and the promise that it breaks."""
pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_store_with_faults_keeps_every_promise(seed: int) -> None:
    result = simulate(seed)
    assert result.violation is None
    assert result.sales > 10


def test_the_same_seed_is_the_same_run_in_another_process() -> None:
    """Sets and dictionaries of text are in another order there: nothing in the run may depend on it."""
    program = "from tests.simulation.run import simulate; print(simulate(5, hours=0.2).digest)"
    root = Path(__file__).parents[2]
    digests = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=root,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert digests[0] == digests[1]
    assert digests[0].strip() == simulate(5, hours=0.2).digest


def test_another_seed_is_another_run() -> None:
    assert simulate(5, hours=0.05).digest != simulate(6, hours=0.05).digest


@pytest.mark.parametrize("plant", sorted(FOUND))
def test_a_planted_bug_is_found(plant: str) -> None:
    seed, promise = FOUND[plant]
    violation = simulate(seed, plant=plant).violation
    assert violation is not None, "the simulation cannot fail"
    assert violation.invariant == promise


def test_every_planted_bug_has_its_seed() -> None:
    assert FOUND.keys() == PLANTS.keys()
