"""Options that belong to the line and not to the driver: how a serial line is set, whether a keyboard is taken away.

They are kept with the device and laid over whatever its address says, so they follow it from plug to plug.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import parse_qsl, urlencode, urlsplit

from msgspec.structs import replace

from hubd.model.device_options import Option, OptionKind

GRAB = "grab"
"""`1`: a device that types is taken from the console."""
_SERIAL = (
    Option(
        "baud",
        OptionKind.CHOICE,
        "Speed of the line",
        "As the device's own menu or manual says, in baud.",
        default="115200",
        choices=("1200", "2400", "4800", "9600", "19200", "38400", "57600", "115200"),
    ),
    Option(
        "data_bits",
        OptionKind.CHOICE,
        "Data bits",
        "Eight, unless the device's manual says seven.",
        default="8",
        choices=("8", "7"),
    ),
    Option(
        "parity",
        OptionKind.CHOICE,
        "Parity",
        "None, unless the device's manual says even or odd.",
        default="none",
        choices=("none", "even", "odd"),
    ),
    Option(
        "stop_bits",
        OptionKind.CHOICE,
        "Stop bits",
        "As the device's own menu or manual says.",
        default="2",
        choices=("1", "2"),
    ),
)
_EVDEV = (
    Option(
        GRAB,
        OptionKind.CHOICE,
        "Take it from the console",
        "With 1 what it reads reaches the tills only; with 0 it is typed on the hub's own console too.",
        default="0",
        choices=("0", "1"),
        after=("layout", "keys"),
    ),
)
LINE_OPTIONS: Mapping[str, tuple[Option, ...]] = MappingProxyType({"serial": _SERIAL, "evdev": _EVDEV})
"""By the scheme of an address."""


def line_options(url: str) -> tuple[Option, ...]:
    """Those of the line at this address; what the address says is their default."""
    parts = urlsplit(url)
    said = dict(parse_qsl(parts.query))
    return tuple(
        replace(option, default=said.get(option.name, option.default)) for option in LINE_OPTIONS.get(parts.scheme, ())
    )


def with_line(url: str, options: Mapping[str, str]) -> str:
    """The address with what is set of its line laid over what it says itself."""
    parts = urlsplit(url)
    mine = {one.name for one in LINE_OPTIONS.get(parts.scheme, ())} & options.keys()
    if not mine:
        return url
    query = dict(parse_qsl(parts.query)) | {name: options[name] for name in sorted(mine)}
    return f"{url.partition('?')[0]}?{urlencode(query)}"
