"""A text is cut only after it was searched: what a cut leaves of a card number is not known for one any more."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from drivers.discovery.announcement import endpoint_of
from drivers.discovery.plugged import Node, Plugged, endpoints_of
from drivers.kit.virtual_time import VirtualClock, run
from drivers.nexo_codec import TEXT_CHARACTERS_MAX, scrub
from drivers.opi_codec import TEXT_CHARS_MAX, clean_line, clean_value
from drivers.trace import TEXT_MAX, Trace, TraceLimits
from hubd.logs import VALUE_BYTES_MAX, redacted
from hubd.model.device import ENDPOINT_NAME_MAX, TXT_VALUE_MAX
from hubd.ports import Way
from tests.rigs.card_search import CardSearch

NUMBER = "5204739684211358"
SEARCH = CardSearch([NUMBER])
SERVICE = "_zvt._tcp.local."


def traced(text: str) -> str:
    async def main() -> str:
        trace = Trace(VirtualClock(), TraceLimits())
        trace.note(Way.FROM_DEVICE, [text])
        return trace.lines()[0].text

    return run(main())


def announced(text: str) -> str:
    seen = endpoint_of(SERVICE, f"{text[-63:]}.{SERVICE}", ("192.168.1.7",), 20007, {b"note": text.encode()})
    return repr(replace(seen, key="", identity=""))


KEEPERS: dict[str, tuple[Callable[[str], str], int]] = {
    "opi value": (clean_value, TEXT_CHARS_MAX),
    "opi line": (clean_line, TEXT_CHARS_MAX),
    "nexo line": (scrub, TEXT_CHARACTERS_MAX),
    "trace": (traced, TEXT_MAX),
    "log": (redacted, VALUE_BYTES_MAX),
    "announced text": (announced, TXT_VALUE_MAX),
    "announced name": (announced, ENDPOINT_NAME_MAX),
}


@pytest.mark.parametrize("keeper", KEEPERS)
@pytest.mark.parametrize("left", range(1, len(NUMBER) + 1))
def test_a_number_that_a_cut_goes_through_is_not_told(keeper: str, left: int) -> None:
    keep, longest = KEEPERS[keeper]
    for number in (NUMBER, " ".join(NUMBER[at : at + 4] for at in range(0, 16, 4))):
        told = keep("x" * (longest - left - 1) + " " + number + " and more")
        assert not SEARCH.found(told), told
        assert len(told) > longest // 2 or keeper.startswith("announced"), "the rest of the text is gone"


@pytest.mark.parametrize("name", ["ID_SERIAL_SHORT", "ID_MODEL", "ID_VENDOR"])
@pytest.mark.parametrize("written", [NUMBER, "5204_7396_8421_1358", f";{NUMBER}=29121010000?"])
def test_the_strings_of_a_plugged_device_bring_no_card_in(name: str, written: str) -> None:
    link = f"/dev/serial/by-id/usb-ACME_{written}-if00"
    node = Node("tty", "/dev/ttyACM0", "/sys/1-2/1-2:1.0/tty/ttyACM0", {"DEVLINKS": f"{link} /dev/serial/by-path/p1"})
    told = {"ID_VENDOR_ID": "0c2e", "ID_MODEL_ID": "0b61", "ID_USB_INTERFACES": ":020201:", "ID_SERIAL_SHORT": "S1"}
    (seen,) = endpoints_of([Plugged("/sys/1-2", "1-2", {**told, name: written}, [node])], ()).values()
    assert not SEARCH.found(repr(seen)), seen
    assert seen.url == "serial:///dev/serial/by-path/p1"
    assert seen.name, "it is called by its numbers then"
