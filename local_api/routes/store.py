"""Devices, outages, announcements, settings, problems: the store as a person or a till asks about it."""

from __future__ import annotations

from msgspec import structs

from hubd.errors import InvalidValueError, NotFoundError
from hubd.model.card_data import check_json
from hubd.model.device import rung_of
from hubd.model.ids import NAME, parse_id
from hubd.model.permissions import Permission
from hubd.services.calendar import rfc3339
from hubd.services.devices import DeviceView
from hubd.services.lists import OutageFilter
from hubd.services.outages import Group, OutageView
from hubd.services.settings import POLICY_PREFIX, Effective
from hubd.services.till_lines import Held
from local_api.call import Call, Reply, time_us
from local_api.device_schemas import DeviceDetailOut, LastProblemOut
from local_api.schemas import (
    AnnouncementIn,
    AnnouncementOut,
    AssignIn,
    CloseIn,
    DeactivateIn,
    DeviceOut,
    DeviceQuery,
    Items,
    OutagePage,
    OutageQuery,
    SettingIn,
    SettingOut,
    SettingQuery,
    money_out,
)
from local_api.table import RouteSpec


def device_out(view: DeviceView) -> DeviceOut:
    """A device as it leaves the hub; its credentials never do."""
    device, status = view.device, view.status
    return DeviceOut(
        id=device.id,
        kind=device.kind.value,
        name=device.name,
        location=device.location,
        role=device.role,
        active=device.active,
        driver=device.driver,
        device_class=device.device_class,
        address=device.address,
        identity=device.identity,
        state=status.state.value if status else None,
        problem=status.problem or None if status else None,
        remedy=status.remedy or None if status else None,
        payment=view.payment_id or None,
        progress=view.progress.code if view.progress else None,
        unheard=view.unheard,
        held_count=view.held_count,
        held=[money_out(money) for money in view.held],
        replaced_by=device.replaced_by or None,
        leaving=device.leaving,
    )


def device_detail(view: DeviceView, waiting_jobs: int, now_s: float, software: str) -> DeviceDetailOut:
    """A device with how long ago it answered, its last problem, and what it can do."""
    status, known = view.status, structs.asdict(device_out(view))
    answered = status.last_answer_monotonic if status else None
    last = status.last_problem if status else None
    return DeviceDetailOut(
        **known,
        last_answer_s=round(max(0.0, now_s - answered), 1) if answered is not None else None,
        last_problem=LastProblemOut(last.code, last.remedy, rfc3339(last.at_us)) if last else None,
        terminal_number=status.terminal_id or None if status else None,
        software=software or None,
        known_by=rung_of(view.device.identity or view.device.address).value,
        capabilities=sorted(view.capabilities),
        waiting_jobs=waiting_jobs,
    )


async def list_devices(call: Call) -> Reply:
    """Every device of the store, tills included; narrowed by kind and by the state it has now."""
    query = call.query
    assert isinstance(query, DeviceQuery), "the table names the type of the query"
    found = [
        view
        for view in await call.context.services.devices.all()
        if query.kind in {None, view.device.kind}
        and (query.state is None or (view.status is not None and view.status.state is query.state))
    ]
    return Reply(Items([device_out(view) for view in found]))


async def get_device(call: Call) -> Reply:
    """One device."""
    services = call.context.services
    view = await services.devices.get(call.id())
    waiting = await services.printing.waiting(view.device.id)
    software = await services.life.software_told(view.device)
    return Reply(device_detail(view, waiting, services.runtime.clock.monotonic(), software))


async def activate(call: Call) -> Reply:
    """Let a terminal take payments."""
    return Reply(device_out(await call.context.services.devices.activate(call.id(), call.caller)))


async def deactivate(call: Call) -> Reply:
    """Take a terminal out of use; refused while money is in it.

    One that was used in an outage and was not heard since needs a reason: then no statement waits for it any more.
    """
    wanted = call.body
    assert isinstance(wanted, DeactivateIn), "the table names the type of the body"
    return Reply(
        device_out(
            await call.context.services.devices.deactivate(call.id(), call.caller, wanted.reason, force=wanted.force)
        )
    )


