"""Manifests are read without imports; one device has one driver."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from drivers import escpos
from drivers.base import Manifest, Match, Mdns, Serial, Tcp, Tls, Usb, UsbClass
from drivers.registry import Entry, Registry, load, read_manifest
from drivers.zvt import MANIFEST, ZvtTerminal
from hubd.errors import DeviceError
from hubd.model.device import Endpoint, EndpointKind, IdentitySource


def seen(
    url: str,
    vid: int | None = None,
    pid: int | None = None,
    service: str = "",
    driver: str = "",
    usb_classes: tuple[int, ...] = (),
) -> Endpoint:
    kind = EndpointKind.MDNS if service else EndpointKind.CONFIGURED
    address = IdentitySource.ADDRESS
    return Endpoint(
        url,
        kind,
        url,
        url,
        address,
        service=service,
        usb_vid=vid,
        usb_pid=pid,
        usb_classes=usb_classes,
        driver=driver,
    )


def entry(driver_id: str, *matches: Match) -> Entry:
    manifest = Manifest(driver_id, driver_id, MANIFEST.kind, matches, MANIFEST.capabilities, "experimental", "", "X")
    return Entry(driver_id, manifest, factory=ZvtTerminal)


def test_the_literal_is_what_the_module_says() -> None:
    assert read_manifest("drivers.zvt") == MANIFEST
    assert [found.manifest for found in load([escpos.__name__, "drivers.zvt"]).entries] == [escpos.MANIFEST, MANIFEST]
    assert MANIFEST in [found.manifest for found in load().entries]


def test_best_match_wins() -> None:
    registry = Registry([entry("any", Tcp(20008)), entry("zvt", Tcp(20007), Usb(0x0B00, 0x0080))])
    assert registry.claim(seen("serial:///dev/ttyACM0", 0x0B00, 0x0080)).id == "zvt"  # type: ignore[union-attr]  # it was found
    assert registry.claim(seen("tcp://10.0.0.7:20007")).id == "zvt"  # type: ignore[union-attr]  # it was found
    assert registry.claim(seen("tcp://10.0.0.7:9100")) is None
    assert registry.claim(seen("tcp://10.0.0.7:20008")).id == "any"  # type: ignore[union-attr]  # it was found
    secured = Registry([entry("plain", Tcp(8443)), entry("nexo", Tls(8443))])
    assert secured.claim(seen("tls://10.0.0.7:8443?roots=/r.pem&poiid=V400m-1")).id == "nexo"  # type: ignore[union-attr]  # it was found
    assert secured.claim(seen("tls://10.0.0.7:443")) is None
    announced = Registry([entry("a", Mdns("_zvt._tcp.local.")), entry("b", Tcp(1))])
    assert announced.claim(seen("tcp://h:1", service="_zvt._tcp.local.")).id == "a"  # type: ignore[union-attr]  # it was found


def test_a_serial_line_is_nobodys_until_a_person_chooses() -> None:
    registry = Registry([entry("left", Serial(), Tcp(1)), entry("right", Serial()), entry("net", Tcp(2))])
    line = seen("serial:///dev/serial/by-id/usb-FTDI_FT232R-if00-port0")
    assert registry.claim(line) is None
    assert [manifest.id for manifest in registry.candidates(line)] == ["left", "right"]
    assert registry.candidates(seen("tcp://10.0.0.7:1")) == []
    named = registry.claim(seen("serial:///dev/ttyS0", driver="right"))
    assert named is not None
    assert named.id == "right"


def test_a_usb_device_is_claimed_by_its_class_unless_a_driver_knows_it_by_its_numbers() -> None:
    registry = Registry([entry("printer", UsbClass(7)), entry("acme", Usb(0x04B8, 0x0E03)), entry("any", Serial())])
    assert registry.claim(seen("usb://1-2", 0x0519, 1, usb_classes=(3, 7))).id == "printer"  # type: ignore[union-attr]  # it was found
    assert registry.claim(seen("usb://1-2", 0x04B8, 0x0E03, usb_classes=(7,))).id == "acme"  # type: ignore[union-attr]  # it was found
    assert registry.claim(seen("usb://1-2", 0x0519, 1, usb_classes=(3,))) is None
    built_in = load()
    for endpoint in (
        seen("usb://1-2", 0x04B8, 0x0202, usb_classes=(7,)),
        seen("tcp://10.0.0.9:9100"),
        raw(ty="EPSON TM-T88VI"),
        raw(pdl="application/octet-stream, application/vnd.epson.escpos"),
    ):
        assert built_in.claim(endpoint) == escpos.MANIFEST


def raw(**txt: str) -> Endpoint:
    return replace(seen("tcp://10.0.0.9:9100", service="_pdl-datastream._tcp.local."), txt=tuple(txt.items()))


@pytest.mark.parametrize(
    ("announced", "choices"),
    [
        (raw(pdl="application/postscript,application/vnd.hp-PCL", ty="HP LaserJet"), []),
        (raw(pdl="application/pdf", ty="Receipt printer of an office"), []),
        (raw(usb_cmd="ESCPL2,BDC,D4,ESCPR7", ty="EPSON ET-2850"), []),
        (raw(), ["escpos"]),
        (raw(ty="Network printer", pdl="application/octet-stream"), ["escpos"]),
        (raw(note="receipt PDF"), ["escpos"]),  # where it stands is no word of what it speaks
    ],
)
def test_a_raw_port_of_an_office_printer_is_not_offered_and_one_that_does_not_tell_is_a_choice(
    announced: Endpoint, choices: list[str]
) -> None:
    built_in = load(["drivers.escpos", "drivers.ipp"])
    assert built_in.claim(announced) is None
    assert [manifest.id for manifest in built_in.candidates(announced)] == choices


def test_an_announced_ipp_printer_is_for_ipp() -> None:
    found = load().claim(seen("tcp://10.0.0.9:9100/ipp/print", service="_ipp._tcp.local."))
    assert found is not None
    assert found.id == "ipp"
    for url in ("tcp://10.0.0.9:631/ipp/print", "tcp://10.0.0.9:631", "tls://10.0.0.9:631/ipp?roots=/r.pem&name=p"):
        found = load().claim(seen(url))
        assert found is not None
        assert found.id == "ipp"


def test_two_claims_on_one_device_are_an_error_that_names_both() -> None:
    registry = Registry([entry("left", Tcp(20007)), entry("right", Tcp(20007))])
    with pytest.raises(DeviceError, match="left and right both claim") as caught:
        registry.claim(seen("tcp://10.0.0.7:20007"))
    assert caught.value.code == "device.ambiguous"
    assert caught.value.params == {"first": "left", "second": "right"}
    named = registry.claim(seen("tcp://10.0.0.7:20007", driver="right"))
    assert named is not None
    assert named.id == "right"


def test_a_device_whose_only_driver_cannot_be_used_is_not_called_unknown() -> None:
    broken = entry("broken", Mdns("_acme._tcp.local."), Tcp(9))
    registry = Registry([Entry("broken", broken.manifest, reason="load_error: no licence"), entry("zvt", Serial())])
    assert registry.services() == ("_acme._tcp.local.",)
    with pytest.raises(DeviceError, match="no licence") as caught:
        registry.claim(seen("tcp://10.0.0.7:1", service="_acme._tcp.local."))
    assert caught.value.code == "device.driver_unusable"


HEAD = "from drivers.base import *\nfrom hubd.model.device import *\n"
GOOD = (
    'MANIFEST = Manifest(id="broken", name="B", kind=DeviceKind.TERMINAL, matches=(Tcp(1),), capabilities=frozenset('
    '{Capability.PAY}), stage="experimental", docs="", driver="B")\n'
)


@pytest.mark.parametrize(
    ("source", "reason", "listed"),
    [
        (HEAD + GOOD + "import a_module_that_is_not_installed\n", "load_error: ModuleNotFoundError", True),
        (HEAD + GOOD + "raise RuntimeError('no licence')\n", "load_error: RuntimeError: no licence", True),
        (HEAD + GOOD + "class B: ...\n", "config_error: B is not a driver", True),
        ("MANIFEST = Manifest(id=open('x'))\n", "config_error: a manifest is a literal", False),
        (GOOD.replace(' docs="",', ""), "config_error: Manifest:", False),
        ("x = 1\n", "config_error: broken_driver has no literal MANIFEST", False),
        ("MANIFEST = (\n", "config_error:", False),
    ],
)
def test_a_driver_that_cannot_be_used_is_listed_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str, listed: bool
) -> None:
    (tmp_path / "broken_driver.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "broken_driver", raising=False)
    registry = load(["broken_driver", "drivers.zvt"])
    broken = registry.entries[0]
    assert reason in broken.reason
    assert (broken.manifest is not None) is listed
    assert registry.manifest("zvt") == MANIFEST
    if listed:
        with pytest.raises(DeviceError, match="cannot be used"):
            registry.factory("broken")


def test_unknown_driver_names_the_known_ones() -> None:
    with pytest.raises(DeviceError, match=r"Known drivers: .*\bzvt\b"):
        load().factory("acme")


def test_a_driver_is_imported_when_it_is_first_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, more in (
        ("good_driver", "class B(TerminalDriver): ...\n"),
        ("bad_driver", "raise OSError('no licence')\n"),
    ):
        manifest = GOOD.replace('id="broken"', f'id="{name}"')
        (tmp_path / f"{name}.py").write_text(HEAD + manifest + more)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = load(["good_driver", "bad_driver"], at_once=False)
    assert (registry.loaded("good_driver"), registry.loaded("bad_driver")) == (False, False)
    assert "good_driver" not in sys.modules
    assert registry.manifest("bad_driver").id == "bad_driver", "nothing is known against it yet"
    registry.load("good_driver")
    assert registry.loaded("good_driver")
    assert registry.factory("good_driver").__name__ == "B"
    with pytest.raises(DeviceError, match="no licence"):
        registry.factory("bad_driver")
    assert registry.loaded("bad_driver"), "it is known to be unusable now"
    assert registry.loaded("acme"), "there is nothing to import"
