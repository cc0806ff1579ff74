"""The checks of `hubctl doctor`. Each looks at one thing, changes nothing, and names a remedy."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import ssl
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hubd.config import Config
from hubd.errors import HubError

DISK_FREE_BAD_BYTES = 200 * 1024 * 1024
DISK_FREE_WARNING_BYTES = 1024 * 1024 * 1024
CERTIFICATE_WARNING_DAYS = 30
CONNECT_TIMEOUT_S = 5.0
MQTT_TLS_PORT = 8883
MQTT_PORT = 1883
SERIAL_BY_ID = Path("/dev/serial/by-id")
PORT_GRABBERS = {
    "ModemManager": "`systemctl disable --now ModemManager`: it talks to every serial device that appears.",
    "brltty": "`systemctl disable --now brltty`: it takes serial converters for braille displays.",
}
TCP_LISTEN = "0A"


class Level(StrEnum):
    """How a finding is."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw."""

    check: str
    level: Level
    text: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """For scripts."""
        return {"check": self.check, "level": self.level.value, "text": self.text, "remedy": self.remedy}


def all_findings(config: Config, *, hub_is_up: bool) -> list[Finding]:
    """Every check, in the order in which a technician would look."""
    up = Finding("hub", Level.GOOD, "The hub answers.") if hub_is_up else _down(config)
    return [
        Finding("config", Level.GOOD, "The configuration is good."),
        up,
        *permissions(config),
        *disk(config),
        *store(config),
        *clock(),
        *serial_ports(config),
        *ports(config, hub_is_up=hub_is_up),
        *certificate(config, hub_is_up=hub_is_up),
        *broker(config),
    ]


def _down(config: Config) -> Finding:
    from hubd.cli.client import Client, HubUnreachableError

    try:
        Client.of(config).get("/healthz")
    except HubUnreachableError as error:
        return Finding("hub", Level.BAD, error.detail, error.remedy)
    except HubError as error:
        return Finding("hub", Level.BAD, error.detail, error.remedy)
    return Finding("hub", Level.GOOD, "The hub answers.")