async def close(call: Call) -> Reply:
    """Wait no longer for the money in a device whose place is taken; its payments stay what they are."""
    wanted = call.body
    assert isinstance(wanted, CloseIn), "the table names the type of the body"
    return Reply(device_out(await call.context.services.roles.close(call.id(), wanted.reason, call.caller)))


async def assign(call: Call) -> Reply:
    """Name, role, address."""
    wanted = call.body
    assert isinstance(wanted, AssignIn), "the table names the type of the body"
    if wanted.role.startswith("till:"):
        parse_id(wanted.role.removeprefix("till:"), "role")
    desk = call.context.services.devices
    return Reply(device_out(await desk.assign(call.id(), wanted.name, wanted.role, wanted.address, call.caller)))


async def diagnose(call: Call) -> Reply:
    """Let a terminal test its own line to its host."""
    found = await call.context.services.devices.diagnose(call.id(), call.caller)
    return Reply({"host_reachable": found.host_reachable, "text": found.text})


def _group_out(group: Group) -> dict[str, object]:
    return {"count": group.count, "totals": [money_out(total) for total in group.totals]}


def _unheard_out(view: OutageView) -> list[dict[str, object]]:
    return [{"id": one.id, "name": one.name} for one in view.unheard]


def outage_out(view: OutageView, *, totals: bool) -> dict[str, object]:
    """An outage with what was taken in it; sums only for those who may see them."""
    outage, taken = view.outage, view.taken
    shown: dict[str, object] = {
        "id": outage.id,
        "cause": outage.cause,
        "started_at": rfc3339(outage.started_at_us),
        "ended_at": rfc3339(outage.ended_at_us) if outage.ended_at_us is not None else None,
        "clock_trusted": outage.opened_clock == 1,
        "statement": view.statement.finality if view.statement else None,
        "unheard": _unheard_out(view),
    }
    if totals:
        decided = ("decided_paid", "decided_unpaid")
        names = ("accepted", "waiting", "held", "refused_late", *decided, "unknown", "not_taken", "cash")
        shown["taken"] = {name: _group_out(getattr(taken, name)) for name in names}
        shown["settled"] = taken.settled
    return shown


async def list_outages(call: Call) -> Reply:
    """Outages, newest first."""
    query = call.query
    assert isinstance(query, OutageQuery), "the table names the type of the query"
    totals = call.caller.may(Permission.TOTALS_READ)
    narrow = OutageFilter(
        over=query.state == "over" if query.state else None,
        since_us=time_us(query.since, "since"),
        until_us=time_us(query.until, "until"),
    )
    found = await call.context.services.outages.page(narrow, query.before_seq, query.limit + 1)
    shown = found[: query.limit]
    more = str(shown[-1].outage.opened_seq) if len(found) > query.limit else ""
    return Reply(OutagePage([outage_out(view, totals=totals) for view in shown], more))


async def get_outage(call: Call) -> Reply:
    """One outage."""
    view = await call.context.services.outages.get(call.id())
    return Reply(outage_out(view, totals=call.caller.may(Permission.TOTALS_READ)))


async def get_statement(call: Call) -> Reply:
    """The newest statement about an outage as the cloud signed it, with the hub's own comparison.

    `unheard` names the terminals for which the hub waits now; the statement names those of the moment it was made.
    """
    view = await call.context.services.outages.get(call.id())
    latest = view.statement
    if latest is None:
        raise NotFoundError(
            "no_statement_yet",
            "The cloud has made no statement about this outage yet.",
            remedy="Wait until the hub is connected again.",
        )
    return Reply(
        {
            "id": latest.id,
            "finality": latest.finality,
            "replaces": latest.replaces,
            "agrees": latest.agrees,
            "unheard": _unheard_out(view),
            "statement": latest.document,
        }
    )


