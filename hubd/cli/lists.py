"""`hubctl payments orders sync`: what the hub knows, as lists."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hubd.cli.common import JsonFlag, all_items, client_of
from hubd.cli.output import moment_text, money_text, print_facts, print_json, print_line, print_table

LIMIT_MAX = 10_000
sync = typer.Typer(
    help="What the cloud has confirmed, what waits, and how the line to it is.", invoke_without_command=True
)
Limit = Annotated[int, typer.Option(min=1, max=LIMIT_MAX, help="How many, newest first.")]


def payments(
    context: typer.Context,
    state: Annotated[str | None, typer.Option(help="Only this state, such as unknown or stored.")] = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only what has no outcome yet.")] = False,
    since: Annotated[str | None, typer.Option(help="Only from this moment on (RFC 3339).")] = None,
    limit: Limit = 50,
    as_json: JsonFlag = False,
) -> None:
    """Payments, newest first."""
    found = all_items(
        client_of(context), "/v1/payments", limit, state=state, since=since, open="true" if open_only else None
    )
    if as_json:
        print_json(payments=found)
        return
    rows = [
        (
            moment_text(item.get("requested_at")),
            money_text(item.get("total") or item.get("amount")),
            item.get("method"),
            item.get("state"),
            item.get("custody"),
            item.get("reason"),
            item.get("number"),
            item.get("id"),
        )
        for item in found
    ]
    head = ("requested", "amount", "method", "state", "custody", "reason", "number", "id")
    print_table(head, rows, empty="There are no such payments.")


def orders(
    context: typer.Context,
    state: Annotated[str | None, typer.Option(help="Only this state.")] = None,
    limit: Limit = 50,
    as_json: JsonFlag = False,
) -> None:
    """Orders, newest first."""
    found = all_items(client_of(context), "/v1/orders", limit, state=state)
    if as_json:
        print_json(orders=found)
        return
    rows = [
        (
            moment_text(item.get("placed_at")),
            item.get("number"),
            money_text(item.get("total")),
            item.get("state"),
            len(item.get("lines") or []),
            item.get("id"),
        )
        for item in found
    ]
    print_table(("placed", "number", "total", "state", "lines", "id"), rows, empty="There are no such orders.")


@sync.callback()
def sync_status(context: typer.Context, as_json: JsonFlag = False) -> None:
    """What the cloud has confirmed, what waits, and how the line to it is."""
    if context.invoked_subcommand is not None:
        return
    answer = client_of(context).get("/v1/sync")
    if as_json:
        print_json(sync=answer)
        return
    print_facts(flat(answer))


@sync.command("retry")
def sync_retry(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Apply again what the cloud sent and the hub could not use, in order; what fails again is kept."""
    answer = client_of(context).call("POST", "/v1/sync/retry")
    assert isinstance(answer, dict), "the route answers with an object"
    if as_json:
        print_json(**answer)
        return
    print_line(f"{answer['applied']} of the cloud's messages could be used now.")


def flat(value: Any, name: str = "") -> list[tuple[str, object]]:  # any JSON value
    """A JSON object as dotted names and values."""
    if isinstance(value, dict):
        return [fact for key, inner in value.items() for fact in flat(inner, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        return [fact for number, part in enumerate(value, 1) for fact in flat(part, f"{name}[{number}]")]
    if isinstance(value, list):
        return [(name, ", ".join(str(part) for part in value))]
    return [(name, "yes" if value is True else "no" if value is False else value)]
