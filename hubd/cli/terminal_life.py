"""`hubctl devices` for a terminal's life: calls home, what is declared of it, its history and who is logged in."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hubd.cli.client import Client
from hubd.cli.common import JsonFlag, client_of, items_of
from hubd.cli.device_trials import device_named
from hubd.cli.output import money_text, print_json, print_line, print_table
from hubd.errors import InvalidValueError

CALL_TIMEOUT_S = 960.0
"""Longer than the hub waits for a terminal that calls home."""
Name = Annotated[str, typer.Argument(help="Name or id of the terminal.")]


def _say_run(name: str, answer: dict[str, Any], support: str) -> None:
    if answer["done"]:
        print_line(f"{name}: done.")
    elif answer["left"]:
        print_line(f"{name}: incomplete. Still open: {', '.join(answer['left'])}.")
    elif answer["ran"]:
        print_line(f"{name}: it did not work ({answer['reason']}).")
    else:
        print_line(f"{name}: its protocol has no word for it.")
    if answer.get("after"):
        print_line(f"Software before: {answer['before']}. After: {answer['after']}.")
    for number, step in enumerate(answer["steps"], 1):
        print_line(f"  {number}. {step}")
    if support and not answer["done"]:
        print_line(f"Support: {support}")


def _support(client: Client, device_id: str) -> str:
    return str(client.get(f"/v1/devices/{device_id}/life").get("support") or "")


def parameter_session(
    context: typer.Context,
    name: Name,
    every: Annotated[bool, typer.Option("--all", help="For every provider that was declared.")] = False,
    done: Annotated[list[str] | None, typer.Option(help="A provider for which it was done at the terminal.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Let a terminal fetch its acquirers' parameters, or print how it is done in its menu."""
    if every and done:
        raise InvalidValueError("device.all_or_done", "Choose --all or --done.", remedy="Leave one of them out.")
    client = client_of(context)
    terminal = device_named(client, name, "terminal")
    path = f"/v1/devices/{terminal['id']}/parameter-session"
    answer = client.call("POST", path, {"done": done or []}, timeout_s=CALL_TIMEOUT_S)
    if as_json:
        print_json(device=terminal["id"], parameter_session=answer)
        return
    _say_run(terminal["name"], answer, _support(client, terminal["id"]))


def tms_contact(context: typer.Context, name: Name, as_json: JsonFlag = False) -> None:
    """Let a terminal call its management system (TMS), or print how it is done in its menu."""
    client = client_of(context)
    terminal = device_named(client, name, "terminal")
    answer = client.call("POST", f"/v1/devices/{terminal['id']}/tms-contact", timeout_s=CALL_TIMEOUT_S)
    if as_json:
        print_json(device=terminal["id"], tms_contact=answer)
        return
    _say_run(terminal["name"], answer, _support(client, terminal["id"]))


def declare(
    context: typer.Context,
    name: Name,
    model: Annotated[str, typer.Option(help="As it is printed on it, such as A920.")] = "",
    provider: Annotated[
        list[str] | None, typer.Option(help="An acquirer that its menu shows; may be repeated.")
    ] = None,
    default_password: Annotated[
        bool | None,
        typer.Option(
            "--default-password/--own-password", help="Whether its menu still has the password of the manual."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what a terminal cannot be asked: model, providers, whether its menu has a password of its own."""
    client = client_of(context)
    terminal = device_named(client, name, "terminal")
    said = {"model": model, "providers": provider or [], "default_password": default_password}
    answer = client.call("PUT", f"/v1/devices/{terminal['id']}/declaration", said)
    if as_json:
        print_json(life=answer)
        return
    print_line(f"{terminal['name']}: {answer['model'] or 'model not said'}, providers: {len(answer['providers'])}.")


def sign_out(context: typer.Context, name: Name, as_json: JsonFlag = False) -> None:
    """Log out on a terminal that answers; it takes no payments until somebody uses it again."""
    client = client_of(context)
    terminal = device_named(client, name, "terminal")
    answer = client.call("POST", f"/v1/devices/{terminal['id']}/sign-out")
    if as_json:
        print_json(device=answer)
        return
    print_line(f"{terminal['name']}: nobody is logged in.")


def history(context: typer.Context, name: Name, as_json: JsonFlag = False) -> None:
    """Payments under a terminal's name, also by the devices that bore it before, newest first."""
    client = client_of(context)
    terminal = device_named(client, name, "terminal")
    found = items_of(client.get(f"/v1/devices/{terminal['id']}/history"))
    if as_json:
        print_json(device=terminal["id"], payments=found)
        return
    rows = [(one.get("id"), one.get("state"), money_text(one["amount"]), one.get("terminal")) for one in found]
    print_table(("payment", "state", "amount", "taken by"), rows, empty="No payment under this name.")


def register(app: typer.Typer) -> None:
    """Add these commands to `hubctl devices`."""
    app.command("parameter-session")(parameter_session)
    app.command("tms-contact")(tms_contact)
    app.command("declare")(declare)
    app.command("sign-out")(sign_out)
    app.command("history")(history)
