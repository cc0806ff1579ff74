"""A system without libudev has a hub that trades and says that it does not see what is plugged in."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest

from hubd.daemon import PluggedLater
from hubd.model.device import Endpoint, EndpointKind
from tests.unit.services.shop import WAIT_S, shop_runtime


class Nothing:
    """Hears of no endpoint."""

    def appeared(self, endpoint: Endpoint) -> None:
        raise AssertionError(endpoint)

    def vanished(self, kind: EndpointKind, key: str) -> None:
        raise AssertionError(key)


async def test_it_says_so_once_and_looks_no_further(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pyudev", None)
    monkeypatch.delitem(sys.modules, "drivers.discovery.usb", raising=False)
    caplog.set_level(logging.WARNING)
    clock = shop_runtime().clock
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(PluggedLater(clock).run(Nothing()), name="looking")
        async with clock.timeout(WAIT_S):
            while "discovery.no_udev" not in caplog.messages:
                await clock.sleep(0.01)
        assert not looking.done()
        looking.cancel()
    assert caplog.messages.count("discovery.no_udev") == 1
