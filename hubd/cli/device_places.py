"""`hubctl devices assign|rename|move|deactivate|activate|add-phone`: where a device stands, for whom, and whether."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hubd.cli.client import Client
from hubd.cli.common import JsonFlag, client_of, items_of
from hubd.cli.device_trials import NameArgument
from hubd.cli.output import print_json, print_line
from hubd.errors import InvalidValueError
from hubd.model.device import place_role

TillOption = Annotated[str, typer.Option("--till", help="Name or id of the till that it is for.")]
PlaceOption = Annotated[str, typer.Option("--place", help="Name of a place that is no till, such as kitchen.")]
LocationOption = Annotated[str, typer.Option("--location", help="Name or id of the location where it stands.")]


def add_to(app: typer.Typer) -> None:
    """Make these commands part of `hubctl devices`."""
    for command in (assign, rename, move, deactivate, activate):
        app.command()(command)
    app.command("add-phone")(add_phone)


def one_named(items: list[dict[str, Any]], name: str, what: str) -> dict[str, Any]:
    """The one of these with this id or name; raises `device.name_unclear` for none and for several."""
    found = [item for item in items if item.get("id") == name] or [item for item in items if item.get("name") == name]
    if len(found) > 1:  # those out of use keep the name that they had
        found = [item for item in found if item.get("active")]
    if len(found) != 1:
        raise InvalidValueError(
            "device.name_unclear", f"{len(found)} {what} are called {name}.", remedy="Use the id: `hubctl devices`."
        )
    return found[0]


def placed_device(client: Client, name: str) -> dict[str, Any]:
    """The one device of this name or id that is no till and no viewer, terminals that are apps included."""
    items = [item for item in items_of(client.get("/v1/devices")) if item.get("kind") not in ("till", "viewer")]
    return one_named(items, name, "devices")


def role_wanted(client: Client, till: str, place: str) -> str:
    """The role that the options name; "" for a device of every till."""
    if till and place:
        raise InvalidValueError("device.till_or_place", "Choose --till or --place.", remedy="Leave one of them out.")
    if place:
        return place_role(place)
    if till:
        tills = [item for item in items_of(client.get("/v1/devices")) if item.get("kind") == "till"]
        return f"till:{one_named(tills, till, 'tills')['id']}"
    return ""


def location_wanted(client: Client, location: str) -> str:
    """The id of the location that the option names; "" where it names none."""
    return str(one_named(items_of(client.get("/v1/locations")), location, "locations")["id"]) if location else ""


def place_wanted(client: Client, till: str, place: str, location: str) -> dict[str, str]:
    """Role and location of a new device as the options name them: without --location it stands where its till is."""
    role = role_wanted(client, till, place)
    if role.startswith("till:") and not location:
        return {"role": role, "location": str(client.get(f"/v1/devices/{role.removeprefix('till:')}")["location"])}
    return {"role": role, "location": location_wanted(client, location)}


def role_text(client: Client, role: str) -> str:
    """For whom a device is, in words."""
    kind, _, name = role.partition(":")
    if kind == "till":
        tills = {item["id"]: item["name"] for item in items_of(client.get("/v1/devices"))}
        return str(tills.get(name, name))
    return f"the place {name}" if kind == "place" else "every till of its location"


def assign(
    context: typer.Context,
    name: NameArgument,
    till: TillOption = "",
    place: PlaceOption = "",
    shared: Annotated[bool, typer.Option("--shared", help="For every till of its location.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Say for which till or place a device is, so that receipts and scans go there."""
    if sum((bool(till), bool(place), shared)) != 1:
        raise InvalidValueError(
            "device.till_or_place", "Choose one of --till, --place and --shared.", remedy="Say for whom it is."
        )
    client = client_of(context)
    device = placed_device(client, name)
    wanted = {"name": device["name"], "role": role_wanted(client, till, place)}
    device = client.call("POST", f"/v1/devices/{device['id']}/assign", wanted)
    if as_json:
        print_json(device=device)
        return
    print_line(f"{device['name']} is for {role_text(client, device['role'])}.")


def rename(
    context: typer.Context,
    name: NameArgument,
    new: Annotated[str, typer.Argument(help="What people will call it.")],
    as_json: JsonFlag = False,
) -> None:
    """Give a device another name; refused while another terminal in use bears it."""
    client = client_of(context)
    device = one_named(items_of(client.get("/v1/devices")), name, "devices")
    device = client.call("POST", f"/v1/devices/{device['id']}/assign", {"name": new, "role": device["role"]})
    if as_json:
        print_json(device=device)
        return
    print_line(f"It is called {device['name']} now.")


def move(
    context: typer.Context,
    name: NameArgument,
    location: Annotated[str, typer.Argument(help="Name or id of the location where it is used from now on.")],
    as_json: JsonFlag = False,
) -> None:
    """Take a terminal to another location; refused while money is in it."""
    client = client_of(context)
    device = placed_device(client, name)
    wanted = {"location": location_wanted(client, location)}
    device = client.call("POST", f"/v1/devices/{device['id']}/location", wanted)
    if as_json:
        print_json(device=device)
        return
    print_line(f"{device['name']} belongs to {location} now.")


def deactivate(
    context: typer.Context,
    name: NameArgument,
    reason: Annotated[str, typer.Option(help="Why, in 3 to 500 characters; kept.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also with stored payments in it: they stay held. Needs the reason.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Take a device out of use; its name is free then. Refused while money is in it, or may be."""
    if force and not reason.strip():
        raise InvalidValueError(
            "reason_missing", "To force it needs a reason in words.", remedy="Say why with --reason."
        )
    client = client_of(context)
    device = placed_device(client, name)
    path = f"/v1/devices/{device['id']}/deactivate"
    device = client.call("POST", path, {"reason": reason, "force": force})
    if as_json:
        print_json(device=device)
        return
    print_line(f"{device['name']} is out of use.")
    if device["held_count"]:
        print_line(f"{device['held_count']} payments stay held in it until the bank or a person has decided.")


def activate(context: typer.Context, name: NameArgument, as_json: JsonFlag = False) -> None:
    """Use a device that is known and not in use."""
    client = client_of(context)
    device = placed_device(client, name)
    device = client.call("POST", f"/v1/devices/{device['id']}/activate")
    if as_json:
        print_json(device=device)
        return
    waits = device["kind"] == "terminal" and not device["active"]
    print_line(f"{device['name']} {'is used as soon as it answers' if waits else 'is in use'}.")


def add_phone(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What people will call it.")],
    location: LocationOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Register a terminal that is an app on a phone: its name and its history are kept here."""
    from hubd.runtime import SystemIds

    client = client_of(context)
    places = items_of(client.get("/v1/locations"))
    if not location and len(places) > 1:
        raise InvalidValueError(
            "device.location_unclear", "There are several locations.", remedy="Name one with --location."
        )
    at = location_wanted(client, location) if location else str(places[0]["id"]) if places else ""
    device = client.call("PUT", f"/v1/devices/{SystemIds().new_id()}", {"name": name, "location": at})
    if as_json:
        print_json(device=device)
        return
    print_line(f"{device['name']} is registered: {device['id']}.")