async def post_announcement(call: Call) -> Reply:
    """A till tells what it holds of its last seven days, after the hub was restored."""
    wanted = call.body
    assert isinstance(wanted, AnnouncementIn), "the table names the type of the body"
    held = [
        Held(
            one.id,
            one.line,
            one.seq,
            one.hash,
            one.state.value,
            one.amount.money(),
            kind=one.kind,
            original=one.original,
            tender=one.tender,
        )
        for one in wanted.payments
    ]
    services = call.context.services
    answer, unknown = await services.tills.announce(call.caller, held)
    for payment in unknown:
        services.dialogues.start_enquiry(payment)
    return Reply(AnnouncementOut(answer.known, list(answer.forgotten)))


def setting_out(found: Effective) -> SettingOut:
    """A setting in force."""
    since = rfc3339(found.effective_from_us) if found.effective_from_us else None
    return SettingOut(found.key, found.value, found.version, found.source, found.scope, since)


def _key(call: Call, prefix: str = "") -> str:
    key = prefix + call.parameters["key"]
    if not NAME.fullmatch(key):
        raise InvalidValueError("invalid_key", "This is not the name of a setting.", remedy="List the settings.")
    return key


async def list_settings(call: Call) -> Reply:
    """Every setting in force and where it comes from."""
    return Reply(Items([setting_out(found) for found in await call.context.services.settings.all()]))


async def list_policies(call: Call) -> Reply:
    """The outage policies in force, by device class."""
    found = await call.context.services.settings.all()
    return Reply(Items([setting_out(one) for one in found if one.key.startswith(POLICY_PREFIX)]))


async def _one(call: Call, key: str, location: str) -> Reply:
    found = await call.context.services.settings.get(key, location)
    return Reply(setting_out(found), headers={"etag": f'"{found.newest}"'})


async def get_setting(call: Call) -> Reply:
    """One setting, with its version as ETag."""
    query = call.query
    assert isinstance(query, SettingQuery), "the table names the type of the query"
    return await _one(call, _key(call), query.location)


async def get_policy(call: Call) -> Reply:
    """One outage policy, with its version as ETag."""
    query = call.query
    assert isinstance(query, SettingQuery), "the table names the type of the query"
    return await _one(call, _key(call, POLICY_PREFIX), query.location)


async def _put(call: Call, key: str) -> Reply:
    wanted = call.body
    assert isinstance(wanted, SettingIn), "the table names the type of the body"
    check_json(wanted.value)
    since, location = time_us(wanted.effective_from, "effective_from"), wanted.location or ""
    call.caller.need_at(Permission.SETTINGS_CHANGE, location or call.caller.location)
    desk = call.context.services.settings
    await desk.put(
        call.caller.actor, key, wanted.value, if_version=call.if_match, effective_from_us=since, location=location
    )
    return await _one(call, key, location)


async def put_setting(call: Call) -> Reply:
    """Change a setting; `If-Match` names the version that the change is based on."""
    return await _put(call, _key(call))


async def put_policy(call: Call) -> Reply:
    """Change an outage policy."""
    return await _put(call, _key(call, POLICY_PREFIX))


async def list_problems(call: Call) -> Reply:
    """What is wrong now, most important first, with its remedy, in the caller's language."""
    language = call.caller.language
    totals = call.caller.may(Permission.TOTALS_READ)
    support = (await call.context.services.settings.get("vendor.support_contact", "")).value
    return Reply(
        Items(
            [
                {
                    "code": problem.code,
                    "severity": problem.severity.value,
                    "subject": problem.subject or None,
                    "title": problem.title(language),
                    "remedy": problem.remedy(language),
                    "support": support or None,
                    "since": rfc3339(problem.since_us),
                    "money": [money_out(money) for money in problem.money] if totals else [],
                }
                for problem in call.context.services.problems.visible()
            ]
        )
    )


