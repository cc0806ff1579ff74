"""How long an outage has lasted: exact within a boot, an interval across power cuts, unbounded without a witness."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hubd.model.elapsed import WITNESS_SLACK_MS, Anchor, Interval, Now, elapsed

BOOT_A, BOOT_B = b"a" * 16, b"b" * 16
T0_US = 1_795_000_000_000_000
HOUR_MS = 3_600_000


def test_within_a_boot_it_is_exact_whatever_the_wall_clock_says() -> None:
    anchor = Anchor(BOOT_A, 5_000, None)
    assert elapsed(anchor, Now(BOOT_A, 65_000, 0, trusted=False)) == Interval(60_000, 60_000)
    assert elapsed(anchor, Now(BOOT_A, 65_000, T0_US * 2, trusted=True)).exact


def test_across_a_power_cut_trusted_clocks_bound_it() -> None:
    anchor = Anchor(BOOT_A, 5_000, T0_US)
    now = Now(BOOT_B, 60_000, T0_US + 2 * HOUR_MS * 1000, trusted=True)
    assert elapsed(anchor, now, 30_000) == Interval(2 * HOUR_MS - WITNESS_SLACK_MS, 2 * HOUR_MS + WITNESS_SLACK_MS)


def test_without_a_witness_there_is_no_upper_bound() -> None:
    assert elapsed(Anchor(BOOT_A, 0, None), Now(BOOT_B, 60_000, T0_US, trusted=True), 5_000) == Interval(65_000, None)
    assert elapsed(Anchor(BOOT_A, 0, T0_US), Now(BOOT_B, 60_000, T0_US, trusted=False)) == Interval(60_000, None)


def test_clock_that_contradicts_the_machine_is_no_witness_for_less() -> None:
    now = Now(BOOT_B, HOUR_MS, T0_US + 1_000_000, trusted=True)  # trusted, yet it says one second has passed
    assert elapsed(Anchor(BOOT_A, 0, T0_US), now).least_ms == HOUR_MS


@settings(deadline=None)  # a busy machine is not a wrong answer
@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(-(2**50), 2**50), st.integers(0, 2**40), st.booleans())
def test_least_is_never_above_most_and_never_below_the_machine_s_own_count(
    began: int, mono: int, drift_us: int, between: int, trusted: bool
) -> None:
    found = elapsed(Anchor(BOOT_A, began, T0_US), Now(BOOT_B, mono, T0_US + drift_us, trusted), between)
    assert found.least_ms >= mono + between
    assert found.most_ms is None or found.most_ms >= found.least_ms
    assert (found.most_ms is None) is not trusted
