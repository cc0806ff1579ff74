"""`hubctl demo`: plays the story in the running demo store (`hubd demo` starts it)."""

from __future__ import annotations

import json
import socket
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from hubd.cli.client import HubUnreachableError
from hubd.cli.common import JsonFlag
from hubd.cli.demo_places import control_socket
from hubd.cli.output import Exit, money_text, print_error, print_json, print_line
from hubd.errors import HubError

app = typer.Typer(help="Play outage, unplug and sale in the demo store that `hubd demo` runs.", no_args_is_help=True)

DIRECTORY = Path(".demo")
ANSWER_TIMEOUT_S = 180.0
"""Longer than the demo itself waits for its hub to notice an outage."""
ANSWER_BYTES_MAX = 1024 * 1024
SALE_WAIT_S = 25
SALE_ASKS_MAX = 6
"""Times the till asks again; the slowest test amount takes 90 s."""
UNDECIDED = frozenset({"requested", "in_progress"})
CURRENCY = "EUR"


class Kind(StrEnum):
    """What fails in an outage."""

    NETWORK = "network"
    SERVICE = "service"


@app.callback()
def options(
    context: typer.Context,
    directory: Annotated[Path, typer.Option("--dir", help="The demo's directory.")] = DIRECTORY,
) -> None:
    """Play outage, unplug and sale in the demo store that `hubd demo` runs."""
    context.obj = directory.absolute()


def _directory(context: typer.Context) -> Path:
    found = context.obj
    assert isinstance(found, Path), "set by the callback of the group"
    return found


def _not_running(directory: Path, why: str) -> HubUnreachableError:
    return HubUnreachableError(
        "demo.not_running",
        f"No demo store runs in {directory}{why}.",
        remedy="Start it with `hubd demo` or `make run`.",
    )


def tell(directory: Path, **request: Any) -> dict[str, Any]:
    """Send one command to the demo. Raises HubUnreachableError, and HubError for what it refuses."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
            end.settimeout(ANSWER_TIMEOUT_S)
            end.connect(str(control_socket(directory)))
            end.sendall(json.dumps(request).encode() + b"\n")
            with end.makefile("rb") as stream:
                answer = json.loads(stream.readline(ANSWER_BYTES_MAX))
    except (OSError, ValueError) as exc:
        raise _not_running(directory, "") from exc
    if "code" in answer:
        raise HubError(str(answer["code"]), str(answer.get("detail")), remedy=str(answer.get("remedy") or ""))
    found: dict[str, Any] = answer
    return found


def _report(answer: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(**answer)
    elif answer.get("ok"):
        print_line(text)
    else:
        print_error(f"The hub still says {answer.get('mode')}, not {answer.get('expected')}.")
    if not answer.get("ok"):
        raise typer.Exit(Exit.UNHEALTHY)


@app.command()
def outage(
    context: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="network: the line is cut; service: the cloud does not answer.")],
    as_json: JsonFlag = False,
) -> None:
    """Begin an outage, and wait until the hub has noticed it by itself."""
    answer = tell(_directory(context), cmd="outage", kind=kind.value)
    _report(
        answer, f"The hub has noticed: {answer.get('mode')}. It trades on; try `hubctl demo sale`.", as_json=as_json
    )


@app.command()
def restore(context: typer.Context, as_json: JsonFlag = False) -> None:
    """End the outage, and wait until the hub is online again."""
    answer = tell(_directory(context), cmd="restore")
    _report(answer, "The hub is online again; what was stored is on its way.", as_json=as_json)


@app.command()
def unplug(
    context: typer.Context,
    device: Annotated[str, typer.Argument(help="Such as 'Terminal 1', 1, tcp or serial.")],
    as_json: JsonFlag = False,
) -> None:
    """Pull a device's plug."""
    answer = tell(_directory(context), cmd="unplug", device=device)
    _report(answer, f"{answer.get('device')} is unplugged.", as_json=as_json)


@app.command()
def replug(
    context: typer.Context,
    device: Annotated[str, typer.Argument(help="Such as 'Terminal 1', 1, tcp or serial.")],
    as_json: JsonFlag = False,
) -> None:
    """Plug a device in again."""
    answer = tell(_directory(context), cmd="replug", device=device)
    _report(answer, f"{answer.get('device')} is plugged in again.", as_json=as_json)


def minor_units(text: str) -> int:
    """`12`, `12.5` or `12.05` euros in cents. Raises `typer.BadParameter`."""
    try:
        cents = Decimal(text.replace(",", ".")) * 100
    except InvalidOperation:
        cents = Decimal(0)
    if not cents.is_finite() or cents != cents.to_integral_value() or cents <= 0:
        raise typer.BadParameter(f"{text} is not a price in euros and cents, such as 12.50", param_hint="AMOUNT")
    return int(cents)


@app.command()
def sale(
    context: typer.Context,
    amount: Annotated[
        str, typer.Argument(help="In euros. The cents choose what the terminal does: 05 declines.")
    ] = "12.00",
    cash: Annotated[bool, typer.Option("--cash", help="Paid in cash.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Sell something at the demo's till: a payment over the API, with the till's own token."""
    payment = _sell(_directory(context), minor_units(amount), cash=cash)
    if as_json:
        print_json(payment=payment)
    else:
        print_line(f"{money_text(payment.get('total'))}  {payment.get('state')}  {payment.get('id')}")
        say = payment.get("say") or {}
        print_line(f"Cashier: {say.get('cashier')}")
        print_line(f"Customer: {say.get('customer')}")
    if payment.get("state") not in {"approved", "stored"}:
        raise typer.Exit(Exit.UNHEALTHY)


def _sell(directory: Path, amount_minor: int, *, cash: bool) -> dict[str, Any]:
    import httpx2

    from hubd.runtime import SystemIds

    try:
        till = json.loads((directory / "till.json").read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise _not_running(directory, ", or it has no till yet") from exc
    path = f"/v1/payments/{SystemIds().new_id()}"
    body = {"amount": {"amount": amount_minor, "currency": CURRENCY}, "tender": "cash" if cash else "card"}
    headers = {"Authorization": f"Bearer {till['token']}", "Prefer": f"wait={SALE_WAIT_S}"}
    try:
        with httpx2.Client(base_url=till["http"], headers=headers, timeout=SALE_WAIT_S + 10.0) as http:
            response = http.put(path, json=body)
            for _ in range(SALE_ASKS_MAX):
                if response.status_code >= 400 or response.json().get("state") not in UNDECIDED:
                    break
                response = http.get(path)
    except httpx2.TransportError as exc:
        raise _not_running(directory, " that answers") from exc
    found: dict[str, Any] = response.json()
    if response.status_code >= 400:
        raise HubError(str(found.get("code")), str(found.get("detail")), remedy=str(found.get("remedy") or ""))
    return found
