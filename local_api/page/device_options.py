"""What is set of one device, as a form that follows from its driver's declaration; and the test code of scanners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup, escape
from msgspec import Struct

from hubd.errors import HubError
from hubd.model import code128
from hubd.model.device_options import OptionKind
from hubd.model.permissions import Permission
from hubd.model.scanner_test import TEST_CODE
from hubd.services.device_options import OptionsView, OptionView, Source
from hubd.services.devices import DeviceView
from local_api.page.render import qr_svg
from local_api.page.screen import Answer, Screen, redirect

FIELD, FORGET = "option.", "forget."
GRAB, LAYOUT, KEYS = "grab", "layout", "keys"
"""Options of a scanner that types."""
BAR_UNITS = 60
"""How high the bars of the test code are, in modules."""


_REFUSED = frozenset(
    {
        "no_printer",
        "device.busy",
        "device.option_invalid",
        "device.option_unknown",
        "device.option_too_early",
        "changed_meanwhile",
    }
)


class Row(Struct, frozen=True):
    """One field of the form."""

    name: str
    kind: str
    title: str
    why: str
    value: str
    choices: tuple[tuple[str, str], ...]
    least: int
    most: int
    hint: str
    can_be_forgotten: bool
    """Whether it is a secret that is set: it is not shown, so it is taken back by a box of its own."""


class Scanner(Struct, frozen=True):
    """A scanner that types."""

    layout: str
    """For which keyboard it is set; empty: nobody knows yet."""
    grabbed: bool
    bars: Markup
    code: Markup


async def values(screen: Screen, view: DeviceView) -> dict[str, Any]:
    """What `device_options.html` says of a device: nothing where the person may not change it, or nothing can be."""
    device = view.device
    manages = bool(device.driver) and screen.who.may_at(Permission.DEVICES_MANAGE, device.location)
    found = await screen.services.options.of(device.id) if manages else None
    if found is None or not found.options:
        return {"options": None, "scanner": None, "kept": ""}
    rows = [_row(screen, one) for one in found.options if _is_asked(one)]
    return {"options": found, "rows": rows, "scanner": _scanner(screen, found), "kept": _kept(screen)}


async def set_options(screen: Screen) -> Answer:
    """Keep what the form says; what is as it was stays as it came."""
    form, found = screen.form(), await screen.services.options.of(screen.id())
    said = _kept_aside(found)
    for one in found.options:
        name, typed = one.option.name, form.get(FIELD + one.option.name, "").strip()
        if not _is_asked(one):
            continue
        if one.option.kind is OptionKind.SECRET:
            if typed or form.get(FORGET + name):
                said[name] = typed or None
        elif typed and (typed != one.value or one.source is Source.SET):
            said[name] = typed
    return await _put(screen, said, form.get("version", ""))


async def grab(screen: Screen) -> Answer:
    """Take a scanner that types from the console, or give it back: only ever because a person says so."""
    form, found = screen.form(), await screen.services.options.of(screen.id())
    said = {**_set_now(found), GRAB: "1" if form.get("value") == "1" else "0"}
    return await _put(screen, said, str(found.version))


async def test_code(screen: Screen) -> Answer:
    """Print the test code on the receipt printer."""
    try:
        await screen.services.trials.print_test_code(screen.id(), screen.who)
    except HubError as error:
        return _back(screen, _shown(error))
    return _back(screen, "printed")


async def _put(screen: Screen, said: dict[str, str | None], version: str) -> Answer:
    based_on = int(version) if version.isascii() and version.isdigit() and len(version) < 16 else -1
    try:
        after = await screen.services.options.put(screen.id(), said, screen.who, if_version=based_on)
    except HubError as error:
        return _back(screen, _shown(error))
    return _back(screen, "later" if after.waiting else "kept")


def _shown(error: HubError) -> str:
    """The code of a refusal that the page has words for; any other one is a page of its own."""
    if error.code not in _REFUSED:
        raise error
    return error.code


def _back(screen: Screen, told: str) -> Answer:
    return redirect(f"/devices/{screen.id()}?{urlencode({'set': told})}")


def _is_asked(one: OptionView) -> bool:
    """Whether the form has a field for it; the console has a button of its own."""
    return one.option.kind is not OptionKind.LEARNT and one.option.name != GRAB


def _set_now(found: OptionsView) -> dict[str, str | None]:
    said = (OptionKind.SECRET, OptionKind.LEARNT)
    return {
        one.option.name: one.value for one in found.options if one.source is Source.SET and one.option.kind not in said
    }


def _kept_aside(found: OptionsView) -> dict[str, str | None]:
    """What is set and not in the form."""
    return {name: value for name, value in _set_now(found).items() if name == GRAB}


def _row(screen: Screen, one: OptionView) -> Row:
    option = one.option
    title, why = told(screen.words, option.name) or (option.title, option.why)
    shown = [(value, choice(screen, value)) for value in option.choices]
    if option.choices and not option.default:
        shown.insert(0, ("", screen.words("found out by itself")))
    return Row(
        name=option.name,
        kind=option.kind.value,
        title=title,
        why=why,
        value=one.value,
        choices=tuple(shown),
        least=option.least,
        most=option.most,
        hint=_hint(screen, one),
        can_be_forgotten=option.kind is OptionKind.SECRET and one.source is Source.SET,
    )


def _hint(screen: Screen, one: OptionView) -> str:
    words = screen.words
    if one.source is Source.LOST:
        return words("This hub cannot read it any more. Type it again.")
    if one.option.kind is OptionKind.SECRET and one.source is Source.SET:
        return words("It is set, and not shown. Leave this empty to keep it.")
    return words("From the configuration file.") if one.source is Source.CONFIGURATION else ""


def _scanner(screen: Screen, found: OptionsView) -> Scanner | None:
    grabs = next((one for one in found.options if one.option.name == GRAB), None)
    if grabs is None:
        return None
    learnt = screen.words("one of its own") if found.value(KEYS) else ""
    title = screen.words("Test code")
    return Scanner(found.value(LAYOUT) or learnt, grabs.value == "1", bars_svg(TEST_CODE, title), _qr(title))


def _qr(title: str) -> Markup:
    return qr_svg(TEST_CODE, title)


def bars_svg(data: str, title: str) -> Markup:
    """A Code 128 as an inline picture on white, readable aloud by its title."""
    path, across = code128.svg_path(code128.widths(data), BAR_UNITS)
    return Markup(
        '<svg role="img" viewBox="0 -4 {0} {1}"><title>{2}</title><rect y="-4" width="{0}" height="{1}" fill="#fff"/>'
        '<path fill="#000" d="{3}"/></svg>'
    ).format(across, BAR_UNITS + 8, escape(title), Markup(path))


def choice(screen: Screen, value: str) -> str:
    """What a value is called; itself where it has no other name."""
    words = screen.words
    return {
        "auto": words("yes"),
        "none": words("none"),
        "high": words("high"),
        "low": words("low"),
        "even": words("even"),
        "odd": words("odd"),
        "terminal": words("the terminal"),
        "online": words("always online"),
        "quiet": words("with nothing"),
    }.get(value, value)


def _kept(screen: Screen) -> str:
    """What became of the last change."""
    words = screen.words
    return {
        "kept": words("Kept. It counts from now on."),
        "later": words("Kept. It counts once the device has ended what it does."),
        "printed": words("The test code is being printed."),
        "no_printer": words("There is no printer. Let the scanner read the code from this screen."),
        "device.busy": words("It is busy. Try again when it is free."),
        "device.option_invalid": words("A value does not fit. Nothing was changed."),
        "device.option_unknown": words("A value does not fit. Nothing was changed."),
        "device.option_too_early": words("First let the scanner read the test code."),
        "changed_meanwhile": words("Somebody else has changed it meanwhile. Look again."),
    }.get(screen.query.get("set", ""), "")


def told(words: Callable[[str], str], name: str) -> tuple[str, str] | None:
    """What an option of the built-in drivers is called, and what it is for; None: as its driver says."""
    return {
        "columns": (words("Characters in a line"), words("32 for paper of 58 mm, 42 or 48 for 80 mm.")),
        "drawer_pin": (words("Pin of the drawer"), words("Try the other one if the drawer does not open.")),
        "drawer_open": (
            words("Switch of the drawer while it is open"),
            words("The other one if open and closed are mixed up; none without a switch."),
        ),
        "status": (
            words("Does the printer answer?"),
            words("Choose none for one that never answers: a receipt then counts as printed when the line took it."),
        ),
        "display": (
            words("Line display at the printer"),
            words("Two rows for the customer. Whether one hangs there cannot be seen from here."),
        ),
        "layout": (
            words("Keyboard that the scanner imitates"),
            words("Found out by itself: let it read the test code once."),
        ),
        "password": (words("Password"), words("As the terminal's menu or the vendor's site shows it.")),
        "pos_number": (words("Number of the till"), words("The number under which the terminal knows the hub.")),
        "authorization": (
            words("Who decides to go online"),
            words("Choose online where the terminal must ask the bank for every payment."),
        ),
        "dialect": (words("Dialect of its protocol"), words("As its application is set.")),
        "poiid": (words("POIID"), words("Model and serial number, as the back of the terminal shows them.")),
        "key_identifier": (words("Name of the shared key"), words("As it is set in the Customer Area.")),
        "key_version": (words("Version of the shared key"), words("As it is set in the Customer Area.")),
        "device_port": (
            words("Port for this terminal"),
            words("As the terminal's menu shows it (POS device port); each terminal needs one of its own."),
        ),
        "workstation_id": (words("Number of the till"), words("If the terminal's service asks.")),
        "pop_id": (words("Point of payment"), words("If the terminal's service asks.")),
        "language": (words("Language of its texts"), words("Two letters; without it the terminal uses its own.")),
        "end": (
            words("How its codes end"),
            words("Found out by itself; choose nothing for a scanner that ends them with nothing."),
        ),
        "baud": (words("Speed of the line"), words("As the device's own menu or manual says.")),
        "data_bits": (words("Data bits"), words("Eight, unless the device's manual says seven.")),
        "parity": (words("Parity"), words("None, unless the device's manual says even or odd.")),
        "stop_bits": (words("Stop bits"), words("As the device's own menu or manual says.")),
    }.get(name)
