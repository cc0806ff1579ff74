"""The hub itself: who it is, its journal, its conversation with the cloud, events, health."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hubd.errors import HubError, Retry
from hubd.loading import load
from hubd.model.entry import Entry
from hubd.model.ids import id_text
from hubd.model.mode import Mode
from hubd.model.permissions import Permission
from hubd.services import lists
from hubd.services.access import Caller
from hubd.services.calendar import rfc3339
from hubd.services.feed import Place
from local_api.call import Call, Reply, time_us
from local_api.context import API_VERSION, CAPABILITIES
from local_api.direct import direct_stream
from local_api.events import LOCATED, Events
from local_api.schemas import EntryOut, EventQuery, JournalPage, JournalQuery, TicketOut, money_out
from local_api.table import Auth, RouteSpec
from local_api.tickets import TICKET_LIFE_S

PEM_TYPE = "application/x-pem-file"
BODY_HIDDEN = frozenset({"token_sha256", "public_key"})


async def get_hub(call: Call) -> Reply:
    """Who the hub is and what it can do; callers who are known also hear how it is."""
    facts, services, caller = call.context.facts, call.context.services, call.maybe_caller
    shown: dict[str, object] = {
        "hub": facts.hub_id,
        "version": facts.version,
        "api": API_VERSION,
        "capabilities": CAPABILITIES,
        "fingerprint": facts.fingerprint,
        "time": rfc3339(services.runtime.clock.now_us()),
        "clock_trusted": await asyncio.to_thread(services.runtime.clock.trusted),
        "hub_line": services.feed.hub_line,
    }
    if caller is not None:
        snapshot, now = services.outages.snapshot(), await services.overview.overview(caller.location)
        shown["banners"] = [now.banner] if now.banner else []
        shown["accepts"] = [
            {
                "way": line.way.value,
                "allowed": line.allowed,
                "limit": money_out(line.limit) if line.limit else None,
                "reason": line.reason or None,
            }
            for line in now.ways
        ]
        shown["mode"] = snapshot.mode.value
        shown["outage"] = snapshot.outage_id
        failing = services.outages.facts().first_failing()
        shown["failing"] = failing.value if failing else None
        shown["problems"] = [problem.code for problem in services.problems.visible()]
        shown["addresses"] = facts.addresses()
        shown["you"] = {
            "device": caller.device or None,
            "staff": caller.staff,
            "location": caller.location,
            "permissions": sorted(caller.permissions),
            "language": caller.language,
        }
    return Reply(shown)


def entry_out(entry: Entry, caller: Caller) -> EntryOut:
    """A journal entry as it leaves the hub, without credentials, and without the money that the caller may not see.

    Money that names no location, as an older release may have written it, is for those who read everywhere.
    """
    head, told = entry.head, entry.body()
    body = {name: value for name, value in told.items() if name not in BODY_HIDDEN}
    may_read = entry.kind.partition(".")[0] not in LOCATED or caller.may_at(
        Permission.JOURNAL_READ, told.get("location", "")
    )
    return EntryOut(
        entry.line.hex(),
        entry.seq,
        entry.hash.hex(),
        rfc3339(head.at_us),
        "trusted" if head.clock else "uncertain",
        head.kind,
        head.subject,
        head.actor,
        head.flags,
        body if may_read else None,
        [id_text(document.id) for document in head.documents],
    )


async def list_journal(call: Call) -> Reply:
    """Entries in order, after a seq and narrowed, or of one thing."""
    query, db, caller = call.query, call.context.services.db, call.caller
    assert isinstance(query, JournalQuery), "the table names the type of the query"
    if query.subject:
        found = await lists.entries_of(db, query.subject, query.limit)
        return Reply(JournalPage([entry_out(one, caller) for one in found], 0))
    narrow = lists.JournalFilter(query.kind, query.device, time_us(query.since, "since"), time_us(query.until, "until"))
    found, more = await lists.entries_like(db, narrow, query.after, query.limit)
    return Reply(JournalPage([entry_out(one, caller) for one in found], more))


async def get_sync(call: Call) -> Reply:
    """How far the cloud has confirmed, and how the conversation is."""
    services, facts = call.context.services, call.context.facts
    standing = await lists.standing(services.db)
    chain = await lists.all_lines(services.db)
    return Reply(
        {
            "line": standing.line,
            "head": {"seq": standing.head_seq, "hash": standing.head_hash},
            "confirmed_seq": standing.confirmed_seq,
            "confirmed_at": rfc3339(standing.confirmed_at_us) if standing.confirmed_at_us else None,
            "waiting": standing.waiting,
            "lines": [
                {"line": one.line.hex(), "opened_seq": one.opened_seq, "reason": one.reason, "epoch": one.epoch}
                for one in chain
            ],
            "link": facts.sync() if facts.sync else None,
        }
    )


async def post_ticket(call: Call) -> Reply:
    """A ticket for one stream."""
    return Reply(
        TicketOut(call.context.tickets.issue(call.caller, call.device.origin if call.device else ""), TICKET_LIFE_S),
        201,
    )


class Streams:
    """The event streams; holds the renderer that all followers share. Without one, rows are described, not served."""

    def __init__(self, events: Events | None) -> None:
        self._maybe_events = events

    @property
    def _events(self) -> Events:
        assert self._maybe_events is not None, "rows that are only described are never served"
        return self._maybe_events

    async def sse(self, call: Call) -> Reply:
        """Server-sent events."""
        query = call.query
        assert isinstance(query, EventQuery), "the table names the type of the query"
        place, lost = await self._events.start(call.header.get("last-event-id") or query.after)
        stream = self._events.sse(call.caller, place, lost, direct_stream(call.scope))
        headers = {"x-accel-buffering": "no"}
        return Reply(headers=headers, media_type="text/event-stream", stream=stream)

    async def scans(self, call: Call) -> Reply:
        """What the calling till's scanners read, from now on; events without id, which are not stored."""
        stream = self._events.scans(call.caller)
        return Reply(headers={"x-accel-buffering": "no"}, media_type="text/event-stream", stream=stream)

    async def websocket(self, call: Call) -> Reply:
        """The same over a WebSocket; `?after=LINE:SEQ` resumes."""
        query, receive, send = call.query, call.scope["hubd.receive"], call.scope["hubd.send"]
        assert isinstance(query, EventQuery), "the table names the type of the query"
        await receive()
        await send({"type": "websocket.accept"})
        place, lost = await self._events.start(query.after)

        async def until_closed() -> None:
            while (await receive())["type"] != "websocket.disconnect":
                pass  # what a follower says is not listened to

        async with asyncio.TaskGroup() as group:
            reader = group.create_task(until_closed(), name="api.websocket")
            sender = group.create_task(self._send(call, place, lost), name="api.websocket.send")
            await asyncio.wait({reader, sender}, return_when=asyncio.FIRST_COMPLETED)
            reader.cancel()
            sender.cancel()
        return Reply()

    async def _send(self, call: Call, place: Place, lost: bool) -> None:
        send = call.scope["hubd.send"]
        async for message in self._events.messages(call.caller, place, lost):
            await send({"type": "websocket.send", "text": message.decode()})
        await send({"type": "websocket.close", "code": 1001})


