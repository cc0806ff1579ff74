"""`hubctl outages`: list them, show a statement, and verify one without trusting hub or cloud."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hubd.cli.common import JsonFlag, client_of, dead_store, items_of, target_of
from hubd.cli.output import Exit, moment_text, money_text, print_facts, print_json, print_line, print_table, time_text
from hubd.errors import InvalidValueError, NotFoundError

if TYPE_CHECKING:
    from hubd.model.entry import Entry
    from hubd.model.statement import Verdict

app = typer.Typer(help="Outages and their statements.", invoke_without_command=True)
STATEMENT_BYTES_MAX = 4 * 1024 * 1024
KEY_BYTES = 32


@app.callback()
def list_(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List the outages, newest first."""
    if context.invoked_subcommand is not None:
        return
    found = items_of(client_of(context).get("/v1/outages"))
    if as_json:
        print_json(outages=found)
        return
    rows = [
        (
            moment_text(item.get("started_at")),
            moment_text(item.get("ended_at")) or "still open",
            item.get("cause"),
            item.get("statement"),
            item.get("id"),
        )
        for item in found
    ]
    print_table(("began", "ended", "cause", "statement", "id"), rows, empty="There was no outage.")


@app.command()
def statement(
    context: typer.Context,
    outage: Annotated[str, typer.Argument(help="The outage's id. Default: the newest outage.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Print the newest statement of an outage."""
    client = client_of(context)
    if not outage:
        outages = items_of(client.get("/v1/outages"))
        if not outages:
            raise NotFoundError("outage.not_found", "There was no outage.", remedy="A statement follows an outage.")
        outage = str(outages[0]["id"])
    document = client.get(f"/v1/outages/{outage}/statement")
    if as_json:
        print_json(statement=document)
        return
    _print_statement(document)


def _print_statement(answer: dict[str, Any]) -> None:
    """What a person asks of it: is it final, do both sides agree, how much money, what is missing."""
    said: dict[str, Any] = answer["statement"]
    agrees = "hub and cloud agree" if answer.get("agrees") else "HUB AND CLOUD DO NOT AGREE"
    print_line(f"{str(answer.get('finality', '')).upper()}: {agrees}. Statement {answer.get('id')}.")
    began, ended = time_text(said.get("started_at_us")), time_text(said.get("ended_at_us"))
    count = said.get("payments", {}).get("count", 0)
    print_facts(
        [
            ("outage", f"{began} to {ended}, {str(said.get('cause', '')).replace('_', ' ')}"),
            ("payments", f"{count}: {said.get('lost')} lost, {said.get('doubled')} doubled, {said.get('open')} open"),
            (
                "not heard since",
                ", ".join(str(one.get("name") or one.get("id")) for one in answer.get("unheard") or []),
            ),
            ("replaces", answer.get("replaces")),
            ("not in the sums", _apart(said)),
        ]
    )
    for total in said.get("totals", []):
        rows = [
            (heading, found["count"], money_text({"amount": found["total"], "currency": total["currency"]}))
            for heading, found in total["buckets"].items()
            if found["count"] or heading == "taken"
        ]
        print_line()
        print_table((f"{total['kind']}s in {total['currency']}", "count", "money"), rows, empty="")
    print_line("\nTo check it without trusting anybody: add --json > FILE, then `hubctl outages verify FILE`.")


def _apart(said: dict[str, Any]) -> str:
    """What the cloud holds and does not count: a copy's payments, and records that it cannot read yet."""
    copies, newer = said.get("quarantined", {}).get("count", 0), said.get("uninterpreted", 0)
    found = [f"{copies} payments of a copy"] if copies else []
    return ", ".join([*found, f"{newer} records of a newer version"] if newer else found)


@app.command()
def verify(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The statement as JSON.")],
    cloud_key: Annotated[
        str, typer.Option(help="The cloud's public key: hex, base64 or a file. Default: the key from enrolment.")
    ] = "",
    entries: Annotated[
        Path | None, typer.Option(help="Archive folder, or the hub's database: recompute the sums from its entries.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Verify a statement: the cloud's signature, and with --entries every sum. Needs no hub; exit code 1 if wrong."""
    from hubd.identity import verify_signature
    from hubd.model.statement import verify_statement, verify_with_entries

    document = _document(file)
    verdict = verify_statement(document, _key(context, cloud_key, document), verify_signature)
    verdicts = [verdict]
    if verdict.ok and entries is not None:
        verdicts.append(verify_with_entries(document, _entries(entries)))
    reasons = [reason for found in verdicts for reason in found.reasons]
    matched = [name for found in verdicts for name in found.matched]
    if as_json:
        print_json(ok=not reasons, reasons=reasons, matched=matched, payments=verdicts[-1].payments)
    else:
        _print_verdict(verdicts[-1], reasons, matched)
    if reasons:
        raise typer.Exit(Exit.UNHEALTHY)


def _print_verdict(verdict: Verdict, reasons: list[str], matched: list[str]) -> None:
    for reason in reasons:
        print_line(f"WRONG: {reason}")
    if not reasons:
        print_line(f"The statement over {verdict.payments} payments is right. Compared: {', '.join(matched)}.")


def _document(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            raw = stream.read(STATEMENT_BYTES_MAX + 1)
        document = json.loads(raw) if len(raw) <= STATEMENT_BYTES_MAX else None
    except (OSError, ValueError) as exc:
        raise InvalidValueError("statement.unreadable", f"{file} is not a statement: {exc}.") from exc
    if not isinstance(document, dict):
        raise InvalidValueError("statement.unreadable", f"{file} is not a statement.", remedy="Use the JSON form.")
    # The API wraps the signed document once, `outages statement --json` a second time.
    while "format" not in document and isinstance(inner := document.get("statement"), dict):
        document = inner
    return document


def _key(context: typer.Context, given: str, document: dict[str, Any]) -> bytes:
    if given:
        return read_key(given)
    from hubd.store.offline import cloud_key

    with dead_store(target_of(context).config()) as connection:
        key = cloud_key(connection, str(document.get("key_id", "")))
    if key is None:
        raise InvalidValueError(
            "statement.no_key", "This hub knows no key of the cloud.", remedy="Give it with --cloud-key."
        )
    return key


def read_key(given: str) -> bytes:
    """A public key of 32 bytes given as hex, as base64 or as a file with one of them (or the raw bytes)."""
    text = given.strip()
    if Path(given).is_file():
        raw = Path(given).read_bytes()
        if len(raw) == KEY_BYTES:
            return raw
        text = raw.decode("ascii", "replace").strip()
    for decode in (bytes.fromhex, lambda value: base64.b64decode(value, validate=True)):
        try:
            key = decode(text)
        except ValueError:
            continue
        if len(key) == KEY_BYTES:
            return key
    raise InvalidValueError("statement.wrong_key", "The key is not 32 bytes as hex or base64.", remedy="Check it.")


def _entries(source: Path) -> Iterable[Entry]:
    """Entries from an archive folder or a database, in order, their chain verified first."""
    from hubd.store.offline import verified_entries

    return verified_entries(source)
