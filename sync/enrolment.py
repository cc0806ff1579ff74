"""The hub's side of enrolment: binds it to a tenant and a store, and keeps its short-lived broker credentials fresh.

Two HTTPS requests to the cloud's address (docs/reference/sync.asyncapi.yaml, "Enrolment"):

    POST /enrol  {protocol, code, public_key, nonce, signature}   over ENROL | str8 code | public_key | bytes8 nonce
    POST /renew  {protocol, hub_id, nonce, time_us, signature}    over RENEW | hub_id | i64 time_us | bytes8 nonce

both answered with tenant, store, locations, root key, broker and credentials. The binding is an entry
(`hub.enrolled`); the credentials are a file beside the hub's key, because they are secrets and change by the hour.
A hub that is not enrolled trades all the same.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
import struct
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from hubd.cloud_ports import LinkAddress, Signer
from hubd.config_sections import CloudConfig
from hubd.errors import ConfigError, HubError, Retry, SyncError
from hubd.loading import load
from hubd.model.entry import Draft
from hubd.runtime import Runtime
from hubd.services.access import Caller
from hubd.store import enrolment, journal
from hubd.store.db import Database
from hubd.store.enrolment import Enrolment as Bound
from hubd.store.tx import Tx

if TYPE_CHECKING:
    import httpx2

log = logging.getLogger(__name__)

PROTOCOL = 1
ENROL_DOMAIN = b"hubd.enrol.v1\0"
RENEW_DOMAIN = b"hubd.renew.v1\0"
NONCE_BYTES = 16
CODE_MAX = 200
REQUEST_TIMEOUT_S = 15.0
CARRY_TIMEOUT_S = 60.0
CARRY_CHUNK_BYTES = 64 * 1024
RENEW_BEFORE_US = 15 * 60 * 1_000_000
CREDENTIALS_FILE = "cloud.json"
_HUB = Caller("", None, "", frozenset(), "en")
_HOST = r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])"
_CLOUD_ADDRESS = re.compile(
    rf"(https://{_HOST}|http://(127\.0\.0\.1|\[::1\]|localhost))(:[0-9]{{1,5}})?(/[A-Za-z0-9._~/-]*)?"
)


class BrokerPlace(msgspec.Struct, frozen=True):
    """Where the topics are."""

    host: str
    port: int
    tls: bool = True
    ca_pem: str = ""
    """The CA of the broker's certificate; empty: the system's list."""


class Credentials(msgspec.Struct, frozen=True):
    """What the broker lets the hub in with, for a while."""

    username: str
    password: str
    expires_at_us: int = 0
    """0: they do not end."""


class Granted(msgspec.Struct, frozen=True):
    """The cloud's answer to both requests."""

    tenant: str
    store: str
    root_key: str
    broker: BrokerPlace
    credentials: Credentials
    locations: tuple[str, ...] = ()
    """Ids; what they are called comes by the cloud's journal or is set here."""


class Kept(msgspec.Struct, frozen=True):
    """What the file beside the key holds."""

    cloud: str
    granted: Granted


class _Refused(msgspec.Struct, frozen=True):
    code: str
    detail: str = ""
    remedy: str = ""


def enrol_bytes(code: str, public_key: bytes, nonce: bytes) -> bytes:
    """What the hub signs to enrol."""
    raw = code.encode("utf-8")
    return ENROL_DOMAIN + bytes((len(raw),)) + raw + public_key + bytes((len(nonce),)) + nonce


def renew_bytes(hub_id: bytes, nonce: bytes, time_us: int) -> bytes:
    """What the hub signs to get fresh credentials."""
    return RENEW_DOMAIN + hub_id + struct.pack(">q", time_us) + bytes((len(nonce),)) + nonce


