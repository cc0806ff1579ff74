"""One virtual machine with the hub as its service, for all tests of this layer; each unplugs what it plugged in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rigs.vm import VirtualMachine
from tests.rigs.vm_hub import MachineHub, install
from tests.rigs.vm_image import image


@pytest.fixture(scope="session")
def machine() -> Iterator[VirtualMachine]:
    """A machine from the snapshot, with the hub installed, started and set up."""
    with VirtualMachine(image()) as started:
        install(started)
        yield started


@pytest.fixture(scope="session")
def shop(machine: VirtualMachine) -> MachineHub:
    """The hub with a place and an owner who looks at its page."""
    hub = MachineHub(machine)
    hub.open_shop()
    return hub


@pytest.fixture
def hub(shop: MachineHub) -> Iterator[MachineHub]:
    """The hub with nothing plugged in, before and after."""
    yield shop
    shop.clear()
