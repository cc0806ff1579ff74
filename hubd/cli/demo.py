"""`hubctl demo`: plays the story in the running demo store (`hubd demo` starts it)."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hubd.cli.client import HubUnreachableError
from hubd.cli.common import JsonFlag
from hubd.cli.demo_places import control_socket
from hubd.cli.output import Exit, money_text, print_error, print_json, print_line
from hubd.errors import HubError

if TYPE_CHECKING:
    import httpx2

app = typer.Typer(
    help="Play outage, unplug, sale and scan in the demo store that `hubd demo` runs.", no_args_is_help=True
)

DIRECTORY = Path(".demo")
ANSWER_TIMEOUT_S = 180.0
"""Longer than the demo itself waits for its hub to notice an outage."""
ANSWER_BYTES_MAX = 1024 * 1024
SALE_WAIT_S = 25
SCAN_WAIT_S = 3.0
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
    """Play outage, unplug, sale and scan in the demo store that `hubd demo` runs."""
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
    device: Annotated[str, typer.Argument(help="Such as 'Terminal 1', 1, printer, scanner or scale.")],
    as_json: JsonFlag = False,
) -> None:
    """Pull a device's plug."""
    answer = tell(_directory(context), cmd="unplug", device=device)
    _report(answer, f"{answer.get('device')} is unplugged.", as_json=as_json)


@app.command()
def replug(
    context: typer.Context,
    device: Annotated[str, typer.Argument(help="Such as 'Terminal 1', 1, printer, scanner or scale.")],
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


@app.command()
def scan(
    context: typer.Context,
    code: Annotated[str, typer.Argument(help="What the scanner reads, such as 4006381333931.")],
    as_json: JsonFlag = False,
) -> None:
    """Scan something, and show what the demo's till has heard of it."""
    directory = _directory(context)
    heard = _heard(directory, code)
    if as_json:
        print_json(scan=heard)
    elif heard is None:
        print_error("The till has heard nothing: the scanner is unplugged, or it read no whole code or a card number.")
    else:
        print_line(f"The till has heard {heard['text']} ({heard['symbology']}).")
    if heard is None:
        raise typer.Exit(Exit.UNHEALTHY)


@app.command()
def weigh(
    context: typer.Context,
    grams: Annotated[int, typer.Argument(help="What lies on the scale then; 0 takes it off.", min=0)],
    as_json: JsonFlag = False,
) -> None:
    """Put something on the scale, and show what the demo's till gets when it asks for the weight."""
    directory = _directory(context)
    told = tell(directory, cmd="weigh", grams=grams)
    with _till(directory) as http:
        devices = _answer(http.get("/v1/devices"))["items"]
        scale = next(one["id"] for one in devices if one.get("identity") == told["identity"])
        weight = _answer(http.get(f"/v1/scales/{scale}/weight"))
    if as_json:
        print_json(weight=weight)
    elif weight.get("grams") is None:
        print_error(f"No weight ({weight.get('reason')}). {weight.get('remedy') or ''}".rstrip())
    else:
        print_line(f"The till reads {weight['grams']} g.")
    if weight.get("grams") is None:
        raise typer.Exit(Exit.UNHEALTHY)


@app.command("paper-out")
def paper_out(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Let the printer run out of paper."""
    answer = tell(_directory(context), cmd="paper", lines=0)
    _report(answer, f"{answer.get('device')} is out of paper; try `hubctl demo sale`.", as_json=as_json)


@app.command("paper-in")
def paper_in(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Put a new roll into the printer; what waited for it is printed."""
    answer = tell(_directory(context), cmd="paper")
    _report(answer, f"{answer.get('device')} has paper again.", as_json=as_json)


@contextmanager
def _till(directory: Path, **more: str) -> Iterator[httpx2.Client]:
    """The demo's till: its token, and the headers in `more`. Raises HubUnreachableError."""
    import httpx2

    try:
        till = json.loads((directory / "till.json").read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise _not_running(directory, ", or it has no till yet") from exc
    headers = {"Authorization": f"Bearer {till['token']}", **more}
    try:
        with httpx2.Client(base_url=till["http"], headers=headers, timeout=SALE_WAIT_S + 10.0) as http:
            yield http
    except httpx2.TransportError as exc:
        raise _not_running(directory, " that answers") from exc


def _answer(response: httpx2.Response) -> dict[str, Any]:
    """What the hub has said. Raises HubError for what it refuses."""
    found: dict[str, Any] = response.json()
    if response.status_code >= 400:
        raise HubError(str(found.get("code")), str(found.get("detail")), remedy=str(found.get("remedy") or ""))
    return found


def _heard(directory: Path, code: str) -> dict[str, Any] | None:
    """Let the scanner read something; what the till's own stream of scans says then, None if it stays silent."""
    import httpx2

    with _till(directory) as http, http.stream("GET", "/v1/scans", timeout=SCAN_WAIT_S) as stream:
        lines = stream.iter_lines()
        next(lines)  # it is heard from here on
        tell(directory, cmd="scan", code=code)
        try:
            for line in lines:
                name, _, value = line.partition(": ")
                if name == "data":
                    heard: dict[str, Any] = json.loads(value)["data"]
                    return heard
        except httpx2.ReadTimeout:
            return None
    return None


def _sell(directory: Path, amount_minor: int, *, cash: bool) -> dict[str, Any]:
    from hubd.runtime import SystemIds

    path = f"/v1/payments/{SystemIds().new_id()}"
    body = {"amount": {"amount": amount_minor, "currency": CURRENCY}, "tender": "cash" if cash else "card"}
    with _till(directory, Prefer=f"wait={SALE_WAIT_S}") as http:
        response = http.put(path, json=body)
        for _ in range(SALE_ASKS_MAX):
            if response.status_code >= 400 or response.json().get("state") not in UNDECIDED:
                break
            response = http.get(path)
    return _answer(response)
