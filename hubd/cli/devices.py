"""`hubctl devices`: how they are and what money they hold, and what is done with a terminal at night."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hubd.cli import device_options, device_places
from hubd.cli.client import Client
from hubd.cli.common import JsonFlag, client_of, items_of
from hubd.cli.device_places import LocationOption, PlaceOption, TillOption, place_wanted
from hubd.cli.device_trials import device_named
from hubd.cli.output import money_text, print_json, print_line, print_table
from hubd.cli.terminal_life import register
from hubd.errors import DeviceError

app = typer.Typer(help="Devices, how they are, and what money they hold.", invoke_without_command=True)
PROBE_TIMEOUT_S = 60.0
"""Asking takes about ten seconds."""
END_OF_DAY_TIMEOUT_S = 960.0
"""Longer than the hub waits for a terminal: only the hub's answer says what became of the batch."""


@app.callback()
def list_(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Devices, how they are, and what money they hold."""
    if context.invoked_subcommand is None:
        _list(client_of(context), as_json)


@app.command("list")
def list_all(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Devices, how they are, and what money they hold: the same as `hubctl devices`."""
    _list(client_of(context), as_json)


def _list(client: Client, as_json: bool) -> None:
    found, seen = items_of(client.get("/v1/devices")), items_of(client.get("/v1/endpoints"))
    if as_json:
        print_json(devices=found, endpoints=seen)
        return
    rows = [
        (
            item.get("name"),
            item.get("kind"),
            item.get("state") or _without_state(item),
            ", ".join(money_text(held) for held in item.get("held") or []),
            item.get("problem") or item.get("progress"),
            item.get("address"),
            item.get("id"),
        )
        for item in found
    ]
    print_table(("name", "kind", "state", "holds", "says", "address", "id"), rows, empty="No device is known yet.")
    for item in found:
        if item.get("remedy"):
            print_line(f"{item.get('name')}: {item['remedy']}")
    others = [item for item in seen if item.get("standing") != "known"]
    if others:
        print_line("\nFound, and no device of the store yet:")
        print_table(
            ("name", "standing", "why", "address", "known by", "id"),
            [[item.get(key) for key in ("name", "standing", "why", "address", "identity", "id")] for item in others],
            empty="",
        )


@app.command()
def use(
    context: typer.Context,
    endpoint: Annotated[str, typer.Argument(help="Id of what was found, from `hubctl devices`.")],
    driver: Annotated[str, typer.Option(help="Its driver, where that cannot be seen from here.")] = "",
    name: Annotated[str, typer.Option(help="What people will call it.")] = "",
    till: TillOption = "",
    place: PlaceOption = "",
    location: LocationOption = "",
    replaces: Annotated[str, typer.Option(help="Id of the device whose place it takes, with name and role.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Make what was found a device of the store and use it."""
    client = client_of(context)
    said = {"driver": driver, "name": name, "replaces": replaces, **place_wanted(client, till, place, location)}
    wanted = {key: value for key, value in said.items() if value}
    device = client.call("POST", f"/v1/endpoints/{endpoint}/claim", wanted)
    device = client.call("POST", f"/v1/devices/{device['id']}/activate")
    if as_json:
        print_json(device=device)
        return
    print_line(f"{device['name']} is in use ({device['driver']}).")


@app.command()
def add(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="Where it stands: host, host:port or tcp://host:port.")],
    driver: Annotated[str, typer.Option(help="Its driver; may be left out where its port tells it.")] = "",
    name: Annotated[str, typer.Option(help="What people will call it.")] = "",
    till: TillOption = "",
    place: PlaceOption = "",
    location: LocationOption = "",
    replaces: Annotated[str, typer.Option(help="Id of the device whose place it takes, with name and role.")] = "",
    anyway: Annotated[bool, typer.Option("--anyway", help="Also when it does not answer as it should.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Use a device of the shop's network that announces itself nowhere. It is asked once before."""
    client = client_of(context)
    said = {"name": name, "replaces": replaces, **place_wanted(client, till, place, location)}
    asked = {key: value for key, value in (("address", address), ("driver", driver), ("name", name)) if value}
    found = client.call("POST", "/v1/endpoints", asked, timeout_s=PROBE_TIMEOUT_S)
    if found["probed"] in ("silent", "talks") and not anyway:
        heard = "says something else than it should" if found["probed"] == "talks" else "does not answer as it should"
        raise DeviceError(
            "device.other_answer",
            f"What stands at {found['address']} {heard}.",
            remedy="Compare address and driver. To use it all the same: --anyway.",
        )
    wanted = {key: value for key, value in said.items() if value}
    device = client.call("POST", f"/v1/endpoints/{found['id']}/claim", wanted)
    if found["device"] and (name or said["role"]):  # it was here before, and keeps what it had unless a person says so
        kept = {"name": name or device["name"], "role": said["role"] or device["role"]}
        client.call("POST", f"/v1/devices/{device['id']}/assign", kept)
    device = client.call("POST", f"/v1/devices/{device['id']}/activate")
    if as_json:
        print_json(device=device)
        return
    print_line(f"{device['name']} is in use ({device['driver']}).")


@app.command()
def probe(
    context: typer.Context,
    endpoint: Annotated[str, typer.Argument(help="Id of a serial line, from `hubctl devices`.")],
    as_json: JsonFlag = False,
) -> None:
    """Ask what hangs on a serial line, by questions that move no money, print nothing and weigh nothing."""
    found = client_of(context).call("POST", f"/v1/endpoints/{endpoint}/probe", timeout_s=PROBE_TIMEOUT_S)
    if as_json:
        print_json(endpoint=found)
        return
    if found["looks_like"]:
        print_line(
            f"It answers like {found['looks_like']}. To use it: hubctl devices use {endpoint}"
            f" --driver {found['looks_like']}"
        )
    elif found["probed"] == "talks":
        print_line("Something is there, and no driver of this hub knows it.")
    else:
        print_line("Nothing answers. A scanner is silent until it reads a code.")


@app.command("end-of-day")
def end_of_day(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id of the terminal.")],
    as_json: JsonFlag = False,
) -> None:
    """Close a terminal's batch and print its totals; refused while money is in it or a result is not known."""
    client = client_of(context)
    terminal = device_named(client, name, "terminal")
    path = f"/v1/devices/{terminal['id']}/end-of-day"
    answer = client.call("POST", path, timeout_s=END_OF_DAY_TIMEOUT_S)
    if as_json:
        print_json(device=terminal["id"], end_of_day=answer)
        return
    count, total = answer["count"], answer["total"]
    counted = "not told" if count is None else str(count)
    summed = "not told" if total is None else money_text(total)
    print_line(f"{terminal['name']} has closed its batch. Payments: {counted}. Sum: {summed}.")
    for row in answer["rows"]:
        told = "not told" if row["terminal"] is None else row["terminal"]
        settled = "not known" if row["cloud"] is None else row["cloud"]
        print_line(f"  {row['what']}: terminal {told}, hub {row['hub']}, cloud {settled}: {row['result']}")
    for line in answer["lines"]:
        print_line(f"  {line}")


def _without_state(item: dict[str, Any]) -> str:
    """Of a device whose driver does not run."""
    if item.get("replaced_by"):
        return "replaced"
    return "" if item.get("active") else "not activated"


register(app)
device_options.register(app)
device_places.add_to(app)
