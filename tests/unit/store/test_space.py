"""Space: sales are refused before the disk is full, and the reserve lets what has begun come to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubd.store.space import Limits, SpaceGuard, SpaceState, free_bytes

LIMITS = Limits(reserve=100_000, low=1_000_000, low_again=1_200_000, critical=300_000, budget=10_000_000)


class Disk:
    """How much is free besides the reserve, as the test sets it."""

    def __init__(self, free: int, reserve: Path) -> None:
        self.free, self._reserve = free, reserve

    def measure(self, folder: Path) -> int:
        return self.free - (self._reserve.stat().st_size if self._reserve.exists() else 0)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(50_000_000, tmp_path / "reserve")


@pytest.fixture
def guard(tmp_path: Path, disk: Disk) -> SpaceGuard:
    return SpaceGuard(tmp_path, LIMITS, disk.measure)


def test_the_reserve_is_taken_when_there_is_room_and_really_takes_it(guard: SpaceGuard) -> None:
    space = guard.check()
    assert (space.state, space.reserve_held, space.refuses_sales) == (SpaceState.OK, True, False)
    assert guard.reserve.stat().st_blocks * 512 >= LIMITS.reserve


def test_sales_are_refused_long_before_the_disk_is_full_and_taken_again_with_a_gap(
    guard: SpaceGuard, disk: Disk
) -> None:
    guard.check()
    states = []
    for free in (1_000_000, 999_999, 1_000_001, 1_199_999, 1_200_000, 1_000_001):
        disk.free = free + LIMITS.reserve
        states.append(guard.check().state)
    assert states == [SpaceState.OK, SpaceState.LOW, SpaceState.LOW, SpaceState.LOW, SpaceState.OK, SpaceState.OK]
    assert guard.reserve.exists()


def test_the_reserve_is_given_up_when_almost_nothing_is_left_and_taken_again_later(
    guard: SpaceGuard, disk: Disk
) -> None:
    guard.check()
    disk.free = 299_999 + LIMITS.reserve
    space = guard.check()
    assert (space.state, space.reserve_held, space.free_bytes) == (SpaceState.CRITICAL, False, 399_999)
    assert guard.check().state is SpaceState.CRITICAL
    disk.free = 1_250_000
    assert guard.check().reserve_held is False
    disk.free = 1_300_000
    space = guard.check()
    assert (space.state, space.reserve_held) == (SpaceState.OK, True)


def test_the_hubs_own_data_has_a_budget(guard: SpaceGuard, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "big").write_bytes(bytes(11_000_000))
    space = guard.check()
    assert space.used_bytes >= 11_000_000
    assert space.state is SpaceState.LOW


def test_a_reserve_that_finds_no_room_is_no_reserve(tmp_path: Path) -> None:
    limits = Limits(reserve=2**60, low=2, low_again=2, critical=1, budget=10**9)
    guard = SpaceGuard(tmp_path, limits, lambda _: 2**61)
    assert not guard.check().reserve_held
    assert list(tmp_path.iterdir()) == []


def test_limits_must_rise() -> None:
    with pytest.raises(ValueError, match="must rise"):
        Limits(low=1, critical=2)


def test_the_real_disk_has_room(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > 0
