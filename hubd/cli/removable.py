"""`hubctl removable`: may this hub be taken out of service? Not while anything would be lost with it (promise 5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import typer

from hubd.cli.checks import Finding, Level, findings_json
from hubd.cli.common import JsonFlag, dead_store, target_of
from hubd.cli.lock import is_held
from hubd.cli.output import Exit, print_json, print_line, print_table
from hubd.model.payment import Payment, PaymentState

if TYPE_CHECKING:
    from hubd.store.leaving import InTheWay


def removable(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Say whether this hub may be taken out of service; if not, exit code 1, what is in the way and how to go on.

    Changes nothing, and works with the hub down: only of a hub that has stopped is the answer still true afterwards.
    """
    from hubd.store.leaving import in_the_way

    config = target_of(context).config()
    runs = is_held(config.paths.data)  # before the store is read: what a stopping hub still writes must not be missed
    with dead_store(config) as connection:
        found = in_the_way(connection)
    findings = list(_findings(found, runs=runs))
    if as_json:
        print_json(removable=not findings, in_the_way=findings_json(findings), payments=_payments_json(found))
    elif findings:
        _tell(findings, found)
    else:
        print_line("Nothing is in the way: the cloud has confirmed everything, and no payment waits for a word.")
    if findings:
        raise typer.Exit(Exit.UNHEALTHY)


def _findings(found: InTheWay, *, runs: bool) -> Iterator[Finding]:
    if found.unconfirmed is not None:
        yield Finding(
            "cloud",
            Level.BAD,
            f"The cloud has not confirmed {found.unconfirmed.entries} entries,"
            f" {found.unconfirmed.payments} payments among them.",
            "Start the hub with a line to its cloud and wait until `hubctl sync` has nothing waiting."
            if found.enrolled
            else "No cloud knows this hub: enrol it (`hubctl enrol`), or keep its data directory; only that has them.",
        )
    stored = [one for one in found.undecided if one.state is PaymentState.STORED]
    if len(stored) < len(found.undecided):
        yield Finding(
            "outcome",
            Level.BAD,
            f"{len(found.undecided) - len(stored)} payments have no known outcome.",
            "Start the hub and let it ask the terminal; what that cannot tell, a manager decides on the hub's page.",
        )
    if stored:
        yield Finding(
            "custody",
            Level.BAD,
            f"{len(stored)} payments are stored in a terminal, or sent by it and not answered for.",
            "Leave hub and terminal on until they are sent and answered; a manager decides the rest with the bank's"
            " statement.",
        )
    if found.unheard:
        yield Finding(
            "terminals",
            Level.BAD,
            f"{len(found.unheard)} terminals were used in an outage and have not answered since.",
            "Switch them on beside the running hub; one that never will is taken out of use with a reason.",
        )
    if runs:
        yield Finding(
            "hub",
            Level.BAD,
            "The hub runs and may take another payment at any moment.",
            "When nothing else is in the way, stop it (`systemctl disable --now hubd`) and ask again.",
        )


def _tell(findings: Iterable[Finding], found: InTheWay) -> None:
    print_line("Do not remove this hub yet.")
    for finding in findings:
        print_line(f"{finding.text}\n    {finding.remedy}")
    if found.undecided:
        print_line()
        rows = [(one.money.plain(), one.state, one.custody, one.terminal, one.id) for one in found.undecided]
        print_table(("amount", "state", "custody", "terminal", "id"), rows, empty="")


def _payments_json(found: InTheWay) -> list[dict[str, object]]:
    return [_payment_json(one) for one in found.undecided]


def _payment_json(one: Payment) -> dict[str, object]:
    return {
        "id": one.id,
        "state": one.state.value,
        "custody": one.custody.value if one.custody else None,
        "terminal": one.terminal,
        "amount": {"amount": one.money.amount_minor, "currency": one.currency},
    }
