"""`hubctl devices options|set|test-code`: what is set of one device, its change, and the code of scanners."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from hubd.cli.common import JsonFlag, client_of
from hubd.cli.device_trials import device_named
from hubd.cli.output import print_json, print_line, print_table
from hubd.errors import InvalidValueError

NameArgument = Annotated[str, typer.Argument(help="Name or id of the device.")]
ASK = "-"
"""Instead of a value: it is asked for, and not shown. What is typed behind a command is seen by others."""
SET, LOST = "set", "lost"


def options(context: typer.Context, name: NameArgument, as_json: JsonFlag = False) -> None:
    """What may be set of a device, and what counts now."""
    client = client_of(context)
    device = device_named(client, name)
    found = client.get(f"/v1/devices/{device['id']}/options")
    if as_json:
        print_json(options=found)
        return
    print_table(("option", "value", "from", "allowed", "what for"), _rows(found), empty="Nothing can be set of it.")


def set_(
    context: typer.Context,
    name: NameArgument,
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="OPTION=VALUE",
            help="As `hubctl devices options` names them. Without a value: as before it was set. "
            "A password is asked for with `password=-`.",
        ),
    ],
    as_json: JsonFlag = False,
) -> None:
    """Set options of a device: `columns=32`, `baud=9600`. Its driver starts anew, never in the middle of something."""
    client = client_of(context)
    device = device_named(client, name)
    path = f"/v1/devices/{device['id']}/options"
    before = client.get(path)
    wanted = _set_now(before["options"]) | dict(map(_asked, values))
    answer = client.call("PUT", path, {"options": wanted}, headers={"if-match": f'"{before["version"]}"'})
    if as_json:
        print_json(options=answer)
        return
    print_table(("option", "value", "from", "allowed", "what for"), _rows(answer), empty="Nothing can be set of it.")
    if answer["waiting"]:
        print_line(f"{device['name']} is busy; this counts once it has ended what it does.")


def print_test_code(context: typer.Context, name: NameArgument, as_json: JsonFlag = False) -> None:
    """Print the code by which a scanner that types shows for which keyboard it is set; it has to read it once."""
    client = client_of(context)
    device = device_named(client, name, "scanner")
    answer = client.call("POST", f"/v1/devices/{device['id']}/test-code")
    if as_json:
        print_json(device=device["id"], test_code=answer)
        return
    print_line(f"The test code is being printed. Let {device['name']} read it once.")


def _rows(found: Mapping[str, Any]) -> Iterable[tuple[object, ...]]:
    for one in found["options"]:
        hidden = "(secret)" if one["kind"] == "secret" and one["source"] == SET else ""
        source = "lost: type it again" if one["source"] == LOST else one["source"]
        yield one["name"], one["value"] or hidden, source, one["allowed"], one["why"]


def _set_now(found: Iterable[Mapping[str, Any]]) -> dict[str, str | None]:
    """What is set, to be said again: what a change leaves out would be taken back."""
    return {one["name"]: one["value"] for one in found if one["source"] == SET and one["kind"] in _SAID}


_SAID = ("choice", "number", "text")


def _asked(typed: str) -> tuple[str, str | None]:
    name, equals, value = typed.partition("=")
    if not equals or not name:
        raise InvalidValueError("device.option_unclear", f"{typed} sets nothing.", remedy="Write OPTION=VALUE.")
    if value == ASK:
        value = str(typer.prompt(name, hide_input=True))
    return name, value or None


def register(app: typer.Typer) -> None:
    """Add these commands to `hubctl devices`."""
    app.command("options")(options)
    app.command("set")(set_)
    app.command("test-code")(print_test_code)
