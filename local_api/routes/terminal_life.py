"""A terminal's life: its steps into use, its history, and what its vendor asks for."""

from __future__ import annotations

from hubd.model.permissions import Permission
from hubd.model.runbooks import steps_of
from hubd.model.terminal_life import LifeStep
from hubd.services.terminal_life import Life, ServiceRun
from local_api.call import Call, Reply
from local_api.life_schemas import (
    DeclarationIn,
    LifeOut,
    MoveIn,
    ParameterSessionIn,
    ServiceRunOut,
    SoftTerminalIn,
    StepIn,
)
from local_api.routes.payments import shown_list
from local_api.routes.store import device_out
from local_api.schemas import DeviceOut, Items, money_out
from local_api.table import RouteSpec


def life_out(life: Life, software: str, support: str, language: str) -> LifeOut:
    """How far a terminal is, as it leaves the hub."""
    return LifeOut(
        device=life.device,
        step=life.step.value,
        admin=life.admin or None,
        model=life.model or None,
        providers=list(life.providers),
        left=list(life.left),
        default_password=life.default_password,
        software=software,
        needs=life.needs.value or None,
        steps=list(steps_of(life.needs, life.model, language)),
        support=support or None,
    )


async def _life(call: Call, life: Life) -> Reply:
    services = call.context.services
    support = (await services.settings.get("vendor.support_contact", "")).value
    shown = life_out(life, services.life.software_of(life), str(support), call.caller.language)
    return Reply(shown)


async def get_life(call: Call) -> Reply:
    """How far it is, who is logged in on it, and what it is said to need."""
    return await _life(call, await call.context.services.life.of(call.id()))


async def put_soft(call: Call) -> Reply:
    """Register a terminal that is an app on a phone. Repeating it changes nothing."""
    wanted = call.body
    assert isinstance(wanted, SoftTerminalIn), "the table names the type of the body"
    life = call.context.services.life
    return Reply(device_out(await life.register_soft(call.id(), wanted.name, wanted.location, call.caller)))


async def post_step(call: Call) -> Reply:
    """Take the next step; none can be skipped."""
    wanted = call.body
    assert isinstance(wanted, StepIn), "the table names the type of the body"
    life = call.context.services.life
    return Reply(device_out(await life.step(call.id(), LifeStep(wanted.step), wanted.value, call.caller)))


async def post_location(call: Call) -> Reply:
    """Take it to another location; refused while money is in it."""
    wanted = call.body
    assert isinstance(wanted, MoveIn), "the table names the type of the body"
    return Reply(device_out(await call.context.services.life.move(call.id(), wanted.location, call.caller)))


async def sign_out(call: Call) -> Reply:
    """Log its person out; one that does not answer counts as logged in until it is taken out of use."""
    return Reply(device_out(await call.context.services.life.sign_out(call.id(), call.caller)))


async def history(call: Call) -> Reply:
    """Payments under its name, newest first, each with the device that took it."""
    found = await call.context.services.life.history(call.id(), call.caller)
    return Reply(Items(await shown_list(call.context, found, call.caller.language)))


async def declare(call: Call) -> Reply:
    """Say its model, its providers, and whether its menu still has the password of the manual."""
    wanted = call.body
    assert isinstance(wanted, DeclarationIn), "the table names the type of the body"
    life = call.context.services.life
    providers = tuple(wanted.providers)
    said = await life.declare(call.id(), wanted.model, providers, wanted.default_password, call.caller)
    return await _life(call, said)


def run_out(run: ServiceRun) -> ServiceRunOut:
    """What became of a call home."""
    return ServiceRunOut(
        run.ran, run.done, run.reason or None, list(run.left), list(run.steps), run.before or None, run.after or None
    )


async def parameter_session(call: Call) -> Reply:
    """Let it fetch its acquirers' parameters, or say for which ones that was done at the terminal."""
    wanted = call.body
    assert isinstance(wanted, ParameterSessionIn), "the table names the type of the body"
    life, caller = call.context.services.life, call.caller
    return Reply(run_out(await life.parameter_session(call.id(), tuple(wanted.done), caller.language, caller)))


async def tms_contact(call: Call) -> Reply:
    """Let it call its management system; refused while a payment runs or is stored in it."""
    caller = call.caller
    return Reply(run_out(await call.context.services.life.tms_contact(call.id(), caller.language, caller)))


async def end_of_day(call: Call) -> Reply:
    """Close a terminal's batch, and compare its totals with the hub's of it since the last time."""
    closed = await call.context.services.life.end_of_day(call.id(), call.caller)
    total = money_out(closed.total) if closed.total else None
    rows = [
        {
            "what": row.what,
            "currency": row.currency,
            "terminal": row.terminal,
            "hub": row.hub,
            "cloud": row.cloud,
            "result": row.result.value,
        }
        for row in closed.rows
    ]
    counted = {"count": closed.count, "total": total, "stored_count": closed.stored_count, "lines": closed.lines}
    return Reply(counted | {"rows": rows})


_P, _D, _AT = Permission, "devices", "/v1/devices/{id}"
ROUTES = (
    RouteSpec(
        "PUT",
        _AT,
        _P.DEVICES_MANAGE,
        put_soft,
        "Register a terminal that is an app",
        body=SoftTerminalIn,
        reply=DeviceOut,
        tag=_D,
    ),
    RouteSpec("GET", f"{_AT}/life", _P.DEVICES_READ, get_life, "Read how far a terminal is", reply=LifeOut, tag=_D),
    RouteSpec(
        "POST", f"{_AT}/steps", _P.DEVICES_MANAGE, post_step, "Take a step", body=StepIn, reply=DeviceOut, tag=_D
    ),
    RouteSpec(
        "POST",
        f"{_AT}/location",
        _P.DEVICES_MANAGE,
        post_location,
        "Take a terminal to another location",
        body=MoveIn,
        reply=DeviceOut,
        tag=_D,
    ),
    RouteSpec("POST", f"{_AT}/sign-out", _P.DEVICES_MANAGE, sign_out, "Log out on a terminal", reply=DeviceOut, tag=_D),
    RouteSpec("GET", f"{_AT}/history", _P.PAYMENTS_READ, history, "List payments under its name", reply=Items, tag=_D),
    RouteSpec(
        "PUT",
        f"{_AT}/declaration",
        _P.DEVICES_MANAGE,
        declare,
        "Say what a terminal cannot be asked",
        body=DeclarationIn,
        reply=LifeOut,
        tag=_D,
    ),
    RouteSpec(
        "POST",
        f"{_AT}/parameter-session",
        _P.DEVICES_OPERATE,
        parameter_session,
        "Fetch acquirer parameters",
        body=ParameterSessionIn,
        body_optional=True,
        reply=ServiceRunOut,
        tag=_D,
    ),
    RouteSpec(
        "POST",
        f"{_AT}/tms-contact",
        _P.DEVICES_OPERATE,
        tms_contact,
        "Contact its management system",
        reply=ServiceRunOut,
        tag=_D,
    ),
    RouteSpec("POST", f"{_AT}/end-of-day", _P.DEVICES_OPERATE, end_of_day, "Close the batch", reply=dict, tag=_D),
)
