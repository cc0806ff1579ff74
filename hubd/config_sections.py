"""The sections of the configuration: every key with its type, default, range and a sentence of help."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

BACKUP_INTERVAL_H_MAX = 12
"""So that a day never passes without one, and what was erased has left every backup that is kept within a week."""
PROBE_INTERVAL_S_MAX = 30
"""So that an outage, and its end, are seen soon."""
MASK = "********"


def masked_address(text: str) -> str:
    """The text with the password of an address, `scheme://user:password@host`, masked."""
    if "://" not in text or "@" not in text:
        return text
    parts = urlsplit(text)
    user, _, place = parts.netloc.rpartition("@")
    if ":" not in user:
        return text
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:{MASK}@{place}"))


# -- places ------------------------------------------------------------------------------------------------------------


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Option(Struct, frozen=True):
    """What is known of a key beside its type and default: a sentence of help, its range, whether it is masked."""

    help: str
    low: int = 0
    high: int = 0
    secret: bool = False
    most: int = 0
    """The greatest value that is used, where `high` is greater: an older version took more, and its file must do."""


class PathsConfig(Struct, frozen=True):
    """Where the hub keeps its files; the defaults depend on who runs it."""

    data: Annotated[Path, Option("Directory of the journal, its archives, keys and backups, closed to other users.")]
    runtime: Annotated[Path, Option("Directory of the operators' socket; emptied at boot.")]

    @property
    def database(self) -> Path:
        """The store."""
        return self.data / "hub.db"

    @property
    def keys(self) -> Path:
        """The hub's own key, its CA and its leaf."""
        return self.data / "keys"

    @property
    def archive(self) -> Path:
        """Archived parts of the journal."""
        return self.data / "archive"

    @property
    def backups(self) -> Path:
        """Backups before they leave this disk."""
        return self.data / "backups"

    @property
    def socket(self) -> Path:
        """The operators' socket."""
        return self.runtime / "hubd.sock"


class ApiConfig(Struct, frozen=True):
    """The API on the LAN."""

    https_port: Annotated[int, Option("Port of the API and the status page; 0: any free one.", 0, 65535)] = 8443
    http_port: Annotated[
        int,
        Option(
            "Port without TLS: page and API on loopback, on the LAN only the lamp, the CA and the check of the "
            "browser; 0: any free one.",
            0,
            65535,
        ),
    ] = 8080
    addresses: Annotated[tuple[str, ...], Option("Addresses to listen on; 0.0.0.0 means all of this machine.")] = (
        "0.0.0.0",
    )


class CloudConfig(Struct, frozen=True):
    """The way to the cloud. Tenant, store and keys come by enrolment, not from here."""

    enabled: Annotated[bool, Option("Whether to talk to a cloud at all; a hub trades without one.")] = True
    address: Annotated[str, Option("Broker as mqtts://host:8883; empty: the one that enrolment names.")] = ""
    ca_file: Annotated[str, Option("File with the CA of the broker's certificate; empty: the system's list.")] = ""


class ProbesConfig(Struct, frozen=True):
    """What the hub looks at to say which hop has failed."""

    gateway: Annotated[
        str, Option("The shop's router as an address, or tcp://host:port; empty: the default route's.")
    ] = ""
    dns_server: Annotated[str, Option("Name server as host:port; empty: the system's resolver.")] = ""
    dns_name: Annotated[str, Option("Name that must be found.")] = "www.debian.org"
    internet: Annotated[
        tuple[str, ...],
        Option(
            "Places on the Internet, one of which must answer: https:// proves itself by its certificate, "
            "tcp://host:port only connects, and a captive portal can fake that."
        ),
    ] = ("https://www.debian.org", "https://www.wikipedia.org")
    interval_s: Annotated[
        int,
        Option(
            f"Seconds between two rounds of measurement; more than {PROBE_INTERVAL_S_MAX} counts as that.",
            1,
            300,
            most=PROBE_INTERVAL_S_MAX,
        ),
    ] = 5


class DiscoveryConfig(Struct, frozen=True):
    """How the hub is found, and finds devices."""

    mdns: Annotated[bool, Option("Announce the hub on the network, notice a clone of it, and look for devices.")] = True
    usb: Annotated[bool, Option("Look for devices that are plugged in: USB and serial lines.")] = True
    interfaces: Annotated[tuple[str, ...], Option("Own addresses to use for mDNS; empty: all interfaces.")] = ()


class TerminalConfig(Struct, frozen=True):
    """A card terminal at its fixed address."""

    address: Annotated[
        str,
        Option("tcp://host:port, tls://host:port?roots=FILE&poiid=NAME or serial:///dev/serial/by-id/NAME?baud=9600."),
    ]
    driver: Annotated[str, Option("Driver that speaks to it.")] = "zvt"
    name: Annotated[str, Option("What people call it; empty: the driver's own words.")] = ""
    device_class: Annotated[str, Option("Class that an outage policy may name; empty: the driver's default.")] = ""
    password: Annotated[str, Option("Password of the terminal's cash register function.", secret=True)] = "000000"
    options: Annotated[tuple[str, ...], Option("What its driver needs beside, each as key=value.", secret=True)] = ()

    def __repr__(self) -> str:
        """Without the password; the address may have one too."""
        return f"TerminalConfig(address={masked_address(self.address)!r}, driver={self.driver!r}, name={self.name!r})"


class DevicesConfig(Struct, frozen=True):
    """What the hub keeps of its devices' lines, in memory only."""

    trace_kib: Annotated[int, Option("Size of each device's trace in KiB; no card data is in it.", 4, 1024)] = 64
    trace_minutes: Annotated[int, Option("Age at which a line of a trace is forgotten.", 1, 24 * 60)] = 120


class SpoolConfig(Struct, frozen=True):
    """Printing through the hub as to any network printer."""

    ipp_port: Annotated[int, Option("Port of all IPP queues, without TLS.", 1, 65535)] = 8631
    job_kib_max: Annotated[int, Option("Kibibytes that one print job may have.", 16, 1024)] = 512


class SpooledPrinterConfig(Struct, frozen=True):
    """A printer of the hub that tills print to as to a network printer; none listens unless it stands here."""

    printer: Annotated[str, Option("The printer: its name, its role or its device id, as `hubctl devices` shows it.")]
    raw_port: Annotated[int, Option("Port for raw printing; 0: none.", 0, 65535)] = 9100
    queue: Annotated[
        str, Option("Name of its IPP queue, ipp://HUB:PORT/ipp/print/NAME, in a-z, 0-9 and hyphens; empty: none.")
    ] = ""
    address: Annotated[str, Option("Own address of the raw port; empty: all that the API has.")] = ""
    allow: Annotated[
        tuple[str, ...],
        Option("Who may print: addresses or networks, and `paired` for where paired tills were heard last."),
    ] = ("paired",)
    language: Annotated[str, Option("Language of the word COPY for tills that are not paired: en, fr or nl.")] = "en"


class BackupConfig(Struct, frozen=True):
    """Where backups go when they leave the hub's disk; they are encrypted before."""

    targets: Annotated[tuple[str, ...], Option("Directories, such as the mount point of a USB stick.")] = ()
    interval_h: Annotated[
        int,
        Option(
            f"Hours between two backups; more than {BACKUP_INTERVAL_H_MAX} counts as that.",
            1,
            24,
            most=BACKUP_INTERVAL_H_MAX,
        ),
    ] = 6


class LogConfig(Struct, frozen=True):
    """Logging."""

    level: Annotated[LogLevel, Option("debug, info, warning or error.")] = LogLevel.INFO
