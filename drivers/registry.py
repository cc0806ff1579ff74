"""Which drivers there are, which one claims a device, and why one cannot be used.

Manifests are read from the source as literals, so a driver whose imports fail is still listed with its reason.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from msgspec import Struct

from drivers.base import (
    Driver,
    DriverFactory,
    HidUsage,
    Keyboard,
    Manifest,
    Match,
    Mdns,
    Probe,
    Serial,
    Step,
    Tcp,
    Tls,
    Usb,
    UsbClass,
)
from hubd.errors import DeviceError
from hubd.model.device import Capability, DeviceKind, Endpoint
from hubd.model.device_options import Option, OptionKind

ENTRY_POINT_GROUP = "hubd.drivers"
BUILT_IN = (
    "drivers.caisse_ap",
    "drivers.cas",
    "drivers.cas_stream",
    "drivers.concert",
    "drivers.escpos",
    "drivers.gsm_modem",
    "drivers.hid_scanner",
    "drivers.ipp",
    "drivers.keyboard_scanner",
    "drivers.nexo",
    "drivers.opi",
    "drivers.poslink",
    "drivers.serial_scanner",
    "drivers.toledo8217",
    "drivers.zvt",
)

_LITERAL = re.compile(r"^MANIFEST = Manifest\(\n.*?^\)$", re.MULTILINE | re.DOTALL)
"""A manifest as it is usually laid out: to parse the whole module costs ten times as much."""
_CALLS: dict[str, Callable[..., Any]] = {
    "Manifest": Manifest,
    "Usb": Usb,
    "UsbClass": UsbClass,
    "HidUsage": HidUsage,
    "Mdns": Mdns,
    "Tcp": Tcp,
    "Tls": Tls,
    "Serial": Serial,
    "Keyboard": Keyboard,
    "Probe": Probe,
    "Step": Step,
    "Option": Option,
    "frozenset": frozenset,
}
_ENUMS = {"DeviceKind": DeviceKind, "Capability": Capability, "OptionKind": OptionKind}


class Entry(Struct, frozen=True):
    """One driver module, imported when it is needed. Without a `manifest` or with a `reason` it cannot be used."""

    module: str
    manifest: Manifest | None = None
    reason: str = ""
    """load_error or config_error, with what went wrong; empty when all is well."""
    factory: DriverFactory | None = None
    """None as long as it is not imported."""

    @property
    def usable(self) -> bool:
        """As far as is known: a module that is not imported yet may turn out to be broken."""
        return self.manifest is not None and not self.reason


class Registry:
    """The drivers that were found, in the order of their modules."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)

    def loaded(self, driver_id: str) -> bool:
        """Whether `factory` answers at once: the module is imported, or known to be unusable."""
        return not any(entry.usable and entry.factory is None for entry in self._of(driver_id))

    def load(self, driver_id: str) -> None:
        """Import the module of this driver, if there is one. Reads files; what goes wrong becomes its reason."""
        wanted = [entry for entry in self._of(driver_id) if entry.usable and entry.factory is None]
        imported = {entry.module: _import(entry) for entry in wanted}
        self.entries = tuple(imported.get(entry.module, entry) for entry in self.entries)

    def _of(self, driver_id: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.manifest is not None and entry.manifest.id == driver_id]

    def manifest(self, driver_id: str) -> Manifest:
        """The manifest with this id; raises DeviceError `device.no_driver`, and with the reason for a broken one."""
        manifest = self._usable(driver_id).manifest
        assert manifest is not None, "it was found by its manifest"
        return manifest

    def factory(self, driver_id: str) -> DriverFactory:
        """What makes a driver of this id; raises DeviceError with the reason why there is none. See `loaded`."""
        self.load(driver_id)
        factory = self._usable(driver_id).factory
        assert factory is not None, "it was imported just now"
        return factory

    def _usable(self, driver_id: str) -> Entry:
        for entry in self.entries:
            if entry.manifest is not None and entry.manifest.id == driver_id:
                if entry.usable:
                    return entry
                raise DeviceError("device.driver_unusable", f"The driver {driver_id} cannot be used: {entry.reason}.")
        known = ", ".join(e.manifest.id for e in self.entries if e.manifest) or "none"
        raise DeviceError("device.no_driver", f"There is no driver {driver_id}.", remedy=f"Known drivers: {known}.")

    def services(self) -> tuple[str, ...]:
        """The mDNS service types that manifests name, those of drivers that cannot be used included."""
        found = (entry.manifest.matches for entry in self.entries if entry.manifest)
        return tuple(sorted({match.service for matches in found for match in matches if isinstance(match, Mdns)}))

    def claim(self, seen: Endpoint) -> Manifest | None:
        """The driver that was named, else the one with the most specific match, or None.

        Raises DeviceError: `device.ambiguous` with both `drivers` when two have it, and what `manifest` raises when
        the driver that was named, or the only one that fits, cannot be used.
        """
        if seen.driver:
            return self.manifest(seen.driver)
        usable = [entry for entry in self.entries if entry.usable]
        names = self._best(usable, seen)
        if not names:
            wanting = self._best(self.entries, seen)
            return self.manifest(wanting[0].id) if wanting else None
        if len(names) > 1:
            drivers = tuple(manifest.id for manifest in names)
            raise DeviceError(
                "device.ambiguous",
                f"The drivers {' and '.join(drivers)} both claim {seen.url}.",
                remedy="Name the driver of this device in the settings.",
                params={"first": drivers[0], "second": drivers[1]},
            )
        return names[0]

    def rivals(self, seen: Endpoint) -> list[Manifest]:
        """The drivers that can be used and fit the endpoint equally well, when that is more than one."""
        names = [] if seen.driver else self._best([entry for entry in self.entries if entry.usable], seen)
        return names if len(names) > 1 else []

    def candidates(self, seen: Endpoint) -> list[Manifest]:
        """The drivers that can be used and among which a person chooses, when none claims the endpoint by itself."""
        return [
            entry.manifest
            for entry in self.entries
            if entry.manifest is not None
            and entry.usable
            and any(_is_choice(match, seen) for match in entry.manifest.matches)
        ]

    def at_addresses(self) -> list[Manifest]:
        """The drivers that can be used and whose devices may stand at a TCP address."""
        return [
            entry.manifest
            for entry in self.entries
            if entry.manifest is not None
            and entry.usable
            and any(isinstance(match, Tcp | Serial) for match in entry.manifest.matches)
        ]

    @staticmethod
    def _best(entries: Iterable[Entry], seen: Endpoint) -> list[Manifest]:
        claims: list[tuple[int, Manifest]] = []
        for entry in entries:
            if entry.manifest is not None:
                ranks = [match.rank for match in entry.manifest.matches if match.rank and match.fits(seen)]
                if ranks:
                    claims.append((max(ranks), entry.manifest))
        best = max((rank for rank, _ in claims), default=0)
        return [manifest for rank, manifest in claims if rank == best]


