"""The page behind the gate: its rows in the one route table, and the application that serves them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct

from hubd.errors import HubError
from hubd.model.permissions import Permission
from hubd.services.bundle import Services
from hubd.services.recovery import OWNER_ONLY
from local_api.app import Pages
from local_api.context import HubFacts
from local_api.gate import App, Receive, Scope, Send
from local_api.page import calls, check, device, device_options, devices, home, money, people, place
from local_api.page.render import templates
from local_api.page.screen import PAGE_HEADERS, Answer, Screen, Tools, redirect
from local_api.problems import method_not_allowed, not_found, problem_of, status_of
from local_api.table import Auth, RouteSpec

View = Callable[[Screen], Awaitable[Answer]]
FORM_BYTES_MAX = 8 * 1024
_PAGE = frozenset({Auth.COOKIE})
_P = Permission

# Method and path -> who may (None: everybody who reaches the hub; what they see depends on who they are) and the view.
_ROWS: tuple[tuple[str, str, Permission | None, View], ...] = (
    ("GET", "/", None, home.home),
    ("GET", "/language", None, home.language),
    ("GET", "/static/{name}", None, home.static),
    ("GET", "/browser", None, check.browser),
    ("GET", "/trust", None, check.trust),
    ("GET", "/ca.crt", None, check.certificate),
    ("GET", "/sign-in", None, people.sign_in_form),
    ("POST", "/sign-in", None, people.sign_in),
    ("GET", "/second-factor", None, people.second_factor),
    ("POST", "/second-factor/begin", None, people.second_factor_begin),
    ("POST", "/second-factor/confirm", None, people.second_factor_confirm),
    ("POST", "/sign-out", None, people.sign_out),
    ("GET", "/set-up", None, people.set_up_form),
    ("POST", "/set-up", None, people.set_up),
    ("GET", "/recovery-code", OWNER_ONLY, people.recovery_code),
    ("POST", "/recovery-code/new", OWNER_ONLY, people.recovery_code_new),
    ("POST", "/recovery-code/confirm", OWNER_ONLY, people.recovery_code_confirm),
    ("GET", "/join", None, people.join_form),
    ("POST", "/join", None, people.join),
    ("GET", "/news", _P.HUB_READ, home.news),
    ("POST", "/measure", _P.HUB_READ, home.measure),
    ("GET", "/help/internet", _P.HUB_READ, home.help_internet),
    ("GET", "/help/service", _P.HUB_READ, home.help_service),
    ("GET", "/payments", _P.PAYMENTS_READ, money.payments),
    ("GET", "/payments/{id}", _P.PAYMENTS_READ, money.payment),
    ("GET", "/payments/{id}/receipt", _P.PAYMENTS_READ, money.receipt),
    ("GET", "/payments/{id}/receipt.pdf", _P.PAYMENTS_READ, money.receipt_pdf),
    ("POST", "/payments/{id}/print", _P.PRINT, money.print_receipt),
    ("POST", "/payments/{id}/ask", _P.PAYMENTS_TAKE, money.ask_terminal),
    ("POST", "/payments/{id}/resolve", _P.PAYMENTS_RESOLVE, money.resolve),
    ("GET", "/outages", _P.OUTAGES_READ, money.outages),
    ("GET", "/outages/{id}", _P.OUTAGES_READ, money.outage),
    ("GET", "/outages/{id}/statement", _P.TOTALS_READ, money.statement),
    ("GET", "/devices", _P.DEVICES_READ, devices.devices),
    ("GET", "/devices/{id}", _P.DEVICES_READ, device.device),
    ("GET", "/devices/{id}/trace", _P.DEVICES_OPERATE, device.trace),
    ("POST", "/devices/{id}/test", _P.DEVICES_OPERATE, device.test),
    ("POST", "/devices/{id}/options", _P.DEVICES_MANAGE, device_options.set_options),
    ("POST", "/devices/{id}/grab", _P.DEVICES_MANAGE, device_options.grab),
    ("POST", "/devices/{id}/test-code", _P.DEVICES_OPERATE, device_options.test_code),
    ("POST", "/devices/{id}/identify", _P.DEVICES_OPERATE, device.identify),
    ("POST", "/devices/{id}/activate", _P.TERMINALS_ACTIVATE, devices.activate),
    ("POST", "/devices/{id}/use", _P.TERMINALS_ACTIVATE, place.activate),
    ("POST", "/devices/{id}/assign", _P.DEVICES_MANAGE, place.assign),
    ("POST", "/devices/{id}/location", _P.DEVICES_MANAGE, place.move),
    ("POST", "/devices/{id}/deactivate", _P.DEVICES_MANAGE, place.deactivate),
    ("POST", "/devices/{id}/parameter-session", _P.DEVICES_OPERATE, calls.parameter_session),
    ("POST", "/devices/{id}/tms-contact", _P.DEVICES_OPERATE, calls.tms_contact),
    ("POST", "/devices/{id}/declaration", _P.DEVICES_MANAGE, calls.declare),
    ("POST", "/soft-terminals", _P.DEVICES_MANAGE, place.register_soft),
    ("POST", "/endpoints", _P.DEVICES_MANAGE, devices.add),
    ("POST", "/endpoints/{id}/use", _P.DEVICES_MANAGE, devices.use_found),
    ("POST", "/endpoints/{id}/find-out", _P.DEVICES_MANAGE, devices.find_out),
    ("POST", "/devices/{id}/close", _P.DEVICES_MANAGE, devices.close),
    ("POST", "/devices/{id}/end-of-day", _P.DEVICES_OPERATE, devices.end_of_day),
    ("POST", "/devices/{id}/remove", _P.PAIRINGS_MANAGE, devices.remove),
    ("GET", "/pairing", _P.PAIRINGS_MANAGE, people.pairing),
    ("POST", "/pairing/open", _P.PAIRINGS_MANAGE, people.pairing_open),
    ("POST", "/pairing/{id}/confirm", _P.PAIRINGS_MANAGE, people.pairing_confirm),
    ("POST", "/pairing/{id}/refuse", _P.PAIRINGS_MANAGE, people.pairing_refuse),
    ("GET", "/sync", _P.SYNC_READ, people.sync),
    ("GET", "/enrolment", _P.MAINTENANCE, people.enrolment_form),
    ("POST", "/enrolment", _P.MAINTENANCE, people.enrol),
)
_VIEWS: Mapping[tuple[str, str], View] = {(method, path): view for method, path, _, view in _ROWS}
NOT_SIGNED_IN = frozenset({"second_factor.needed", "access.not_signed_in", "access.session_over", "access.not_allowed"})


def page_rows() -> tuple[RouteSpec, ...]:
    """The page's rows for the route table; none has a handler of the API's kind."""
    return tuple(
        RouteSpec(
            method,
            path,
            permission,
            summary=(view.__doc__ or "").partition("\n")[0],
            auth=_PAGE,
            body_bytes_max=FORM_BYTES_MAX,
            tag="page",
            refusal=refusal,
        )
        for method, path, permission, view in _ROWS
    )


def refusal(scope: Scope, error: HubError) -> tuple[int, bytes, dict[str, str]]:
    """How the gate's own refusals reach a person: to the PIN and back, or one sentence instead of a document."""
    if error.code in NOT_SIGNED_IN and scope.get("method") in {"GET", "HEAD"}:
        query = scope["query_string"].decode("latin-1")
        wanted = quote(scope["path"] + (f"?{query}" if query else ""))
        return 303, b"", {"location": f"/sign-in?then={wanted}", "cache-control": "no-store"}
    if error.code in NOT_SIGNED_IN:
        return 303, b"", {"location": "/sign-in", "cache-control": "no-store"}
    text = f"{error.detail} {error.remedy} ({error.code})\n".encode()
    return status_of(error), text, {"content-type": "text/plain; charset=utf-8", "cache-control": "no-store"}


