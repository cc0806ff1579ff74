"""`hubctl status`: can the shop sell, what is wrong, what to do; with the hub down, what its store says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from hubd.cli.client import HubUnreachableError, warn_of_other_version
from hubd.cli.common import JsonFlag, Target, dead_store, items_of, target_of
from hubd.cli.output import Exit, moment_text, money_text, print_error, print_facts, print_json, print_line, time_text
from hubd.errors import HubError

if TYPE_CHECKING:
    from hubd.store.offline import StoreSummary

ILL = frozenset({"critical", "warning"})
HOPS = {
    "link": "link, the hub's own cable or Wi-Fi",
    "gateway": "gateway, the Internet box",
    "dns": "dns, the names of the Internet",
    "internet": "internet, beyond the Internet box",
    "broker": "broker, the mailbox of the cloud",
    "cloud": "cloud, which does not answer",
}
"""What is measured, from near to far, for people."""


def status(context: typer.Context, as_json: JsonFlag = False) -> None:
    """How the hub is: mode, problems with their remedies, what waits for the cloud. Works with the hub down."""
    target = target_of(context)
    client = target.client()
    try:
        hub = client.get("/v1/hub")
    except HubUnreachableError as error:
        _dead(target, error, as_json=as_json)
        raise typer.Exit(Exit.UNREACHABLE) from None
    warn_of_other_version(hub)
    problems = items_of(client.get("/v1/problems"))
    waiting = int(client.get("/v1/sync").get("waiting", 0))
    ill = [problem for problem in problems if problem.get("severity") in ILL]
    setup = _setup(client)
    if as_json:
        print_json(reachable=True, healthy=not ill, hub=hub, problems=problems, setup=setup, waiting=waiting)
    else:
        _print_hub(hub, waiting, problems, setup)
    if ill:
        raise typer.Exit(Exit.UNHEALTHY)


def _setup(client: Any) -> dict[str, Any]:
    """Whether the hub is set up, and the code that a browser needs for it."""
    from hubd.cli.client import RefusedError

    try:
        answer = client.get("/v1/setup")
    except RefusedError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _way(line: dict[str, Any]) -> str:
    limit, reason = money_text(line.get("limit")), line.get("reason")
    if not line.get("allowed"):
        return f"{line.get('way')} no" + (f" ({reason})" if reason else "")
    return f"{line.get('way')} yes" + (f", up to {limit}" if limit else "")


def hub_facts(hub: dict[str, Any]) -> list[tuple[str, object]]:
    """The answer of `GET /v1/hub` for people: what can be sold comes first."""
    line, _, place = str(hub.get("hub_line", "")).partition(":")
    seq = place.partition(":")[0]
    return [
        ("mode", str(hub.get("mode", "")).replace("_", " ")),
        ("outage", hub.get("outage")),
        ("first that fails", HOPS.get(str(hub.get("failing")), hub.get("failing"))),
        ("selling", " · ".join(_way(way) for way in hub.get("accepts") or [])),
        ("the cloud's banner", " ".join(str(banner) for banner in hub.get("banners") or [])),
        ("journal", f"{seq} entries, line {line[:8]}" if seq else ""),
        ("clock", moment_text(hub.get("time")) + ("" if hub.get("clock_trusted") else ", not confirmed by anybody")),
        ("addresses", ", ".join(hub.get("addresses") or [])),
        ("hub", hub.get("hub")),
        ("fingerprint", hub.get("fingerprint")),
        ("version", f"hubd {hub.get('version')}, API {hub.get('api')}"),
    ]


def _print_hub(hub: dict[str, Any], waiting: int, problems: list[dict[str, Any]], setup: dict[str, Any]) -> None:
    print_facts([*hub_facts(hub), ("not yet confirmed", waiting)])
    if setup.get("done") is False:
        print_line()
        print_line(f"Not set up yet. In a browser: the hub's page, with the set-up code {setup.get('code') or '—'}.")
        print_line("Here: `hubctl users setup`.")
    print_line()
    if not problems:
        print_line("No problems.")
    for problem in problems:
        print_line(f"{str(problem.get('severity', '')).upper()}  {problem.get('title')}  [{problem.get('code')}]")
        if problem.get("remedy"):
            print_line(f"    {problem['remedy']}")


def _dead(target: Target, error: HubUnreachableError, *, as_json: bool) -> None:
    from hubd.store.offline import summary

    found: StoreSummary | None = None
    store_error: HubError | None = None
    try:
        with dead_store(target.config()) as connection:
            found = summary(connection)
    except HubError as exc:
        store_error = exc
    if as_json:
        print_json(
            reachable=False,
            healthy=False,
            why={"code": error.code, "detail": error.detail, "remedy": error.remedy},
            store=summary_json(found) if found else None,
            store_error=store_error.code if store_error else None,
        )
        return
    print_error(f"The hub is not reachable. {error.detail}")
    if found is not None:
        print_line("What its store says:")
        print_facts(summary_facts(found))
    elif store_error is not None:
        print_line(f"Its store: {store_error.detail}")
    print_error(f"Next: {error.remedy}")


def summary_json(found: StoreSummary) -> dict[str, Any]:
    """The store's numbers as JSON."""
    return {
        "schema_number": found.schema,
        "head": {"line": found.head.line.hex(), "seq": found.head.seq, "hash": found.head.hash.hex()},
        "confirmed_seq": found.confirmed.seq,
        "unconfirmed_count": found.unconfirmed_count,
        "enrolled": bool(found.enrolled_tenant),
        "open_outage_since": time_text(found.open_outage_started_at_us) if found.open_outage_started_at_us else None,
        "payments_by_state": found.payments_by_state,
        "counters": [
            {"name": count.name, "currency": count.currency, "count": count.count, "total": count.total}
            for count in found.counts
        ],
        "rows": found.rows,
    }


def summary_facts(found: StoreSummary) -> list[tuple[str, object]]:
    """The store's numbers for people."""
    states = ", ".join(f"{count} {state}" for state, count in found.payments_by_state.items())
    outage = found.open_outage_started_at_us
    return [
        ("journal", f"{found.head.seq} entries, line {found.head.line.hex()[:8] or '—'}"),
        ("last payment", time_text(found.head_at_us)),
        ("not yet confirmed", found.unconfirmed_count),
        ("payments", states or "none"),
        ("outage since", time_text(outage) if outage else ""),
        ("enrolled", found.enrolled_tenant or "no"),
    ]
