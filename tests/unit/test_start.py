"""The start of the process: nothing searches for garbage until the hub trades, and everything does afterwards."""

import gc

import pytest

from hubd.main import without_collector


def test_the_collector_rests_until_the_hub_has_started() -> None:
    frozen = gc.get_freeze_count()
    try:
        with without_collector() as started:
            assert not gc.isenabled()
            started()
            assert gc.isenabled()
            assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()


def test_a_hub_that_does_not_start_leaves_the_collector_on() -> None:
    def fail() -> None:
        with without_collector():
            raise RuntimeError("port taken")

    with pytest.raises(RuntimeError):
        fail()
    assert gc.isenabled()