class PageApp(Struct, frozen=True):
    """The ASGI application behind the gate for the page's rows."""

    tools: Tools

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; an error of a service becomes a page that says it in the person's language."""
        spec = scope["hubd.spec"]
        await templates()
        screen = Screen(self.tools, scope)
        try:
            answer = await _VIEWS[spec.method, spec.path](screen)
        except HubError as error:
            answer = await self._error(screen, error)
        await send_answer(answer, scope, send)

    async def _error(self, screen: Screen, error: HubError) -> Answer:
        if error.code in NOT_SIGNED_IN:
            return redirect("/sign-in")
        shop = await self.tools.overview.shop()
        status = status_of(error)
        title = screen.words("Not found") if status == HTTPStatus.NOT_FOUND else screen.words("That did not work")
        text = people.sentence(screen, error)
        return screen.show("message.html", shop, status, title=title, text=text, code=error.code, back="/")


class LampApp:
    """What the LAN gets without TLS: the lamp, the CA with how to trust it, and the check of the browser.

    No login, no form, no amounts.
    """

    def __init__(self, tools: Tools, ca_pem: bytes) -> None:
        self._tools = tools
        self._ca_pem = ca_pem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer GET and HEAD of the few addresses there are; anything else is not found here."""
        if scope["type"] != "http":
            status, body, headers = problem_of(not_found())
            raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
            raw.append((b"content-length", str(len(body)).encode("ascii")))
            await send({"type": "websocket.http.response.start", "status": status, "headers": raw})
            await send({"type": "websocket.http.response.body", "body": body})
            return
        scope = {**scope, "hubd.caller": None, "hubd.device": None, "hubd.body": b"", "hubd.parameters": {}}
        try:
            answer = await self._answer(scope)
        except HubError as error:
            status, body, headers = problem_of(error)
            allow = {"allow": "GET, HEAD"} if status == HTTPStatus.METHOD_NOT_ALLOWED else {}
            answer = Answer(body, status, headers | allow, media_type=headers["content-type"])
        await send_answer(answer, scope, send)

    async def _answer(self, scope: Scope) -> Answer:
        await templates()
        path = scope["path"]
        if scope["method"] not in {"GET", "HEAD"}:
            raise method_not_allowed()
        if path == "/":
            return home.lamp(Screen(self._tools, scope), await self._tools.overview.shop())
        if path == "/trust":
            return await check.trust(Screen(self._tools, scope), lamp=True)
        if path == "/browser":
            return await check.browser(Screen(self._tools, scope), lamp=True)
        if path == "/ca.crt":
            return Answer(self._ca_pem, media_type=check.CERTIFICATE_TYPE)
        if path == "/language":
            return await home.language(Screen(self._tools, scope))
        if path.startswith("/static/"):
            return await home.static(Screen(self._tools, {**scope, "hubd.parameters": {"name": path[8:]}}))
        raise not_found()


async def send_answer(answer: Answer, scope: Scope, send: Send) -> None:
    """Send with the page's own security headers."""
    headers = {**PAGE_HEADERS, "content-type": answer.media_type, **answer.headers}
    # Not `no-referrer`: under it browsers send `Origin: null` with a form, and the gate takes that for a foreign page.
    headers |= {"x-content-type-options": "nosniff", "referrer-policy": "same-origin"}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    raw += [(b"set-cookie", cookie.encode("latin-1")) for cookie in answer.cookies]
    raw.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})


def _nowhere(_statement: str) -> str:
    return ""


def _nothing() -> None:
    return None


def make_pages(
    services: Services,
    facts: HubFacts,
    measure_now: Callable[[], None] = _nothing,
    statement_address: Callable[[str], str] = _nowhere,
) -> Pages:
    """The status page for the gate. Who sees the first page waits for the templates (`templates`).

    `measure_now` makes the probes look at once; `statement_address` gives the cloud's copy of a statement by its id.
    """
    return Pages(page_rows(), PageApp(Tools(services, facts, services.overview, measure_now, statement_address)))


def make_lamp(services: Services, facts: HubFacts, ca_file: Path | None = None) -> App:
    """The lamp for the LAN's door without TLS."""
    pem = facts.ca_pem or (ca_file.read_bytes() if ca_file else b"")
    return LampApp(Tools(services, facts, services.overview, _nothing, _nowhere), pem)
