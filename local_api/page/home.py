"""The first screen, the lamp, help, and the languages."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any

from hubd.model.mode import Hop
from hubd.model.permissions import Permission
from hubd.services.feed import Place
from hubd.services.overview import Overview, Shop, build
from hubd.services.pairing import PairingState
from local_api.page.render import STATIC, qr_svg
from local_api.page.screen import (
    LANGUAGE_COOKIE,
    Answer,
    Screen,
    fact_lines,
    redirect,
    safe_target,
    sum_by_currency,
)
from local_api.page.words import LANGUAGES

ABOUT_DEVICES = ("device.", "printer.")
"""How the codes of problems begin that are about one device."""
YEAR_S = 31_536_000


async def home(screen: Screen) -> Answer:
    """The first screen for those who may see it; the lamp's words for everybody else."""
    shop = await screen.tools.overview.shop(screen.caller.location if screen.caller else "")
    overview = build(shop)
    if not screen.may(Permission.HUB_READ):
        return screen.show("lamp.html", shop, overview=overview)
    names = await names_of(screen)
    return screen.show(
        "home.html",
        shop,
        overview=overview,
        risk=overview.risk,
        action=overview.action,
        asking=overview.action.payment is not None and screen.services.payments.asking(overview.action.payment),
        facts=fact_lines(screen),
        name_of=lambda device: names.get(device, screen.words("the shop")),
        refused_totals=sum_by_currency([payment.money for payment in shop.refused]),
        hub_id=screen.tools.facts.hub_id,
        version=screen.tools.facts.version,
        **device_counts(screen, overview, frozenset(names)),
    )


def device_counts(screen: Screen, overview: Overview, devices: Set[str]) -> dict[str, Any]:
    """How many devices are well, how many are not, what has just begun to be wrong, and how many wait to be let in.

    What may be over before anybody has read what to do about it is not a problem yet; but no device that does not
    answer is counted among those that are well.
    """
    shop = overview.shop
    told = {(problem.code, problem.subject) for problem in shop.problems}
    now = [one for one in screen.services.problems.present() if one.code.startswith(ABOUT_DEVICES)]
    now = [one for one in now if one.subject in devices]
    acted_on = overview.action.terminal.id if overview.action.terminal else ""
    just_now = [one for one in now if (one.code, one.subject) not in told and one.subject != acted_on]
    ill = {problem.subject for problem in now} | {terminal.id for terminal in shop.terminals if not terminal.answers}
    may_pair = screen.may(Permission.PAIRINGS_MANAGE)
    pairings = screen.services.pairing.waiting() if may_pair else []
    waiting = sum(1 for pairing in pairings if pairing.state is PairingState.WAITING)
    well = max(0, shop.devices_count - len(ill))
    return {"ill_devices": len(ill), "devices_well": well, "waiting": waiting, "just_now": just_now}


async def names_of(screen: Screen) -> dict[str, str]:
    """Names of the devices by id."""
    return {view.device.id: view.device.name for view in await screen.services.devices.all()}


async def news(screen: Screen) -> Answer:
    """Answer once something has happened after what the page shows; empty, because the page then reads itself anew."""
    after = re.fullmatch(r"(\d{1,15})\.(\d{1,15})", screen.query.get("after", ""))
    place = Place(int(after[1]), int(after[2])) if after else screen.place
    await screen.services.feed.until_news(place)
    return Answer(b"", media_type="text/plain; charset=utf-8")


async def measure(screen: Screen) -> Answer:
    """Measure the line and ask the terminals now; the button only looks again, it changes nothing."""
    screen.tools.measure_now()
    return redirect(safe_target(screen.form().get("then", "/")))


async def help_internet(screen: Screen) -> Answer:
    """Three steps, what is measured, and only then whom to call (B08)."""
    shop = await screen.tools.overview.shop(screen.who.location)
    facts = screen.services.outages.facts()
    return screen.show(
        "help_internet.html",
        shop,
        offline=shop.line_is_down,
        failing=shop.first_failing.value if shop.first_failing else "",
        portal=shop.captive_portal,
        dns_ok=facts.hop(Hop.DNS).ok is True,
        started_us=shop.started_us,
        step4=screen.query.get("step") == "4",
        phone=shop.help_phone,
        facts=fact_lines(screen),
    )


async def help_service(screen: Screen) -> Answer:
    """The vendor's status page as a QR made here, for a phone with a network of its own (B09)."""
    shop = await screen.tools.overview.shop(screen.who.location)
    url = shop.vendor_status_url
    return screen.show("help_service.html", shop, url=url, qr=qr_svg(url, screen.words("Status page of the provider")))


async def language(screen: Screen) -> Answer:
    """Remember the language in this browser."""
    wanted = screen.query.get("to", "")
    back = safe_target(screen.query.get("back", "/"))
    if wanted not in LANGUAGES:
        return redirect(back)
    return redirect(back, f"{LANGUAGE_COOKIE}={wanted}; Path=/; Max-Age={YEAR_S}; SameSite=Strict; HttpOnly")


async def static(screen: Screen) -> Answer:
    """Stylesheet and script, under names that change with their content."""
    found = STATIC.get(screen.parameters["name"])
    if found is None:
        return Answer(b"", 404, media_type="text/plain")
    content, kind = found
    return Answer(content, headers={"cache-control": f"public, max-age={YEAR_S}, immutable"}, media_type=kind)


def lamp(screen: Screen, shop: Shop) -> Answer:
    """The lamp: mode, can we sell, what may be taken, since when; no amounts, no names, no form."""
    return screen.show("lamp.html", shop, overview=build(shop), lamp=True)