async def get_ca(call: Call) -> Reply:
    """The CA's certificate; a pinning client compares its key, a browser's owner installs it."""
    pem = call.context.facts.ca_pem
    return Reply(pem, media_type=PEM_TYPE, headers={"content-disposition": "inline; filename=hub-ca.pem"})


async def healthz(call: Call) -> Reply:
    """The process answers and its store does."""
    await lists.standing(call.context.services.db)
    return Reply({"status": "ok"})


async def readyz(call: Call) -> Reply:
    """Ready to sell; otherwise 503 with what is in the way."""
    ways = (await call.context.services.overview.overview()).ways
    missing = call.context.facts.ready()
    if not any(line.allowed for line in ways):
        missing = [*missing, *sorted({line.reason for line in ways})]
    if missing:
        raise HubError(
            "not_ready",
            "The hub is not ready.",
            remedy="Look at the problems on the page or with `hubctl status`.",
            retry=Retry.SAME_REQUEST,
            retry_after_s=5,
            params={"problems": ", ".join(missing)},
        )
    return Reply({"status": "ready"})


async def metrics(call: Call) -> Reply:
    """Numbers for Prometheus, made anew for each scrape; nothing global."""
    await load("prometheus_client")
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, Info, generate_latest

    services, facts = call.context.services, call.context.facts
    standing = await lists.standing(services.db)
    registry = CollectorRegistry()
    Info("hubd_build", "Version", registry=registry).info({"version": facts.version, "hub": facts.hub_id})
    for name, text, value in (
        ("hubd_journal_seq", "Seq of the journal's head", standing.head_seq),
        ("hubd_journal_confirmed_seq", "Seq up to which the cloud has confirmed", standing.confirmed_seq),
        ("hubd_journal_waiting", "Entries that the cloud has not confirmed", standing.waiting),
    ):
        Gauge(name, text, registry=registry).set(value)
    mode = Gauge("hubd_mode", "Mode of connectivity, 1 for the present one", ["mode"], registry=registry)
    for one in Mode:
        mode.labels(one.value).set(1 if services.outages.snapshot().mode is one else 0)
    counts = Gauge("hubd_payments", "Payments by running total", ["name", "currency"], registry=registry)
    for total in await lists.running_totals(services.db, ""):
        if not total.name.startswith("day."):
            counts.labels(total.name, total.total.currency).set(total.count)
    problems = Gauge("hubd_problem", "Problems that are shown", ["code", "severity"], registry=registry)
    for problem in services.problems.visible():
        problems.labels(problem.code, problem.severity.value).set(1)
    devices = Gauge("hubd_device_up", "1 when a terminal answers", ["device"], registry=registry)
    for view in await services.devices.all():
        if view.status is not None:
            devices.labels(view.device.id).set(1 if view.status.state.value in {"ready", "busy"} else 0)
    return Reply(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


Description = Callable[[], tuple[bytes, bytes]]
"""The OpenAPI document and its page. Made when first asked for: a hub that starts has sales to answer."""


def _description_rows(description: Description) -> tuple[RouteSpec, ...]:
    """The description of the API, for programs and for people."""

    async def openapi(call: Call) -> Reply:
        """The description of this API."""
        return Reply((await asyncio.to_thread(description))[0])

    async def docs(call: Call) -> Reply:
        """The description for people; loads nothing from anywhere else."""
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
        _, page = await asyncio.to_thread(description)
        return Reply(page, media_type="text/html; charset=utf-8", headers={"content-security-policy": policy})

    return (
        RouteSpec("GET", "/openapi.json", None, openapi, "This description", reply=dict, tag="health"),
        RouteSpec("GET", "/docs", None, docs, "This description for people", media="text/html", tag="health"),
    )


def _stream_rows(streams: Streams) -> tuple[RouteSpec, ...]:
    """What is followed, and the tickets for it."""
    stream_auth = frozenset({Auth.DEVICE, Auth.COOKIE, Auth.LOCAL, Auth.TICKET})
    p = Permission
    return (
        RouteSpec(
            "POST",
            "/v1/events/ticket",
            p.EVENTS_FOLLOW,
            post_ticket,
            "Get a ticket for one stream",
            reply=TicketOut,
            created=True,
            tag="events",
        ),
        RouteSpec(
            "GET",
            "/v1/events",
            p.EVENTS_FOLLOW,
            streams.sse,
            "Follow as server-sent events",
            auth=stream_auth,
            query=EventQuery,
            stream=True,
            tag="events",
        ),
        RouteSpec(
            "GET",
            "/v1/scans",
            p.DEVICES_READ,
            streams.scans,
            "Hear the till's own scanners",
            auth=stream_auth,
            stream=True,
            tag="events",
        ),
        RouteSpec(
            "WS",
            "/v1/events/ws",
            p.EVENTS_FOLLOW,
            streams.websocket,
            "Follow over a WebSocket",
            auth=stream_auth,
            query=EventQuery,
            stream=True,
            tag="events",
        ),
    )


def hub_routes(events: Events | None, description: Description) -> tuple[RouteSpec, ...]:
    """The rows of this module."""
    p = Permission
    return (
        RouteSpec("GET", "/v1/hub", None, get_hub, "Who the hub is and how it is", reply=dict, tag="hub"),
        RouteSpec(
            "GET",
            "/v1/journal",
            p.JOURNAL_READ,
            list_journal,
            "Read the journal",
            query=JournalQuery,
            reply=JournalPage,
            tag="hub",
        ),
        RouteSpec("GET", "/v1/sync", p.SYNC_READ, get_sync, "How far the cloud has confirmed", reply=dict, tag="hub"),
        *_stream_rows(Streams(events)),
        RouteSpec("GET", "/healthz", None, healthz, "Whether process and store answer", reply=dict, tag="health"),
        RouteSpec("GET", "/readyz", None, readyz, "Whether the hub can sell", reply=dict, tag="health"),
        RouteSpec(
            "GET", "/metrics", p.METRICS_READ, metrics, "Numbers for Prometheus", media="text/plain", tag="health"
        ),
        RouteSpec("GET", "/ca.pem", None, get_ca, "The certificate of the hub's own CA", media=PEM_TYPE, tag="health"),
        *_description_rows(description),
    )
