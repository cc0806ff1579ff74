"""What discovery sees, wanted by a driver or not, and the claim by which a person makes it a device of the store."""

from __future__ import annotations

from hubd.model.ids import parse_id
from hubd.model.permissions import Permission
from hubd.services.devices import DeviceView
from hubd.services.discovery import Found, places_for, shown_name
from local_api.call import Call, Reply
from local_api.endpoint_schemas import AddressIn, ClaimIn, EndpointOut, PlaceOut
from local_api.routes.store import device_out
from local_api.schemas import DeviceOut, Items
from local_api.table import RouteSpec


def endpoint_out(found: Found, vacant: list[DeviceView]) -> EndpointOut:
    """What was seen, as it leaves the hub; every text of a stranger in it was made plain where it came in."""
    seen = found.endpoint
    return EndpointOut(
        id=found.id,
        source=seen.kind.value,
        name=shown_name(found),
        address=seen.url or None,
        service=seen.service or None,
        identity=seen.identity,
        identity_source=seen.identity_source.value,
        txt=dict(seen.txt),
        standing=found.standing.value,
        driver=found.driver or None,
        position=seen.position or None,
        drivers=list(found.drivers),
        device=found.device_id or None,
        reason=found.reason or None,
        why=found.why or None,
        probed=found.probed.outcome.value if found.probed else None,
        looks_like=found.looks_like.driver if found.looks_like else None,
        in_place_of=[
            PlaceOut(view.device.id, view.device.name, view.device.kind.value, view.device.role, view.device.location)
            for view in places_for(found, vacant)
        ],
    )


async def list_endpoints(call: Call) -> Reply:
    """What is seen now, wanted by a driver or not."""
    services = call.context.services
    vacant = await services.roles.vacant(call.caller)
    return Reply(Items([endpoint_out(found, vacant) for found in services.discovery.all()]))


async def claim_endpoint(call: Call) -> Reply:
    """Make an offered endpoint a device of the store, in a place of its own or in that of another device."""
    wanted = call.body
    assert isinstance(wanted, ClaimIn), "the table names the type of the body"
    if wanted.role.startswith("till:"):
        parse_id(wanted.role.removeprefix("till:"), "role")
    services = call.context.services
    device = await services.discovery.claim(
        call.id(),
        wanted.name or "",
        wanted.role,
        call.caller,
        wanted.driver or "",
        wanted.replaces,
        wanted.location or "",
    )
    return Reply(device_out(await services.devices.get(device.id)))


async def add_endpoint(call: Call) -> Reply:
    """Ask once at an address that a person has typed, and let what is there be claimed; repeating it asks again."""
    wanted = call.body
    assert isinstance(wanted, AddressIn), "the table names the type of the body"
    services = call.context.services
    found = await services.addresses.add(wanted.address, wanted.driver or "", wanted.name or "", call.caller)
    return Reply(endpoint_out(found, await services.roles.vacant(call.caller)))


async def probe_endpoint(call: Call) -> Reply:
    """Find out what hangs on a serial line, by questions that nothing there can take for a command; takes seconds."""
    services = call.context.services
    found = await services.probing.probe(call.id(), call.caller)
    return Reply(endpoint_out(found, await services.roles.vacant(call.caller)))


ROUTES = (
    RouteSpec(
        "POST",
        "/v1/endpoints/{id}/probe",
        Permission.DEVICES_MANAGE,
        probe_endpoint,
        "Find out what hangs on a line",
        reply=EndpointOut,
        tag="devices",
    ),
    RouteSpec(
        "POST",
        "/v1/endpoints",
        Permission.DEVICES_MANAGE,
        add_endpoint,
        "Add a device by its address",
        body=AddressIn,
        reply=EndpointOut,
        tag="devices",
    ),
    RouteSpec(
        "GET",
        "/v1/endpoints",
        Permission.DEVICES_READ,
        list_endpoints,
        "List what was found",
        reply=Items,
        tag="devices",
    ),
    RouteSpec(
        "POST",
        "/v1/endpoints/{id}/claim",
        Permission.DEVICES_MANAGE,
        claim_endpoint,
        "Make what was found a device",
        body=ClaimIn,
        reply=DeviceOut,
        tag="devices",
    ),
)
