"""One request of a person's browser: who looks, in which language, and what a template may say."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from msgspec import Struct, field

from hubd.errors import InvalidValueError
from hubd.model.card_data import check_free_text
from hubd.model.ids import parse_id
from hubd.model.mode import Fact, Hop
from hubd.model.money import Money
from hubd.model.permissions import Permission
from hubd.model.problem import Problem
from hubd.services.access import Caller
from hubd.services.bundle import Services
from hubd.services.calendar import local_time
from hubd.services.overview import Shop
from hubd.services.overview_desk import OverviewDesk
from hubd.services.recovery import OWNER_ONLY
from local_api.context import HubFacts
from local_api.gate import Headers, Scope
from local_api.page import formats
from local_api.page.render import CONTENT_SECURITY_POLICY, SCRIPT, STYLESHEET, render
from local_api.page.words import LANGUAGES, NAMES, catalogue

LANGUAGE_COOKIE = "hubd_language"
FORM_FIELDS_MAX = 20
_COOKIE = re.compile(r"hubd_language=(en|fr|nl)(?:;|$)")
_PREFERENCE = re.compile(r"([a-zA-Z]{2})")


class Answer(Struct, frozen=True):
    """What goes back."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Sequence[str] = ()
    media_type: str = "text/html; charset=utf-8"


class Tools(Struct, frozen=True):
    """What the page needs beside the API's context."""

    services: Services
    facts: HubFacts
    overview: OverviewDesk
    measure_now: Callable[[], None]
    statement_address: Callable[[str], str]
    """Where the cloud shows its own copy of a statement; empty while no cloud's address is known."""


def redirect(target: str, *cookies: str) -> Answer:
    """Go and look there. What came from an address is encoded for one again: it ends no header and is plain ASCII."""
    return Answer(status=303, headers={"location": quote(target, safe="/?&=%#")}, cookies=cookies)


def safe_target(target: str) -> str:
    """A place on this page to go back to; anything that leads elsewhere leads to the first screen."""
    parts = urlsplit(target)
    plain = target.startswith("/") and not target.startswith("//") and "\\" not in target and target.isprintable()
    return target if plain and not parts.scheme and not parts.netloc else "/"


def choose_language(headers: Headers, caller: Caller | None) -> str:
    """What the person chose here, else the paired device's language, else the browser's first known one."""
    chosen = _COOKIE.search(headers.get("cookie").replace("; ", ";"))
    if chosen is not None:
        return chosen[1]
    if caller is not None and caller.device and caller.language[:2] in LANGUAGES:
        return caller.language[:2]
    for part in headers.get("accept-language").split(","):
        found = _PREFERENCE.match(part.strip())
        if found is not None and found[1].lower() in LANGUAGES:
            return found[1].lower()
    return "en"


def read_pairs(raw: bytes) -> dict[str, str]:
    """A form or a query: each name once, no card numbers."""
    try:
        pairs = parse_qsl(raw.decode("utf-8"), keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX)
    except ValueError:
        raise InvalidValueError("malformed_request", "The form cannot be read.", remedy="Send it again.") from None
    for _, value in pairs:
        check_free_text(value, "form")
    return dict(pairs)