def _is_choice(match: Match, seen: Endpoint) -> bool:
    if isinstance(match, Mdns):
        return match.may_fit(seen)
    return isinstance(match, Serial | Keyboard) and match.fits(seen)


def load(modules: Iterable[str] | None = None, *, at_once: bool = True) -> Registry:
    """Read all manifests: built-in ones and those of installed packages. Reads files.

    With `at_once` the modules are imported as well; without, each when it is first needed (`Registry.load`), because a
    shop uses few of them and each costs start and memory.
    """
    if modules is None:
        found = {point.value.partition(":")[0] for point in entry_points(group=ENTRY_POINT_GROUP)}
        modules = sorted({*BUILT_IN, *found})
    entries = [_read(module) for module in modules]
    return Registry(_import(entry) if at_once and entry.usable else entry for entry in entries)


def _read(module: str) -> Entry:
    try:
        return Entry(module, read_manifest(module))
    except (ImportError, OSError, ValueError, SyntaxError) as error:
        return Entry(module, reason=f"config_error: {error}")


def _import(entry: Entry) -> Entry:
    module, manifest = entry.module, entry.manifest
    assert manifest is not None, "only what has a manifest is imported"
    try:
        loaded = importlib.import_module(module)
        factory = getattr(loaded, manifest.driver)
    except Exception as error:  # noqa: BLE001 - whatever a foreign module raises on import is the reason to show
        return Entry(module, manifest, reason=f"load_error: {type(error).__name__}: {error}")
    if not (isinstance(factory, type) and issubclass(factory, Driver)):
        return Entry(module, manifest, reason=f"config_error: {manifest.driver} is not a driver")
    return Entry(module, manifest, factory=factory)


def read_manifest(module: str) -> Manifest:
    """The `MANIFEST = Manifest(…)` of a module, without importing it. Raises ImportError or ValueError."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.origin:
        raise ImportError(f"there is no module {module}")
    source = Path(spec.origin).read_text("utf-8")
    literal = _LITERAL.search(source)
    for statement in ast.parse(literal[0] if literal else source).body:
        if isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] == ["MANIFEST"]:
            manifest = _literal(statement.value)
            if isinstance(manifest, Manifest):
                return manifest
    raise ValueError(f"{module} has no literal MANIFEST")


def _literal(node: ast.expr) -> Any:
    """The value of the few expressions of which manifests are made."""
    match node:
        case ast.Constant(value):
            return value
        case ast.Tuple(items) | ast.List(items):
            return tuple(_literal(item) for item in items)
        case ast.Set(items):
            return frozenset(_literal(item) for item in items)
        case ast.Attribute(ast.Name(enum), member) if enum in _ENUMS:
            return _ENUMS[enum][member]
        case ast.Call(ast.Name(name), arguments, keywords) if name in _CALLS:
            named = {keyword.arg: _literal(keyword.value) for keyword in keywords if keyword.arg}
            try:
                return _CALLS[name](*map(_literal, arguments), **named)
            except TypeError as error:
                raise ValueError(f"{name}: {error}") from None
    raise ValueError(f"a manifest is a literal, not {ast.unparse(node)}")