_P = Permission
_D, _O, _S = "devices", "outages", "settings"
ROUTES = (
    RouteSpec(
        "GET", "/v1/devices", _P.DEVICES_READ, list_devices, "List devices", query=DeviceQuery, reply=Items, tag=_D
    ),
    RouteSpec("GET", "/v1/devices/{id}", _P.DEVICES_READ, get_device, "Read a device", reply=DeviceDetailOut, tag=_D),
    RouteSpec(
        "POST",
        "/v1/devices/{id}/activate",
        _P.TERMINALS_ACTIVATE,
        activate,
        "Activate a terminal",
        reply=DeviceOut,
        tag=_D,
    ),
    RouteSpec(
        "POST",
        "/v1/devices/{id}/deactivate",
        _P.DEVICES_MANAGE,
        deactivate,
        "Take a terminal out of use",
        body=DeactivateIn,
        body_optional=True,
        reply=DeviceOut,
        tag=_D,
    ),
    RouteSpec(
        "POST",
        "/v1/devices/{id}/close",
        _P.DEVICES_MANAGE,
        close,
        "Wait no longer for a replaced device",
        body=CloseIn,
        reply=DeviceOut,
        tag=_D,
    ),
    RouteSpec(
        "POST",
        "/v1/devices/{id}/assign",
        _P.DEVICES_MANAGE,
        assign,
        "Name a device and give it a role",
        body=AssignIn,
        reply=DeviceOut,
        tag=_D,
    ),
    RouteSpec(
        "POST",
        "/v1/devices/{id}/diagnose",
        _P.DEVICES_OPERATE,
        diagnose,
        "Test the line to the host",
        reply=dict,
        tag=_D,
    ),
    RouteSpec(
        "GET",
        "/v1/outages",
        _P.OUTAGES_READ,
        list_outages,
        "List outages",
        query=OutageQuery,
        reply=OutagePage,
        tag=_O,
    ),
    RouteSpec("GET", "/v1/outages/{id}", _P.OUTAGES_READ, get_outage, "Read an outage", reply=dict, tag=_O),
    RouteSpec(
        "GET", "/v1/outages/{id}/statement", _P.TOTALS_READ, get_statement, "Read its statement", reply=dict, tag=_O
    ),
    RouteSpec(
        "POST",
        "/v1/announcements",
        _P.ANNOUNCE,
        post_announcement,
        "Tell what a till holds",
        body=AnnouncementIn,
        reply=AnnouncementOut,
        body_bytes_max=2 * 1024 * 1024,
        tag="hub",
    ),
    RouteSpec("GET", "/v1/settings", _P.SETTINGS_READ, list_settings, "List settings", reply=Items, tag=_S),
    RouteSpec(
        "GET",
        "/v1/settings/{key}",
        _P.SETTINGS_READ,
        get_setting,
        "Read a setting",
        query=SettingQuery,
        reply=SettingOut,
        tag=_S,
    ),
    RouteSpec(
        "PUT",
        "/v1/settings/{key}",
        _P.SETTINGS_CHANGE,
        put_setting,
        "Change a setting",
        body=SettingIn,
        reply=SettingOut,
        tag=_S,
    ),
    RouteSpec("GET", "/v1/policies", _P.SETTINGS_READ, list_policies, "List outage policies", reply=Items, tag=_S),
    RouteSpec(
        "GET",
        "/v1/policies/{key}",
        _P.SETTINGS_READ,
        get_policy,
        "Read an outage policy",
        query=SettingQuery,
        reply=SettingOut,
        tag=_S,
    ),
    RouteSpec(
        "PUT",
        "/v1/policies/{key}",
        _P.SETTINGS_CHANGE,
        put_policy,
        "Change an outage policy",
        body=SettingIn,
        reply=SettingOut,
        tag=_S,
    ),
    RouteSpec("GET", "/v1/problems", _P.PROBLEMS_READ, list_problems, "List problems", reply=Items, tag="hub"),
)