class Screen:
    """A request and the way to answer it in the person's language."""

    def __init__(self, tools: Tools, scope: Scope) -> None:
        self.tools = tools
        self.services = tools.services
        self.scope = scope
        self.path: str = scope["path"]
        self.parameters: Mapping[str, str] = scope.get("hubd.parameters", {})
        self.caller: Caller | None = scope.get("hubd.caller")
        self.headers = Headers(scope)
        self.query = read_pairs(scope["query_string"])
        self.place = tools.services.feed.place
        """Of the feed, before anything was read: what comes after it may not be on the page."""
        self.language = choose_language(self.headers, self.caller)
        self.place = tools.services.feed.place
        """Of the feed, before anything was read: what comes after it may not be on the page."""

    def form(self) -> dict[str, str]:
        """The fields that a person sent."""
        if self.headers.get("content-type").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
            raise InvalidValueError("wrong_media_type", "The body is not a form.", remedy="Use the page's own form.")
        return read_pairs(self.scope["hubd.body"])

    def id(self, name: str = "id") -> str:
        """A path parameter that is an id."""
        return parse_id(self.parameters[name], name)

    def may(self, permission: Permission) -> bool:
        """Whether the person who looks may do this."""
        return self.caller is not None and self.caller.may(permission)

    @property
    def who(self) -> Caller:
        """The caller of a row with a permission; the gate has let nobody else in."""
        assert self.caller is not None, "the gate lets nobody without a name reach this row"
        return self.caller

    def words(self, text: str) -> str:
        """A sentence in the person's language."""
        return catalogue(self.language).gettext(text)

    def show(self, template: str, shop: Shop, status: int = 200, **values: Any) -> Answer:
        """Render a page about this shop."""
        return Answer(render(template, self.language, self.values(shop) | values), status)

    def values(self, shop: Shop) -> dict[str, Any]:
        """What every template may say."""
        language, zone, now_us = self.language, shop.zone, shop.now_us
        money = formats.format_money
        place_of = {
            "/": (Permission.HUB_READ, self.words("Status")),
            "/payments": (Permission.PAYMENTS_READ, self.words("Payments")),
            "/outages": (Permission.OUTAGES_READ, self.words("Outages")),
            "/devices": (Permission.DEVICES_READ, self.words("Devices")),
            "/sync": (Permission.SYNC_READ, self.words("Cloud")),
        }
        query = self.scope["query_string"].decode("latin-1")
        return {
            "language": language,
            "languages": [(code, NAMES[code]) for code in LANGUAGES],
            "css": STYLESHEET,
            "js": SCRIPT,
            "path": self.path,
            "here": quote(self.path + (f"?{query}" if query else ""), safe=""),
            "store": shop.name,
            "place": shop.location,
            "now_us": now_us,
            "news_after": f"{self.place.seq}.{self.place.notice}",
            "shop": shop,
            "is_set_up": shop.set_up,
            "known": self.caller is not None,
            "is_owner": self.may(OWNER_ONLY),
            "may_enrol": self.tools.facts.enrol is not None and self.may(Permission.MAINTENANCE),
            "signed_in": self.caller is not None and self.caller.staff is not None,
            "lamp": False,
            "totals": self.may(Permission.TOTALS_READ),
            "names": self.may(Permission.PAYMENTS_READ),
            "places": [(href, name) for href, (needed, name) in place_of.items() if self.may(needed)],
            "money": lambda value: money(value, language),
            "monies": lambda values: formats.format_monies(values, language, shop.currency),
            "number": lambda value: formats.format_number(value, language),
            "moment": lambda at_us: formats.format_moment(at_us, now_us, zone, language),
            "clock": lambda at_us: formats.format_time(local_time(at_us, zone), language),
            "day": lambda at_us: formats.format_date(local_time(at_us, zone), language),
            "hour": formats.HABITS[language].units[1],
            "duration": lambda seconds: formats.format_duration(int(seconds), language),
            "problem_title": lambda problem: self._problem_text(problem, problem.title),
            "problem_remedy": lambda problem: self._problem_text(problem, problem.remedy),
        }

    def _problem_text(self, problem: Problem, text: Callable[..., str]) -> str:
        if problem.money and not self.may(Permission.TOTALS_READ):
            return text(self.language, lambda _money: self.words("money"))
        return text(self.language, lambda money: formats.format_money(money, self.language))


class FactLine(Struct, frozen=True):
    """One measured hop for a person: with the wall time since which it is so."""

    name: str
    ok: bool | None
    since_us: int
    detail: str


def fact_lines(screen: Screen) -> list[FactLine]:
    """All measured hops, near to far, then the providers."""
    facts, clock = screen.services.outages.facts(), screen.services.runtime.clock
    offset_us = clock.now_us() - int(clock.monotonic() * 1_000_000)

    def line(name: str, fact: Fact) -> FactLine:
        return FactLine(name, fact.ok, offset_us + fact.since_ms * 1000, fact.detail)

    hops = [line(hop.value, facts.hop(hop)) for hop in Hop]
    return hops + [line(name, fact) for name, fact in sorted(facts.providers.items())]


def sum_by_currency(values: Sequence[Money]) -> tuple[Money, ...]:
    """Sums, one a currency."""
    found: dict[str, Money] = {}
    for value in values:
        found[value.currency] = found[value.currency] + value if value.currency in found else value
    return tuple(found[currency] for currency in sorted(found))


PAGE_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "vary": "Cookie, Accept-Language",
}
