"""The application: FastAPI with one plain route for each row of the route table, and the gate as its middleware.

The framework routes; who may do what is the table's business, for the API's own rows and for the page's alike. Routes
are plain Starlette ones over msgspec structs, described in OpenAPI from the same structs (docs/adr/0010). No globals.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from fastapi import FastAPI
from msgspec import Struct
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from hubd.services.bundle import Services
from local_api.call import Endpoint
from local_api.context import API_VERSION, ApiContext, HubFacts
from local_api.events import Events
from local_api.gate import App, Doors, Gate, Listener
from local_api.openapi import as_bytes, describe, docs_page
from local_api.routes import (
    backups,
    browser,
    device_options,
    devices,
    endpoints,
    orders,
    payments,
    people,
    printing,
    store,
    terminal_life,
    upkeep,
)
from local_api.routes.hub import hub_routes
from local_api.table import RouteSpec, RouteTable
from local_api.tickets import Tickets


class Pages(Struct, frozen=True):
    """What another part serves through the same gate: its rows (without handler) and its one ASGI application."""

    rows: Sequence[RouteSpec]
    app: App


def _described() -> tuple[bytes, bytes]:
    document = describe(api_rows(None))
    return as_bytes(document), docs_page(document)


def api_rows(events: Events | None) -> tuple[RouteSpec, ...]:
    """Every row of the API, in one table; the hottest first, because the framework's router looks in this order."""
    of_hub = hub_routes(events, cache(_described))
    of_store = (
        *store.ROUTES,
        *devices.ROUTES,
        *device_options.ROUTES,
        *printing.ROUTES,
        *endpoints.ROUTES,
        *terminal_life.ROUTES,
        *backups.ROUTES,
        *upkeep.ROUTES,
        *browser.ROUTES,
    )
    return (*payments.ROUTES, *orders.ROUTES, *of_hub, *people.ROUTES, *of_store)


def route_table(events: Events, pages: Pages | None = None) -> RouteTable:
    """The whole table."""
    return RouteTable((*api_rows(events), *(pages.rows if pages else ())))


class Api(Struct, frozen=True):
    """What all listeners share: table, tickets, events."""

    context: ApiContext
    table: RouteTable
    pages: Pages | None

    def app(self, listener: Listener) -> FastAPI:
        """The application of one listener."""
        services = self.context.services
        gate: Any = Middleware(
            Gate,
            table=self.table,
            access=services.access,
            feed=services.feed,
            tills=services.tills,
            tickets=self.context.tickets,
            clock=services.runtime.clock,
            doors=Doors(self.context.facts.names),
            listener=listener,
            endpoint=Endpoint(self.context),
        )
        app = FastAPI(
            title="hubd",
            version=API_VERSION,
            middleware=[gate],
            # The description is made from the table, and served by a row of it like everything else.
            openapi_url=None,
            docs_url=None,
            redoc_url=None,
            # A hub measures itself and tells nobody else; asking at each request whether somebody listens costs time.
            telemetry={"tracing": False, "metrics": False, "logs": False},
        )
        app.router.routes[:] = self._routes()
        return app

    def _routes(self) -> list[BaseRoute]:
        endpoint = Endpoint(self.context)
        routes: list[BaseRoute] = []
        for row in self.table.rows:
            if row.handler is None:
                continue
            if row.method == "WS":
                routes.append(WebSocketRoute(row.path, endpoint))
            else:
                routes.append(Route(row.path, endpoint, methods=[row.method]))
        if self.pages is not None:
            routes.append(Mount("/", app=self.pages.app))
        return routes


def create_api(services: Services, facts: HubFacts, pages: Pages | None = None) -> Api:
    """The API of one hub, for any number of listeners, with the pages that stand behind the same gate."""
    context = ApiContext(services, facts, Tickets(services.runtime))
    return Api(context, route_table(Events(services.feed, services.access), pages), pages)
