"""The cloud's address for hubs and people: enrolment, credentials, and the cloud's copies of statements.

POST /enrol            {code, public_key, nonce, signature}   -> tenant, store, locations, root_key, broker, credentials
POST /renew            {hub, time_us, nonce, signature}       -> broker, credentials
GET  /statements/{id}  -> the statement as signed, the key that signed it and the root's word for that key
POST /carried            the file of `hubctl journal export`   -> entries, new, documents, upto_seq
PUT  /backups/{id}, GET /backups, GET /backups/{hub}/{id}       the hubs' sealed backups (sync.cloud.backups)
GET  /healthz
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from hubd.errors import HubError
from hubd.model.ids import UUID7
from hubd.runtime import Clock
from sync.carried import Unpacker, damaged
from sync.cloud.backups import Asked, BackupShelf
from sync.cloud.cloud import ReferenceCloud
from sync.cloud.credentials import BrokerCredentials, CredentialIssuer
from sync.cloud.storage import HubRow

BODY_BYTES_MAX = 4096
CARRIED_BYTES_MAX = 512 * 1024 * 1024
PROTOCOL = 1
BACKUP_STATUS = {"backup.signature": 403, "backup.too_large": 413, "backup.other_content": 409, "backup.gone": 404}


class EnrolRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Binary fields in hexadecimal."""

    protocol: int
    code: str
    public_key: str
    nonce: str
    signature: str


class RenewRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Binary fields in hexadecimal."""

    protocol: int
    hub_id: str
    nonce: str
    time_us: int
    signature: str


@dataclass(frozen=True, slots=True)
class BrokerPlace:
    """Where hubs find the broker, and the CA of its certificate (empty: the system's list)."""

    host: str
    port: int
    tls: bool = True
    ca_pem: str = ""


class CloudHttp:
    """Handlers, made once for an application."""

    def __init__(
        self,
        cloud: ReferenceCloud,
        issuer: CredentialIssuer,
        broker: BrokerPlace,
        clock: Clock,
        shelf: BackupShelf | None = None,
    ) -> None:
        self._cloud = cloud
        self._shelf = shelf
        self._issuer = issuer
        self._broker = broker
        self._clock = clock

    def app(self) -> Starlette:
        """The application, to be served behind TLS."""
        app = Starlette(
            routes=[
                Route("/enrol", self._enrol, methods=["POST"]),
                Route("/renew", self._renew, methods=["POST"]),
                Route("/statements/{id}", self._statement, methods=["GET"]),
                Route("/carried", self._carried, methods=["POST"]),
                Route("/healthz", self._health, methods=["GET"]),
                *self._backup_routes(),
            ]
        )
        app.router.redirect_slashes = False
        return app

    def _backup_routes(self) -> list[Route]:
        if self._shelf is None:
            return []
        return [
            Route("/backups", self._backups, methods=["GET"]),
            Route("/backups/{id}", self._store_backup, methods=["PUT"]),
            Route("/backups/{hub}/{id}", self._backup, methods=["GET"]),
        ]

    async def _asks(self, request: Request) -> tuple[BackupShelf, Asked, HubRow]:
        assert self._shelf is not None, "there are no such routes without a shelf"
        asked = Asked.of(request.headers)
        path = request.url.path
        return self._shelf, asked, await self._shelf.caller(asked, request.method, path, self._clock.now_us())

    async def _store_backup(self, request: Request) -> Response:
        try:
            shelf, asked, row = await self._asks(request)
            stored = await shelf.store(row, request.path_params["id"], asked, request.stream(), self._clock.now_us())
        except HubError as exc:
            return _problem(exc, BACKUP_STATUS.get(exc.code, 400))
        return JSONResponse(asdict(stored))

    async def _backups(self, request: Request) -> Response:
        try:
            shelf, _, row = await self._asks(request)
            found = await shelf.for_store(row)
        except HubError as exc:
            return _problem(exc, BACKUP_STATUS.get(exc.code, 400))
        return JSONResponse({"items": [asdict(stored) for stored in found]})

    async def _backup(self, request: Request) -> Response:
        try:
            shelf, _, row = await self._asks(request)
            path, _ = await shelf.file(row, request.path_params["hub"], request.path_params["id"])
        except HubError as exc:
            return _problem(exc, BACKUP_STATUS.get(exc.code, 400))
        return FileResponse(path, media_type="application/octet-stream")

    async def _enrol(self, request: Request) -> Response:
        try:
            asked = await _read(request, EnrolRequest)
            key, nonce, signature = (_raw(text) for text in (asked.public_key, asked.nonce, asked.signature))
            done = await self._cloud.enrol(asked.code, key, nonce, signature)
            credentials = await self._issuer.issue(done.tenant, done.hub)
        except HubError as exc:
            return _problem(exc, 403 if exc.code.startswith("enrol.") else 400)
        except OSError:
            return _unavailable()
        return self._granted(done.tenant, done.store, done.locations, credentials)

    async def _renew(self, request: Request) -> Response:
        try:
            asked = await _read(request, RenewRequest)
            # A hub that booted without a clock is not turned away: its nonce serves once, whatever its clock says.
            row = await self._cloud.check_renewal(
                _raw(asked.hub_id), asked.time_us, _raw(asked.nonce), _raw(asked.signature)
            )
            credentials = await self._issuer.issue(row.tenant, row.hub)
        except HubError as exc:
            return _problem(exc, 403 if exc.code.startswith("renew.") else 400)
        except OSError:
            return _unavailable()
        return self._granted(row.tenant, row.store, row.locations, credentials)

    def _granted(self, tenant: str, store: str, locations: tuple[str, ...], credentials: BrokerCredentials) -> Response:
        return JSONResponse(
            {
                "tenant": tenant,
                "store": store,
                "locations": list(locations),
                "root_key": self._cloud.keys.root.public_key.hex(),
                "broker": asdict(self._broker),
                "credentials": asdict(credentials),
                "time_us": self._clock.now_us(),
            }
        )

    async def _statement(self, request: Request) -> Response:
        statement_id = request.path_params["id"]
        document = await self._cloud.statement(statement_id) if UUID7.fullmatch(statement_id) else None
        if document is None:
            return JSONResponse({"code": "not_found", "detail": "There is no such statement."}, 404)
        certificates = {c.key_id: c for c in self._cloud.keys.certificates()}
        certificate = certificates.get(document["key_id"])
        return JSONResponse(
            {
                "statement": document,
                "public_key": self._cloud.keys.public_keys()[document["key_id"]].hex(),
                "root_key": self._cloud.keys.root.public_key.hex(),
                "root_signature": certificate.root_signature.hex() if certificate else "",
            },
            headers={"Cache-Control": "no-store"},
        )

    async def _carried(self, request: Request) -> Response:
        """Entries carried by hand. The file proves itself: every frame is signed by an enrolled hub."""
        into, unpacker, size = self._cloud.importing(), Unpacker(), 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > CARRIED_BYTES_MAX:
                    raise damaged("it is larger than this cloud takes")
                for frame in unpacker.feed(chunk):
                    assert unpacker.header is not None, "frames follow the header"
                    await self._cloud.take_carried(into, unpacker.header, frame)
            header = into.finish(unpacker)
        except HubError as exc:
            return _problem(exc, 409 if exc.code == "carried.gap" else 400)
        done = {"hub": header.hub, "entries": header.count, "new": into.new_count, "documents": into.document_count}
        return JSONResponse(done | {"upto_seq": header.upto_seq})

    async def _health(self, _request: Request) -> Response:
        return JSONResponse({"ok": True})


async def _read(request: Request, form: type[Any]) -> Any:
    """The body, bounded and strict."""
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > BODY_BYTES_MAX:
            raise HubError("invalid_request", "The request is too large.")
    try:
        asked = msgspec.convert(json.loads(raw), form)
    except (ValueError, RecursionError, OverflowError) as exc:
        raise HubError("invalid_request", "The request has not the form that is expected.") from exc
    if asked.protocol != PROTOCOL:
        raise HubError("invalid_request", "The request has a protocol that this cloud does not speak.")
    return asked


def _raw(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as exc:
        raise HubError("invalid_request", "A field is not hexadecimal.") from exc


def _problem(exc: HubError, status: int) -> Response:
    return JSONResponse({"code": exc.code, "detail": exc.detail, "remedy": exc.remedy}, status)


def _unavailable() -> Response:
    detail = {"code": "broker_unavailable", "detail": "The broker does not answer; try again."}
    return JSONResponse(detail, 503, headers={"Retry-After": "5"})
