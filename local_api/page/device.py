"""One device, looked at closely: how it is now, what was wrong last, its trace, and the ways to try it."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import urlencode

from hubd.errors import DeviceError
from hubd.model.device import DeviceKind, rung_of
from hubd.model.permissions import Permission
from hubd.ports import TraceLine
from hubd.services.calendar import rfc3339
from hubd.services.devices import DeviceView
from local_api.page import calls, device_options, place
from local_api.page.devices import able, kinds, rungs, software
from local_api.page.screen import Answer, Screen, redirect

GRAMS_DIGITS_MAX = 6


async def device(screen: Screen) -> Answer:
    """One device: state by the age of its last good answer, its last problem, what it can do, and how to try it."""
    services = screen.services
    view = await services.devices.get(screen.id())
    shop = await screen.tools.overview.shop(screen.who.location)
    status = view.status
    answered = status.last_answer_monotonic if status else None
    return screen.show(
        "device.html",
        shop,
        view=view,
        software=await _software(screen, view),
        last=status.last_problem if status else None,
        age_s=None if answered is None else services.runtime.clock.monotonic() - answered,
        kind=kinds(screen)[view.device.kind.value],
        rung=rungs(screen)[rung_of(view.device.identity or view.device.address).value],
        can=able(screen, view.capabilities),
        waiting=await services.printing.waiting(view.device.id),
        trouble=lambda code: trouble(screen, code),
        may_operate=_may_operate(screen, view) and status is not None,
        how=how_it_is_tried(screen, view.device.kind),
        tried=tried(screen),
        **await device_options.values(screen, view),
        where=await place.place_of(screen, view),
        refused=place.refused(screen),
        told=place.told(screen),
        calls=await calls.calls_of(screen, view),
    )


async def _software(screen: Screen, view: DeviceView) -> str:
    if view.device.kind is not DeviceKind.TERMINAL:
        return ""
    return software(screen, view, await screen.services.life.of(view.device.id))


def _may_operate(screen: Screen, view: DeviceView) -> bool:
    return screen.who.may_at(Permission.DEVICES_OPERATE, view.device.location)


async def trace(screen: Screen) -> Answer:
    """What went over the device's line, to be saved: without card data."""
    found = await screen.services.trials.trace(screen.id(), 0, 0.0, screen.who)
    name = f"trace-{screen.id()[:13]}.txt"
    return Answer(
        as_text(found),
        HTTPStatus.OK,
        {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"},
        media_type="text/plain; charset=utf-8",
    )


def as_text(lines: Sequence[TraceLine]) -> bytes:
    """A trace as people save it: when, which way, what, how often."""
    told = (
        f"{rfc3339(line.at_us)} {line.way.value} {line.text}{f'  ×{line.times}' if line.times > 1 else ''}\n"
        for line in lines
    )
    return "".join(told).encode("utf-8")


async def identify(screen: Screen) -> Answer:
    """Let a printer print its name, and a terminal show it."""
    try:
        shown = await screen.services.trials.identify(screen.id(), screen.who)
    except DeviceError as error:
        return _back(screen, tried=_why_not(error))
    return _back(screen, tried=f"{shown.how}_itself")


async def test(screen: Screen) -> Answer:
    """Try the device without moving money; for a scanner this waits until something is scanned."""
    try:
        done = await screen.services.trials.test(screen.id(), screen.who)
    except DeviceError as error:
        return _back(screen, tried=_why_not(error))
    return _back(screen, tried=done.outcome, **({} if done.grams is None else {"grams": str(done.grams)}))


def _why_not(error: DeviceError) -> str:
    return {"device.busy": "busy", "device.cannot_show_itself": "cannot_show"}.get(error.code, "gone")


def _back(screen: Screen, **told: str) -> Answer:
    return redirect(f"/devices/{screen.id()}?{urlencode(told)}")


def tried(screen: Screen) -> str:
    """What a test has shown, in the person's language; empty when there was none."""
    words, grams = screen.words, screen.query.get("grams", "")
    if screen.query.get("tried") == "weight" and grams.isascii() and grams.isdigit() and len(grams) <= GRAMS_DIGITS_MAX:
        return words("The scale says %(grams)s g.") % {"grams": grams}
    return {
        "answers": words("It answers. No money was moved."),
        "printing": words("A page that says TEST comes out. Look at the accents, the euro and the code."),
        "no_weight": words("The scale has no weight to give now. Wait until it is at rest."),
        "scanned": words("A code was read. The scanner works."),
        "no_scan": words("Nothing was scanned."),
        "printed_itself": words("The printer prints its name."),
        "shown_itself": words("Its display shows its name."),
        "cannot_show": words("It cannot show its name."),
        "busy": words("It is busy. Try again when it is free."),
        "gone": words("It does not answer."),
    }.get(screen.query.get("tried", ""), "")


def how_it_is_tried(screen: Screen, kind: DeviceKind) -> str:
    """What happens when it is tried."""
    words = screen.words
    return {
        DeviceKind.PRINTER: words("A page that says TEST is printed."),
        DeviceKind.SCALE: words("The scale is asked for a weight."),
        DeviceKind.SCANNER: words("Press, then scan something within 30 seconds."),
    }.get(kind, words("The terminal is asked whether it is there. No money is moved."))


def trouble(screen: Screen, code: str) -> str:
    """What a problem of a device is called in the person's language; a rare one by its code."""
    words = screen.words
    return {
        "unreachable": words("It could not be reached."),
        "line_lost": words("The line to it was lost."),
        "no_answer": words("It did not answer."),
        "paper_out": words("There was no paper."),
        "cover_open": words("Its cover was open."),
        "terminal_busy": words("It was busy with something else."),
        "babble": words("It sent what nobody can read."),
        "layout_unknown": words("It has not read the test code yet."),
        "card_data_refused": words("It read a payment card, which was refused."),
    }.get(code, code)