class Enrolment:
    """Enrols once, renews for ever, and tells the cloud link where to go."""

    def __init__(self, db: Database, runtime: Runtime, signer: Signer, config: CloudConfig, folder: Path) -> None:
        self._db = db
        self._runtime = runtime
        self._signer = signer
        self._config = config
        self._file = folder / CREDENTIALS_FILE
        self._kept: Kept | None = None
        self._loaded = False

    async def enrol(self, cloud: str, code: str, caller: Caller) -> Bound:
        """Bind this hub by a one-time code; durable on return. The same tenant again only renews the credentials.

        Raises `enrolment.refused`, `enrolment.code_spent` or `enrolment.code_expired` for a code the cloud does not
        take, `enrolment.other_tenant` when the hub belongs to another tenant already, `enrolment.unreachable` when the
        cloud does not answer. Safe to repeat: the cloud counts a code once for each hub.
        """
        kept = await _ask_to_enrol(self._config, self._runtime, self._signer, cloud, code)
        bound = await self._db.write("sync.enrol", lambda tx: _bind(tx, kept.granted, caller))
        await self._keep(kept)
        return bound

    async def is_enrolled(self) -> bool:
        """Whether the hub belongs to a store and has what it needs to reach its cloud."""
        try:
            kept = await self._load()
        except HubError:
            return False  # damaged: enrolling again brings it back
        return kept is not None and await self._db.read("sync.bound", enrolment.get) is not None

    async def belongs_to(self) -> tuple[str, str] | None:
        """Tenant and store; None while the hub is not enrolled."""
        bound = await self._db.read("sync.bound", enrolment.get)
        return (bound.tenant, bound.store) if bound else None

    async def address(self) -> LinkAddress | None:
        """Topics and credentials, renewed in time; None while the hub is not enrolled."""
        kept = await self._load()
        if kept is None:
            return None
        bound = await self._db.read("sync.bound", enrolment.get)
        if bound is None:
            # The journal was restored from before the enrolment; the cloud knows this key all the same.
            granted = kept.granted
            bound = await self._db.write("sync.enrol", lambda tx: _bind(tx, granted, _HUB))
        expires = kept.granted.credentials.expires_at_us
        if expires and expires - self._runtime.clock.now_us() < RENEW_BEFORE_US:
            kept = await self._renew(kept)
        hub_id = self._signer.hub_id.hex()
        credentials = kept.granted.credentials
        return LinkAddress(
            tenant=bound.tenant,
            hub_id=hub_id,
            client_id=f"{hub_id}-{self._runtime.start_id}",
            username=credentials.username,
            password=credentials.password,
        )

    def statement_address(self, statement_id: str) -> str:
        """Where people find the cloud's copy of a statement; empty while the hub is not enrolled."""
        return f"{self._kept.cloud}/statements/{statement_id}" if self._kept else ""

    async def cloud(self) -> tuple[str, ssl.SSLContext | bool] | None:
        """The cloud's own address and how it is known; None while the hub is not enrolled."""
        kept = await self._load()
        return (kept.cloud, await _cloud_tls(self._config)) if kept else None

    async def broker(self) -> BrokerPlace | None:
        """Where the broker is, as enrolment told."""
        kept = await self._load()
        return kept.granted.broker if kept else None

    async def tls(self, broker: BrokerPlace) -> ssl.SSLContext | None:
        """The context for the broker's connection; None where it has no TLS (a broker on this machine)."""
        if not broker.tls:
            return None
        return await asyncio.to_thread(_tls_context, broker.ca_pem)

    async def _renew(self, kept: Kept) -> Kept:
        nonce, now_us = self._runtime.ids.token_bytes(NONCE_BYTES), self._runtime.clock.now_us()
        try:
            granted = await _ask(
                self._config,
                f"{kept.cloud}/renew",
                {
                    "protocol": PROTOCOL,
                    "hub_id": self._signer.hub_id.hex(),
                    "nonce": nonce.hex(),
                    "time_us": now_us,
                    "signature": self._signer.sign(renew_bytes(self._signer.hub_id, nonce, now_us)).hex(),
                },
            )
        except SyncError as exc:
            # The old ones may still do: by its own clock, which may be wrong, the hub cannot know.
            log.warning("sync.credentials_not_renewed", extra={"code": exc.code})
            return kept
        renewed = Kept(kept.cloud, granted)
        await self._keep(renewed)
        return renewed

    async def _load(self) -> Kept | None:
        if not self._loaded:
            self._kept = await asyncio.to_thread(_read, self._file)
            self._loaded = True
        return self._kept

    async def _keep(self, kept: Kept) -> None:
        await asyncio.to_thread(_write, self._file, msgspec.json.encode(kept))
        self._kept, self._loaded = kept, True


