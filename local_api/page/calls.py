"""What a terminal's vendor asks for, from its page: its calls home (D07, D15), and what a person declares of it."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlencode

from msgspec import Struct

from hubd.errors import DeviceError, HubError, InvalidValueError
from hubd.model.device import DeviceKind
from hubd.model.permissions import Permission
from hubd.model.runbooks import steps_of
from hubd.model.terminal_life import Needs
from hubd.services.devices import DeviceView
from hubd.services.terminal_life import Life, ServiceRun
from local_api.page.people import sentence
from local_api.page.screen import Answer, Screen, redirect

MODEL_MAX, PROVIDER_MAX = 60, 40
"""Characters, as the API takes them."""
PASSWORDS = {"default": True, "own": False, "": None}


class Calls(Struct, frozen=True):
    """What a terminal's page says of its calls home, and what the person who looks may do about them."""

    life: Life
    software: str
    support: str
    operate: bool
    declare: bool
    told: str
    """What a call has brought, in words; empty when none was made."""
    good: bool
    refused: str
    steps: tuple[str, ...]
    """What a person does at the terminal about what it needs, or about the call that did not go through."""


async def calls_of(screen: Screen, view: DeviceView) -> Calls | None:
    """Of a terminal in the hub's hands; None for any other device."""
    services, device = screen.services, view.device
    if device.kind is not DeviceKind.TERMINAL or not device.driver or device.leaving:
        return None
    life = await services.life.of(device.id)
    call, _, outcome = screen.query.get("call", "").partition(".")
    open_needs = life.needs
    if outcome in {"failed", "no_word"} and open_needs is Needs.NOTHING:
        open_needs = Needs.TMS_CONTACT if call == "tms" else Needs.PARAMETER_SESSION
    may = partial(screen.who.may_at, location=device.location)
    return Calls(
        life,
        services.life.software_of(life),
        str((await services.settings.get("vendor.support_contact", "")).value),
        operate=may(Permission.DEVICES_OPERATE) and device.active,
        declare=may(Permission.DEVICES_MANAGE),
        told=_told(screen, outcome),
        good=outcome in {"done", "declared"},
        refused=_refused(screen),
        steps=steps_of(open_needs, life.model, screen.language),
    )


async def parameter_session(screen: Screen) -> Answer:
    """Let a terminal fetch its acquirers' parameters, or note for which ones that was done in its menu."""
    done = tuple(value for name, value in screen.form().items() if name.startswith("done-"))
    return await _called(screen, "session", done)


async def tms_contact(screen: Screen) -> Answer:
    """Let a terminal call its management system."""
    return await _called(screen, "tms", ())


async def _called(screen: Screen, call: str, done: tuple[str, ...]) -> Answer:
    life, language, who = screen.services.life, screen.language, screen.who
    try:
        if call == "tms":
            run = await life.tms_contact(screen.id(), language, who)
        else:
            run = await life.parameter_session(screen.id(), done, language, who)
    except (DeviceError, InvalidValueError) as error:
        return _back(screen, unmade=error.code)
    return _back(screen, call=f"{call}.{_outcome(run, noted=bool(done))}")


def _outcome(run: ServiceRun, *, noted: bool) -> str:
    if run.done:
        return "done"
    if run.left and (noted or not run.reason):
        return "incomplete"
    return "failed" if run.ran else "no_word"


async def declare(screen: Screen) -> Answer:
    """Note a terminal's model, its providers, and whether its menu still has the password of the manual."""
    form = screen.form()
    providers = tuple(one for one in (part.strip() for part in form.get("providers", "").split(",")) if one)
    model, password = form.get("model", "").strip(), PASSWORDS.get(form.get("password", ""))
    if len(model) > MODEL_MAX or any(len(one) > PROVIDER_MAX for one in providers):
        return _back(screen, unmade="invalid_providers")
    try:
        await screen.services.life.declare(screen.id(), model, providers, password, screen.who)
    except (DeviceError, InvalidValueError) as error:
        return _back(screen, unmade=error.code)
    return _back(screen, call="life.declared")


def _back(screen: Screen, **said: str) -> Answer:
    return redirect(f"/devices/{screen.id()}?{urlencode(said)}#calls")


def _told(screen: Screen, outcome: str) -> str:
    words = screen.words
    return {
        "done": words("It has called home: that is done."),
        "incomplete": words("Not complete yet: providers are still open."),
        "failed": words("It called, and it did not work. Do it in its menu:"),
        "no_word": words("It cannot be told to from here. Do it in its menu:"),
        "declared": words("It is written down."),
    }.get(outcome, "")


def _refused(screen: Screen) -> str:
    words, code = screen.words, screen.query.get("unmade", "")
    if not code:
        return ""
    known = {
        "pending_offline_payments": words("Payments are still in it. They have to leave first."),
        "device.busy": words("The terminal is working on a payment. Wait until it is over."),
        "device.gone": words("It does not answer."),
        "unknown_provider": words("Say first which providers it has."),
        "invalid_providers": words("A terminal has up to eight providers, each named once and briefly."),
    }
    return known.get(code) or sentence(screen, HubError(code, ""))
