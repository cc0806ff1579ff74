"""`hubctl users` and `hubctl pair`: who may sign in, and which devices belong to the shop."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from hubd.cli.client import Client
from hubd.cli.common import JsonFlag, client_of, items_of
from hubd.cli.output import Exit, print_error, print_json, print_line, print_table
from hubd.errors import InvalidValueError

users = typer.Typer(help="Owners and staff.", no_args_is_help=True)
pair = typer.Typer(help="Pair tills and managers' phones; needs a person in the store.", no_args_is_help=True)
PIN_DIGITS_MIN = 4
PIN_DIGITS_MAX = 12


def _ask_pin() -> str:
    """A PIN typed twice and never shown; from a pipe, one line of standard input."""
    pin: str = typer.prompt("PIN", hide_input=True, confirmation_prompt=True)
    if not (PIN_DIGITS_MIN <= len(pin) <= PIN_DIGITS_MAX and pin.isascii() and pin.isdigit()):
        raise InvalidValueError("invalid_pin", f"A PIN has {PIN_DIGITS_MIN} to {PIN_DIGITS_MAX} digits.")
    return pin


def _new_id() -> str:
    from hubd.runtime import SystemIds

    return SystemIds().new_id()


@users.command("list")
def list_users(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Everybody who may sign in, with their roles."""
    found = items_of(client_of(context).get("/v1/staff"))
    if as_json:
        print_json(users=found)
        return
    rows = [(item.get("name"), _roles_text(item), item.get("language"), item.get("id")) for item in found]
    print_table(("name", "roles", "language", "id"), rows, empty="Nobody yet: `hubctl users setup` makes the owner.")


def _roles_text(person: dict[str, Any]) -> str:
    roles = person.get("roles") or []
    return ", ".join(
        f"{grant.get('role')}" + ("" if grant.get("location") == "*" else f" at {grant.get('location')}")
        for grant in roles
    )


@users.command()
def setup(
    context: typer.Context,
    owner: Annotated[str, typer.Option(prompt="Owner's name", help="Name of the owner.")],
    shop: Annotated[str, typer.Option(prompt="Shop's name", help="Name of the first location.")],
    zone: Annotated[str, typer.Option(prompt="Time zone", help="IANA zone.")] = "Europe/Paris",
    currency: Annotated[str, typer.Option(prompt="Currency", help="ISO 4217 code.")] = "EUR",
    country: Annotated[str, typer.Option(prompt="Country", help="ISO 3166 code.")] = "FR",
    language: Annotated[str, typer.Option(help="Language of the owner: en, fr or nl.")] = "en",
) -> None:
    """Make a fresh hub usable: its first location and its owner."""
    client = client_of(context)
    body = {
        "owner": {"id": _new_id(), "name": owner, "pin": _ask_pin(), "language": language},
        "location": {"id": _new_id(), "name": shop, "zone": zone, "currency": currency, "country": country},
    }
    answer = client.call("POST", "/v1/setup", body)
    print_line(f"{shop} is set up; {owner} may sign in.")
    if isinstance(answer, dict) and answer.get("recovery_code"):
        _show_recovery_code(client, client.get("/v1/recovery-code"))


def _show_recovery_code(client: Client, state: dict[str, Any]) -> None:
    """Print it, and let a person say that it is on paper; a script that reads our output has it then."""
    print_line(f"Recovery code: {state['code']}")
    print_line("Write it down and keep it away from the hub: it opens the backups, and nothing else does.")
    if sys.stdin.isatty() and not typer.confirm("Is it on paper? It is not shown again afterwards"):
        print_line("`hubctl users recovery-code` and the page show it again until you confirm.")
        return
    client.call("POST", "/v1/recovery-code/confirm", {"id": state["id"]})


@users.command("recovery-code")
def recovery_code(
    context: typer.Context,
    new: Annotated[bool, typer.Option("--new", help="Make one in the place of a code that a restart lost.")] = False,
) -> None:
    """Show the code that opens the backups, until somebody has confirmed that it is on paper."""
    client = client_of(context)
    state = client.get("/v1/recovery-code")
    if new and not state["confirmed"]:
        state = client.call("POST", "/v1/recovery-code")
    if state["confirmed"]:
        print_line("There is no code to show: it is on paper, and the hub keeps no copy; or the hub is not set up yet.")
    elif not state["code"]:
        print_line("The hub was restarted before anybody confirmed the code, and it keeps no copy.")
        print_line("`hubctl users recovery-code --new` makes another one.")
    else:
        _show_recovery_code(client, state)


@users.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the person.")],
    role: Annotated[
        str, typer.Option(help="terminal, cashier, activator, manager, owner, technician or auditor.")
    ] = "cashier",
    location: Annotated[str, typer.Option(help="Location id; * means everywhere.")] = "*",
    language: Annotated[str, typer.Option(help="en, fr or nl.")] = "en",
    as_json: JsonFlag = False,
) -> None:
    """Add a person; asks for the PIN."""
    client = client_of(context)
    client.get("/v1/setup")  # an unreachable hub is said before anybody has chosen a PIN
    body = {
        "name": name,
        "pin": _ask_pin(),
        "language": language,
        "roles": [{"role": role, "location": location}],
    }
    person = client.call("PUT", f"/v1/staff/{_new_id()}", body)
    if as_json:
        print_json(user=person)
        return
    print_line(f"{name} may sign in as {role}.")