async def enrol_without_a_journal(
    config: CloudConfig, folder: Path, runtime: Runtime, signer: Signer, cloud: str, code: str
) -> tuple[str, ssl.SSLContext | bool]:
    """The cloud's address and how it is known, for a machine whose journal is still to be restored.

    Where the hub of this key is enrolled already and no code is given, that counts; else the code binds it. What the
    cloud grants is kept beside the key, and the restored hub goes on with it. Raises like `Enrolment.enrol`, and
    `enrolment.code_needed`.
    """
    kept = await asyncio.to_thread(_read, folder / CREDENTIALS_FILE)
    if code:
        kept = await _ask_to_enrol(config, runtime, signer, cloud, code)
        await asyncio.to_thread(_write, folder / CREDENTIALS_FILE, msgspec.json.encode(kept))
    elif kept is None or (cloud and cloud_address(cloud) != kept.cloud):
        raise SyncError(
            "enrolment.code_needed",
            "This machine is not enrolled at that cloud.",
            remedy="Ask the cloud for an enrolment code of the store, as for a new hub.",
        )
    return kept.cloud, await _cloud_tls(config)


async def _ask_to_enrol(config: CloudConfig, runtime: Runtime, signer: Signer, cloud: str, code: str) -> Kept:
    address = cloud_address(cloud)
    if not code or len(code.encode("utf-8")) > CODE_MAX:
        raise SyncError("enrolment.invalid_code", "This is not an enrolment code.", remedy="Copy it from the cloud.")
    nonce = runtime.ids.token_bytes(NONCE_BYTES)
    signature = signer.sign(enrol_bytes(code, signer.public_key, nonce))
    wanted: dict[str, object] = {
        "protocol": PROTOCOL,
        "code": code,
        "public_key": signer.public_key.hex(),
        "nonce": nonce.hex(),
        "signature": signature.hex(),
    }
    return Kept(address, await _ask(config, f"{address}/enrol", wanted))


async def _ask(config: CloudConfig, url: str, body: dict[str, object]) -> Granted:
    await load("httpx2", "httpcore2")  # the first imports the second at its first connection, in the event loop
    import httpx2

    try:
        async with httpx2.AsyncClient(timeout=REQUEST_TIMEOUT_S, verify=await _cloud_tls(config)) as client:
            answer = await client.post(url, json=body)
    except httpx2.HTTPError as exc:
        raise _unreachable() from exc
    if answer.status_code != 200:
        raise _refusal(answer)
    try:
        return msgspec.json.decode(answer.content, type=Granted)
    except msgspec.DecodeError as exc:
        raise _not_a_cloud() from exc


async def _cloud_tls(config: CloudConfig) -> ssl.SSLContext | bool:
    if not config.ca_file:
        return True
    pem = await asyncio.to_thread(Path(config.ca_file).read_text, "ascii")
    return await asyncio.to_thread(_tls_context, pem)


class Carried(msgspec.Struct, frozen=True):
    """The cloud's answer to a file that was carried to it."""

    hub: str
    entries: int
    new: int
    documents: int
    upto_seq: int


