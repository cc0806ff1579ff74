"""`hubctl devices show|watch|identify|test|trace`: one device looked at closely. None of these moves money."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from hubd.cli.client import Client, HubUnreachableError
from hubd.cli.common import JsonFlag, client_of, items_of
from hubd.cli.output import Exit, moment_text, money_text, print_facts, print_json, print_line
from hubd.errors import InvalidValueError

TEST_TIMEOUT_S = 60.0
"""Longer than the hub waits for a scan."""
FOLLOW_WAIT_S = 25
WELL = frozenset({"ready", "busy"})
WATCHED = ("device.", "endpoints.changed")

NameArgument = Annotated[str, typer.Argument(help="Name or id of the device.")]


def add_to(app: typer.Typer) -> None:
    """Make these commands part of `hubctl devices`."""
    for command in (show, watch, identify, trace):
        app.command()(command)
    app.command("test")(try_out)


def device_named(client: Client, name: str, kind: str = "") -> dict[str, Any]:
    """The one device with a driver of this name or id; raises `device.name_unclear` for none and for several."""
    found = [
        item for item in items_of(client.get("/v1/devices")) if item.get("driver") and kind in ("", item.get("kind"))
    ]
    named = [item for item in found if item.get("id") == name] or [item for item in found if item.get("name") == name]
    if len(named) > 1:  # those out of use keep the name that they had
        named = [item for item in named if item.get("active")]
    if len(named) != 1:
        raise InvalidValueError(
            "device.name_unclear",
            f"{len(named)} devices are called {name}.",
            remedy="Use the id: `hubctl devices`.",
        )
    return named[0]


def show(context: typer.Context, name: NameArgument, as_json: JsonFlag = False) -> None:
    """Everything about one device; exit code 1 when it is in use and not well."""
    client = client_of(context)
    device = client.get(f"/v1/devices/{device_named(client, name)['id']}")
    if as_json:
        print_json(device=device)
    else:
        print_facts(_facts(device))
    if device["active"] and device["state"] not in WELL:
        raise typer.Exit(Exit.UNHEALTHY)


def _facts(device: dict[str, Any]) -> Iterable[tuple[str, object]]:
    last = device["last_problem"] or {}
    yield "name", device["name"]
    yield "id", device["id"]
    yield "kind", device["kind"]
    yield "state", device["state"] or ("" if device["active"] else "not activated")
    yield "last answer", "" if device["last_answer_s"] is None else f"{device['last_answer_s']:g} s ago"
    yield "problem", device["problem"]
    yield "remedy", device["remedy"]
    yield "last problem", f"{last['code']}, {moment_text(last['at'])}" if last else ""
    yield "holds", ", ".join(money_text(held) for held in device["held"])
    yield "works on", device["payment"]
    yield "waiting jobs", device["waiting_jobs"] or ""
    yield "driver", device["driver"]
    yield "line", device["address"]
    yield "identity", device["identity"]
    yield "known by", device["known_by"].replace("_", " ")
    yield "its number", device["terminal_number"]
    yield "software", _software(device)
    yield "for", device["role"] or "every till of its location"
    yield "can", ", ".join(device["capabilities"])


def _software(device: dict[str, Any]) -> str:
    """As the terminal told it; in use, its driver knows whether the protocol has a word for it at all."""
    mute = device["software"] == "unknown" and device["capabilities"] and "tells_software" not in device["capabilities"]
    return "not told by this protocol" if mute else device["software"] or ""


def watch(context: typer.Context) -> None:
    """Say every change of a device as it happens, until Ctrl-C."""
    client = client_of(context)
    names: dict[str, str] = {}
    try:
        for kind, told in client.events("/v1/events"):
            if kind == "stopping":
                raise HubUnreachableError(
                    "hub.stopping", "The hub is being stopped.", remedy="Start the command again."
                )
            if kind.startswith(WATCHED):
                print_line(_change(client, kind, told, names))
                sys.stdout.flush()
    except KeyboardInterrupt:
        return


def _change(client: Client, kind: str, told: dict[str, Any], names: dict[str, str]) -> str:
    if kind == "endpoints.changed":
        return f"{told['data'].get('count', 0)} devices are seen at plugs and on the network"
    if told["subject"] not in names:
        names |= {item["id"]: item["name"] for item in items_of(client.get("/v1/devices"))}
    what = told["data"].get("state") or kind.removeprefix("device.")
    return f"{names.get(told['subject'], told['subject'])}: {what}"


def identify(context: typer.Context, name: NameArgument, as_json: JsonFlag = False) -> None:
    """Let a device show which one it is: a printer prints its name, a ZVT terminal shows it. Others say they cannot."""
    client = client_of(context)
    device = device_named(client, name)
    answer = client.call("POST", f"/v1/devices/{device['id']}/identify")
    if as_json:
        print_json(device=device["id"], **answer)
        return
    shows = "shows its name on its display" if answer["how"] == "shown" else "prints its name"
    print_line(f"{device['name']} {shows}.")


def try_out(context: typer.Context, name: NameArgument, as_json: JsonFlag = False) -> None:
    """Try a device without moving money: a sign of life, a page that says TEST, a weight, a scan within 30 s."""
    client = client_of(context)
    device = device_named(client, name)
    if device["kind"] == "scanner" and not as_json:
        print_line("Scan something now.")
    answer = client.call("POST", f"/v1/devices/{device['id']}/test", timeout_s=TEST_TIMEOUT_S)
    if as_json:
        print_json(device=device["id"], **answer)
    else:
        print_line(f"{device['name']}: {_told(answer)}")
        if answer["remedy"]:
            print_line(answer["remedy"])
    if not answer["good"]:
        raise typer.Exit(Exit.UNHEALTHY)


def _told(answer: dict[str, Any]) -> str:
    match answer["outcome"]:
        case "answers":
            return "it answers."
        case "printing":
            return "a page that says TEST is on its way; look whether accents, the euro and the code are right."
        case "weight":
            return f"{answer['grams']} g."
        case "no_weight":
            return "it has no weight to give now."
        case "scanned":
            kind = f" ({answer['symbology']})" if answer["symbology"] else ""
            return f"it has read a code of {answer['characters']} characters{kind}."
        case _:
            return "nothing was scanned."


def trace(
    context: typer.Context,
    name: NameArgument,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write it into this file instead.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """What went over a device's line, without card data. It is kept in memory only, and not for long."""
    client = client_of(context)
    device = device_named(client, name)
    lines = lines_of(client, device["id"])
    if save is not None:
        save.write_text("".join(f"{line_text(line)}\n" for line in lines), "utf-8")
        if not as_json:
            print_line(f"{save}: {len(lines)} lines")
    if as_json:
        print_json(device=device["id"], lines=lines)
    if as_json or save is not None:
        return
    _print_lines(lines)
    if follow:
        _follow(client, device["id"], lines[-1]["number"] if lines else 0)


def _follow(client: Client, device_id: str, last: int) -> None:
    try:
        while True:
            lines = lines_of(client, device_id, after=last, wait_s=FOLLOW_WAIT_S)
            _print_lines(lines)
            last = lines[-1]["number"] if lines else last
    except KeyboardInterrupt:
        return


def _print_lines(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        print_line(line_text(line))
    sys.stdout.flush()


def lines_of(client: Client, device_id: str, **query: int) -> list[dict[str, Any]]:
    """The lines of a device's trace; raises what the hub refuses."""
    lines: list[dict[str, Any]] = client.get(f"/v1/devices/{device_id}/trace", **query)["lines"]
    return lines


def line_text(line: dict[str, Any]) -> str:
    """One line of a trace for people: when, which way, what, how often."""
    times = f"  ×{line['times']}" if line["times"] > 1 else ""
    return f"{line['at']} {line['way']} {line['text']}{times}"
