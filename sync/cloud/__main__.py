"""A small stand-alone cloud: `python -m sync.cloud --data DIR --broker 127.0.0.1:1883 --http-port 8090 --code CODE`."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

import uvicorn

from hubd.runtime import system_runtime
from sync.cloud.backups import BackupShelf
from sync.cloud.cloud import CODE_LIFETIME_S, ReferenceCloud
from sync.cloud.credentials import OpenBroker
from sync.cloud.http import BrokerPlace, CloudHttp
from sync.cloud.keys import load_or_create_keys
from sync.cloud.mqtt import CloudBroker, CloudWorker, DynsecIssuer
from sync.cloud.settlement import TestAmountAcquirer
from sync.cloud.store import ThreadRunner

BROKER_PORT = 1883
GROUP_TOKEN_CHARS_MIN = 20


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sync.cloud", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory of the cloud's database and keys")
    parser.add_argument("--broker", default=f"127.0.0.1:{BROKER_PORT}", help="host:port of the broker")
    parser.add_argument("--broker-user", default="", help="name at the broker")
    parser.add_argument("--broker-password-file", type=Path, help="file with the password at the broker")
    parser.add_argument("--dynsec", action="store_true", help="the broker has mosquitto's dynamic-security plugin")
    parser.add_argument("--http-host", default="127.0.0.1", help="address for enrolment and statements")
    parser.add_argument("--http-port", type=int, default=8090)
    parser.add_argument("--tls-certificate", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--code", help="accept this enrolment code once, for the store below")
    parser.add_argument(
        "--replace",
        nargs=3,
        metavar=("HUB", "LINE", "SUCCESSOR"),
        help="say once, signed, that a hub's line SUCCESSOR sells in the place of LINE (hexadecimal)",
    )
    parser.add_argument("--group-token-file", type=Path, help="file with a token that binds many hubs to that store")
    parser.add_argument("--group-token-uses", type=int, default=1, help="how many hubs it may bind")
    parser.add_argument("--group-token-hours", type=int, default=CODE_LIFETIME_S // 3600, help="how long it is good")
    parser.add_argument("--tenant", default="demo")
    parser.add_argument("--store", default="store-1")
    parser.add_argument("--backup-key", type=Path, help="the tenant's public key for backups (sync.cloud.tenant_key)")
    return parser.parse_args()


async def _accept_group_token(cloud: ReferenceCloud, arguments: argparse.Namespace) -> None:
    """From a file, because the arguments of a program can be read by others on the machine."""
    file: Path = arguments.group_token_file
    token = (await asyncio.to_thread(file.read_text, "utf-8")).strip()
    if len(token) < GROUP_TOKEN_CHARS_MIN:
        raise SystemExit(f"{file}: a group token has at least {GROUP_TOKEN_CHARS_MIN} characters")
    uses, lifetime_s = arguments.group_token_uses, arguments.group_token_hours * 3600
    await cloud.add_code(token, arguments.tenant, arguments.store, uses=uses, lifetime_s=lifetime_s)


async def _serve(arguments: argparse.Namespace) -> None:
    runtime = system_runtime()
    data: Path = arguments.data
    host, _, port = str(arguments.broker).rpartition(":")
    password_file: Path | None = arguments.broker_password_file
    password = await asyncio.to_thread(password_file.read_text, "utf-8") if password_file else ""
    broker = CloudBroker(host, int(port), arguments.broker_user, password.strip())
    keys = await asyncio.to_thread(load_or_create_keys, data, runtime.ids.token_bytes)
    cloud = ReferenceCloud(ThreadRunner(data / "cloud.db"), keys, runtime, TestAmountAcquirer())
    dynsec = DynsecIssuer(broker, runtime, cloud) if arguments.dynsec else None
    shelf = BackupShelf(cloud, data / "backups")
    http = CloudHttp(cloud, dynsec or OpenBroker(), BrokerPlace(host, int(port), tls=False), runtime.clock, shelf)
    server = uvicorn.Server(
        uvicorn.Config(
            http.app(),
            host=arguments.http_host,
            port=arguments.http_port,
            ssl_certfile=arguments.tls_certificate,
            ssl_keyfile=arguments.tls_key,
            log_level="warning",
        )
    )
    if arguments.backup_key:
        text = await asyncio.to_thread(arguments.backup_key.read_text, "ascii")
        await cloud.set_backup_key(arguments.tenant, bytes.fromhex(text.strip()))
    if arguments.code:
        await cloud.add_code(arguments.code, arguments.tenant, arguments.store)
    if arguments.replace:
        hub, line, successor = (bytes.fromhex(text) for text in arguments.replace)
        await cloud.replace_line(hub, line, successor)  # what is to be said is sent when the hubs say hello
    if arguments.group_token_file:
        await _accept_group_token(cloud, arguments)
    try:
        async with asyncio.TaskGroup() as group:
            worker = group.create_task(CloudWorker(cloud, broker, runtime.clock).run(), name="cloud.worker")
            expiry = group.create_task(dynsec.run(), name="cloud.expiry") if dynsec else None
            await server.serve()
            worker.cancel()
            if expiry is not None:
                expiry.cancel()
    finally:
        await cloud.close()


def main() -> None:
    """Serve until interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    asyncio.run(_serve(_arguments()))


if __name__ == "__main__":
    main()