# -- files -------------------------------------------------------------------------------------------------------------


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def permissions(config: Config) -> Iterator[Finding]:
    """Owner and mode of the data directory and of the socket's."""
    data = config.paths.data
    try:
        status = data.stat()
    except FileNotFoundError:
        yield Finding(
            "permissions", Level.WARNING, f"{data} does not exist yet.", "The hub makes it at its first start."
        )
        return
    except OSError as exc:
        yield Finding("permissions", Level.BAD, f"{data}: {exc.strerror}.", "Run `sudo hubctl doctor`.")
        return
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        yield Finding("permissions", Level.BAD, f"{data} is open to others (mode {mode:04o}).", f"`chmod 0700 {data}`")
    owner = _name_of(status.st_uid)
    strangers = [path.name for path in _children(data) if path.lstat().st_uid != status.st_uid]
    if strangers:
        shown = ", ".join(sorted(strangers)[:5])
        yield Finding(
            "permissions",
            Level.BAD,
            f"Files in {data} belong to another user than {owner}: {shown}.",
            f"`chown -R {owner}: {data}` (stop the hub first)",
        )
    elif not status.st_mode & 0o077:
        yield Finding("permissions", Level.GOOD, f"{data} belongs to {owner} alone.")


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _can_be_seen(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return False


def disk(config: Config) -> Iterator[Finding]:
    """Free space, and whether the disk is writable and made to last."""
    place = config.paths.data
    while not _can_be_seen(place):
        place = place.parent
    free = shutil.disk_usage(place).free
    shown = f"{free // (1024 * 1024)} MiB are free at {place}."
    remedy = "Free space on this disk; sales are refused before it is full, and what was accepted is safe."
    if free < DISK_FREE_BAD_BYTES:
        yield Finding("disk", Level.BAD, shown, remedy)
    elif free < DISK_FREE_WARNING_BYTES:
        yield Finding("disk", Level.WARNING, shown, remedy)
    else:
        yield Finding("disk", Level.GOOD, shown)
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        yield Finding(
            "disk",
            Level.BAD,
            f"The disk at {place} is read-only: the kernel has found an error on it.",
            "Make a backup now (`hubctl backup make --to DIRECTORY`), then replace the disk.",
        )
    kind = file_system_of(place)
    if kind in {"tmpfs", "ramfs", "nfs", "nfs4", "cifs", "vfat", "exfat", "fuseblk"}:
        yield Finding(
            "disk",
            Level.WARNING,
            f"{place} lies on {kind}, which does not keep what was synced through a power cut.",
            "Put it on a local ext4, xfs or btrfs disk (paths.data).",
        )


def file_system_of(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The type of the file system that holds `path`; empty if it cannot be told."""
    best, kind = "", ""
    try:
        lines = mounts.read_text("utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        words = line.split(" ")
        place = words[1].replace("\\040", " ")
        if (path == Path(place) or Path(place) in path.parents) and len(place) >= len(best):
            best, kind = place, words[2]
    return kind


def store(config: Config) -> Iterator[Finding]:
    """Whether the store can be opened and its newest entries hang together."""
    from hubd.cli.common import dead_store
    from hubd.store.verify import check_start

    try:
        with dead_store(config) as connection:
            wrong = check_start(connection)
    except HubError as error:
        level = Level.WARNING if error.code == "store.absent" else Level.BAD
        yield Finding("store", level, error.detail, error.remedy)
        return
    for text in wrong:
        yield Finding("store", Level.BAD, text, "Copy the data directory away, then `hubctl journal verify`.")
    if not wrong:
        yield Finding("store", Level.GOOD, "The newest entries and the counters are right.")


# -- the machine -------------------------------------------------------------------------------------------------------


def clock() -> Iterator[Finding]:
    """Whether the date can be right and somebody vouches for it."""
    from hubd.runtime import EARLIEST_PLAUSIBLE_US, SystemClock

    system = SystemClock()
    now_us = system.now_us()
    shown = datetime.fromtimestamp(now_us / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if now_us < EARLIEST_PLAUSIBLE_US:
        yield Finding(
            "clock",
            Level.BAD,
            f"The clock says {shown}, which is before this program was made.",
            "`timedatectl set-ntp true`, or set it once by `date -s`; a battery (RTC) keeps it through a power cut.",
        )
    elif not system.trusted():
        yield Finding(
            "clock",
            Level.WARNING,
            f"The clock says {shown}; nobody vouches for it since the boot.",
            "`timedatectl set-ntp true`. The hub sells meanwhile and marks its entries.",
        )
    else:
        yield Finding("clock", Level.GOOD, f"The clock says {shown} and is synchronised.")


def running_programs(proc: Path = Path("/proc")) -> set[str]:
    """Names of the programs that run."""
    found = set()
    for entry in proc.glob("[0-9]*/comm"):
        try:
            found.add(entry.read_text("utf-8").strip())
        except OSError:
            continue
    return found


def serial_ports(config: Config, by_id: Path = SERIAL_BY_ID) -> Iterator[Finding]:
    """Serial ports that are there, that are configured, and who else takes them."""
    user = _service_user(config)
    there = sorted(_children(by_id))
    for port in there:
        problem = _may_use(port, user)
        level = Level.BAD if problem else Level.GOOD
        remedy = f"`usermod -aG dialout {user.pw_name}` and restart the hub; or install 60-hubd.rules."
        yield Finding("serial", level, problem or f"{port.name} can be used.", remedy if problem else "")
    for terminal in config.terminals:
        if terminal.address.startswith("serial://"):
            path = Path(urlsplit(terminal.address).path)
            if not path.exists():
                yield Finding(
                    "serial", Level.BAD, f"{path} is configured and not there.", "Plug the device in, or correct it."
                )
    if not there:
        yield Finding("serial", Level.GOOD, "No serial device is plugged in.")
    for name in sorted(running_programs() & set(PORT_GRABBERS)):
        yield Finding("serial", Level.WARNING, f"{name} runs and may take a terminal's line.", PORT_GRABBERS[name])


def _service_user(config: Config) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(config.paths.data.stat().st_uid)
    except (OSError, KeyError):
        return pwd.getpwuid(os.getuid())


def _may_use(port: Path, user: pwd.struct_passwd) -> str:
    """Why this user may not read and write the port; empty if it may."""
    try:
        status = port.stat()
    except OSError as exc:
        return f"{port.name}: {exc.strerror}."
    if user.pw_uid == 0 or (status.st_uid == user.pw_uid and status.st_mode & 0o600 == 0o600):
        return ""
    groups = {user.pw_gid, *(group.gr_gid for group in grp.getgrall() if user.pw_name in group.gr_mem)}
    if status.st_gid in groups and status.st_mode & 0o060 == 0o060:
        return ""
    return "" if status.st_mode & 0o006 == 0o006 else f"{user.pw_name} may not use {port.name} ({port.resolve()})."


# -- network -----------------------------------------------------------------------------------------------------------


def listening_ports(tables: Iterable[Path] = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))) -> set[int]:
    """TCP ports on which somebody listens."""
    found = set()
    for table in tables:
        try:
            rows = table.read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            words = row.split()
            if len(words) > 3 and words[3] == TCP_LISTEN:
                found.add(int(words[1].rpartition(":")[2], 16))
    return found


def ports(config: Config, *, hub_is_up: bool) -> Iterator[Finding]:
    """Whether the hub's ports are free for it, or held by it."""
    taken = listening_ports()
    for key, port in (("api.https_port", config.api.https_port), ("api.http_port", config.api.http_port)):
        if port == 0:
            continue
        if hub_is_up and port not in taken:
            yield Finding("ports", Level.BAD, f"The hub runs and nobody listens on {port} ({key}).", "`hubctl logs`")
        elif not hub_is_up and port in taken:
            yield Finding(
                "ports",
                Level.BAD,
                f"Port {port} ({key}) is taken by another program.",
                f"`ss -ltnp 'sport = :{port}'` names it; stop it, or set {key}.",
            )
        else:
            yield Finding("ports", Level.GOOD, f"Port {port} is {'served' if hub_is_up else 'free'}.")


def certificate(config: Config, *, hub_is_up: bool) -> Iterator[Finding]:
    """How long the certificate that browsers see is still good."""
    from cryptography import x509

    if not hub_is_up or config.api.https_port == 0:
        return
    address = config.api.addresses[0]
    host = "127.0.0.1" if address in {"0.0.0.0", "::"} else address
    try:
        pem = ssl.get_server_certificate((host, config.api.https_port), timeout=CONNECT_TIMEOUT_S)
    except OSError as exc:
        yield Finding("certificate", Level.BAD, f"Port {config.api.https_port} speaks no TLS: {exc}.", "`hubctl logs`")
        return
    ends = x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
    from hubd.runtime import SystemClock

    days = int((ends.timestamp() - SystemClock().now_us() / 1_000_000) // 86_400)
    if days < CERTIFICATE_WARNING_DAYS:
        yield Finding(
            "certificate",
            Level.BAD if days < 0 else Level.WARNING,
            f"The certificate is good until {ends:%Y-%m-%d} ({days} days).",
            "Restart the hub: it makes a new one. If the date is wrong, correct the clock first.",
        )
    else:
        yield Finding("certificate", Level.GOOD, f"The certificate is good until {ends:%Y-%m-%d}.")


def broker(config: Config) -> Iterator[Finding]:
    """Whether the broker can be reached, name by name and step by step."""
    if not config.cloud.enabled or not config.cloud.address:
        yield Finding("broker", Level.GOOD, "No broker is configured here; enrolment names one.")
        return
    parts = urlsplit(config.cloud.address)
    secure, host = parts.scheme == "mqtts", parts.hostname or ""
    port = parts.port or (MQTT_TLS_PORT if secure else MQTT_PORT)
    try:
        with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S) as plain:
            if secure:
                context = ssl.create_default_context(cafile=config.cloud.ca_file or None)
                with context.wrap_socket(plain, server_hostname=host):
                    pass
    except socket.gaierror:
        yield Finding("broker", Level.BAD, f"The name {host} is not found.", "Check DNS, then cloud.address.")
    except ssl.SSLCertVerificationError as exc:
        text = f"The broker's certificate is not accepted: {exc.verify_message}."
        yield Finding("broker", Level.BAD, text, "Check the clock, then cloud.ca_file.")
    except (OSError, ValueError) as exc:
        yield Finding("broker", Level.BAD, f"{host}:{port} does not answer: {exc}.", "Check the router and its rules.")
    else:
        yield Finding("broker", Level.GOOD, f"{host}:{port} answers.")


def findings_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """For the bug report."""
    return [finding.as_json() for finding in findings]