def hand_over(config: CloudConfig, folder: Path, file: BinaryIO) -> Carried:
    """Send a file of another hub's entries to the cloud at which this one is enrolled. Blocks: for `hubctl`.

    Raises `carried.not_enrolled`, `enrolment.unreachable`, and what the cloud refuses under its own code.
    """
    kept = _read(folder / CREDENTIALS_FILE)
    if kept is None:
        raise SyncError("carried.not_enrolled", "This hub is enrolled at no cloud.", remedy="Run it on the new hub.")
    verify: ssl.SSLContext | bool = True
    if config.ca_file:
        verify = _tls_context(Path(config.ca_file).read_text("ascii"))
    import httpx2

    try:
        with httpx2.Client(timeout=CARRY_TIMEOUT_S, verify=verify) as client:
            answer = client.post(f"{kept.cloud}/carried", content=iter(partial(file.read, CARRY_CHUNK_BYTES), b""))
    except httpx2.HTTPError as exc:
        raise _unreachable() from exc
    try:
        if answer.status_code == 200:
            return msgspec.json.decode(answer.content, type=Carried)
        said = msgspec.json.decode(answer.content, type=_Refused)
    except msgspec.DecodeError as exc:
        raise _not_a_cloud() from exc
    raise SyncError(said.code, said.detail, remedy=said.remedy)


def _unreachable() -> SyncError:
    return SyncError(
        "enrolment.unreachable",
        "The cloud does not answer.",
        remedy="Check the address and the line; the hub trades without the cloud meanwhile.",
        retry=Retry.SAME_REQUEST,
        retry_after_s=30,
    )


def _not_a_cloud() -> SyncError:
    return SyncError("enrolment.not_a_cloud", "What answered is not the cloud.", remedy="Check the address.")


def _refusal(answer: httpx2.Response) -> SyncError:
    """What a cloud's answer other than 200 means; anything that is not in its words is not from a cloud."""
    if answer.status_code >= 500 or answer.status_code == 429:
        return _unreachable()
    try:
        code = msgspec.json.decode(answer.content, type=_Refused).code
    except msgspec.DecodeError:
        return _not_a_cloud()
    if code == "enrol.spent":
        return SyncError(
            "enrolment.code_spent",
            "The code has served as often as it may.",
            remedy="Ask for a new code: a one-time code serves once, a group token as often as was agreed.",
        )
    if code == "enrol.expired":
        return SyncError(
            "enrolment.code_expired", "The code is too old.", remedy="Ask for a new code: it is not good for long."
        )
    return SyncError(
        "enrolment.refused", f"The cloud refused ({answer.status_code}).", remedy="Copy the code again, or ask anew."
    )


def cloud_address(cloud: str) -> str:
    """The address as requests are built on it. Raises `enrolment.not_https`; plain only on this machine."""
    address = cloud.strip().rstrip("/")
    if not _CLOUD_ADDRESS.fullmatch(address):
        raise ConfigError(
            "enrolment.not_https", "The cloud's address does not begin with https://.", remedy="Correct the address."
        )
    return address


def _bind(tx: Tx, granted: Granted, caller: Caller) -> Bound:
    before = enrolment.get(tx.connection)
    if before is not None and before.tenant != granted.tenant:
        raise SyncError(
            "enrolment.other_tenant",
            "This hub belongs to another tenant.",
            remedy="Export and reset the hub before it changes hands.",
        )
    if before is not None and before.store == granted.store and before.root_key.hex() == granted.root_key:
        return before
    body = {
        "locations": list(granted.locations),
        "root_key": granted.root_key,
        "store": granted.store,
        "tenant": granted.tenant,
    }
    journal.append(tx, Draft("hub.enrolled", "", caller.actor, body))
    bound = enrolment.get(tx.connection)
    assert bound is not None, "the projection has just written it"
    return bound


def _tls_context(ca_pem: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca_pem or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _read(file: Path) -> Kept | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Kept)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as exc:
        raise HubError(
            "enrolment.damaged", f"{file.name} cannot be read.", remedy="Enrol again; the journal is not touched."
        ) from exc


def _write(file: Path, content: bytes) -> None:
    """Whole or absent after a power cut: beside it, synced, renamed, the directory synced."""
    beside = file.with_suffix(".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