@users.command()
def remove(context: typer.Context, person: Annotated[str, typer.Argument(help="Id or name.")]) -> None:
    """Take a person out; name and PIN are erased, the journal keeps the id alone."""
    client = client_of(context)
    found = _find(client, person)
    client.call("DELETE", f"/v1/staff/{found['id']}")
    print_line(f"{found['name']} may no longer sign in.")


@users.command("second-factor")
def second_factor(
    context: typer.Context,
    person: Annotated[str, typer.Argument(help="Id or name.")],
    reset: Annotated[bool, typer.Option("--reset", help="Take it away: the phone and the codes are lost.")] = False,
) -> None:
    """Take a person's second factor away, journalled; the next sign-in enrols another one where one is asked for."""
    if not reset:
        raise InvalidValueError("reset_missing", "Nothing to do.", remedy="Say --reset to take it away.")
    client = client_of(context)
    found = _find(client, person)
    client.call("DELETE", f"/v1/staff/{found['id']}/second-factor")
    print_line(f"{found['name']} has no second factor now.")


def _find(client: Client, person: str) -> dict[str, Any]:
    """The one person with this id or name."""
    found = [item for item in items_of(client.get("/v1/staff")) if person in (item.get("id"), item.get("name"))]
    if len(found) != 1:
        raise InvalidValueError(
            "staff_unknown", f"{len(found)} people are called {person}.", remedy="Use the id: `hubctl users list`."
        )
    return dict(found[0])


# -- pairing -----------------------------------------------------------------------------------------------------------


@pair.command("new")
def new_code(
    context: typer.Context,
    kind: Annotated[str, typer.Option(help="till, or viewer for a manager's phone.")] = "till",
    location: Annotated[str | None, typer.Option(help="Location id; default: the first one.")] = None,
    qr: Annotated[bool, typer.Option("--qr", help="Draw the QR code in the terminal.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Open a one-time code for one device. Never read it out on the phone."""
    client = client_of(context)
    body: dict[str, Any] = {"kind": kind, "location": location or _first_location(client)}
    code = client.call("POST", "/v1/pairing-codes", body)
    if as_json:
        print_json(pairing=code)
        return
    print_line(f"Code {code.get('code')}, good for {int(code.get('seconds_left') or 0) // 60} minutes and one {kind}.")
    print_line("Type it into the device here in the store. Never read it out on the phone.")
    if qr and code.get("qr"):
        _draw(str(code["qr"]))
    print_line(f"Then compare the number on its screen: `hubctl pair list`, `hubctl pair confirm {code.get('id')}`.")


def _first_location(client: Client) -> str:
    found = items_of(client.get("/v1/locations"))
    if not found:
        raise InvalidValueError("location_unknown", "The hub is not set up.", remedy="`hubctl users setup`.")
    return str(found[0]["id"])


def _draw(text: str) -> None:
    import sys

    import segno

    segno.make(text, error="m").terminal(sys.stdout, compact=True)


@pair.command("list")
def list_codes(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Open codes and devices that wait to be confirmed."""
    found = items_of(client_of(context).get("/v1/pairing-codes"))
    if as_json:
        print_json(pairings=found)
        return
    rows = [
        (item.get("state"), item.get("kind"), item.get("name"), item.get("origin"), item.get("number"), item.get("id"))
        for item in found
    ]
    print_table(("state", "kind", "device", "origin", "number", "id"), rows, empty="No code is open.")


@pair.command()
def confirm(
    context: typer.Context,
    pairing: Annotated[str, typer.Argument(help="Id of the pairing.")],
    number: Annotated[str, typer.Option(help="The number on the device's screen.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Let a device in whose screen shows the same number."""
    client = client_of(context)
    found = [item for item in items_of(client.get("/v1/pairing-codes")) if item.get("id") == pairing]
    if not found:
        raise InvalidValueError("pairing.unknown", "No such code is open.", remedy="`hubctl pair list`.")
    waiting = found[0]
    typed = number or typer.prompt(f"The number on the screen of {waiting.get('name') or 'the device'}")
    if str(typed).strip() != str(waiting.get("number")):
        print_error("The numbers differ: somebody may stand between the device and the hub. It was not let in.")
        raise typer.Exit(Exit.UNHEALTHY)
    answer = client.call("POST", f"/v1/pairing-codes/{pairing}/confirm")
    if as_json:
        print_json(pairing=answer)
        return
    print_line(f"{waiting.get('name')} belongs to the shop now.")


@pair.command()
def refuse(context: typer.Context, pairing: Annotated[str, typer.Argument(help="Id of the pairing.")]) -> None:
    """Close a code, whether a device waits with it or not."""
    client_of(context).call("POST", f"/v1/pairing-codes/{pairing}/refuse")
    print_line("The code is closed.")


@pair.command("remove")
def remove_device(context: typer.Context, device: Annotated[str, typer.Argument(help="Id of the device.")]) -> None:
    """Take a paired device out; its token is worthless from now on."""
    client_of(context).call("DELETE", f"/v1/pairings/{device}")
    print_line("The device is out.")
