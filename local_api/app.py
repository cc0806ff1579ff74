"""The application: the route table, the gate in front of it, and the endpoint behind it. No globals.

The framework's router is not asked who may do what: the table is, for the API's own rows and for the page's alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from hubd.services.bundle import Services
from local_api.call import Endpoint
from local_api.context import ApiContext, HubFacts
from local_api.events import Events
from local_api.gate import App, Doors, Gate, Listener, Receive, Scope, Send
from local_api.openapi import as_bytes, describe, docs_page
from local_api.routes import orders, payments, people, store
from local_api.routes.hub import hub_routes
from local_api.table import RouteSpec, RouteTable
from local_api.tickets import Tickets


@dataclass(frozen=True, slots=True)
class Pages:
    """What another part serves through the same gate: its rows (without handler) and its one ASGI application."""

    rows: Sequence[RouteSpec]
    app: App


class Inside:
    """Behind the gate: rows with a handler go to the API's endpoint, the others to the pages' application."""

    def __init__(self, endpoint: App, pages: Pages | None) -> None:
        self._endpoint = endpoint
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what the gate let through."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        spec = cast("RouteSpec", scope["hubd.spec"])
        if spec.handler is not None:
            await self._endpoint(scope, receive, send)
            return
        assert self._pages is not None, "only pages bring rows without a handler"
        await self._pages.app(scope, receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    """Nothing of ours starts or stops with a server: the supervisor owns that."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def api_rows(events: Events, document: bytes = b"", page: bytes = b"") -> tuple[RouteSpec, ...]:
    """Every row of the API, in one table."""
    return (*hub_routes(events, document, page), *payments.ROUTES, *orders.ROUTES, *people.ROUTES, *store.ROUTES)


def route_table(events: Events, pages: Pages | None = None) -> RouteTable:
    """The whole table, with the description made from its own rows."""
    document = describe(api_rows(events))
    rows = api_rows(events, as_bytes(document), docs_page(document))
    return RouteTable((*rows, *(pages.rows if pages else ())))


@dataclass(frozen=True, slots=True)
class Api:
    """What all listeners share: table, tickets, events."""

    context: ApiContext
    table: RouteTable
    pages: Pages | None

    def app(self, listener: Listener) -> Gate:
        """The application of one listener."""
        services = self.context.services
        return Gate(
            Inside(Endpoint(self.context), self.pages),
            self.table,
            services.access,
            services.feed,
            self.context.tickets,
            services.runtime.clock,
            Doors(self.context.facts.names),
            listener,
        )


def create_api(services: Services, facts: HubFacts, pages: Pages | None = None) -> Api:
    """The API of one hub, for any number of listeners."""
    context = ApiContext(services, facts, Tickets(services.runtime))
    return Api(context, route_table(Events(services.feed), pages), pages)
