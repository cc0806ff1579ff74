"""The bootstrap configuration: one TOML file, `HUBD_*` overrides, strict, and the origin of every value.

What a merchant wants to change in many shops is a setting in the journal, not here. `load_config` is pure but for
reading its file; an unknown key, a wrong type or a value out of range is a ConfigError that names the key.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args, get_type_hints

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from hubd.config_sections import (
    MASK,
    ApiConfig,
    BackupConfig,
    CloudConfig,
    DevicesConfig,
    DiscoveryConfig,
    LogConfig,
    LogLevel,
    Option,
    PathsConfig,
    ProbesConfig,
    SpoolConfig,
    SpooledPrinterConfig,
    TerminalConfig,
    masked_address,
)
from hubd.errors import ConfigError

SYSTEM_CONFIG_FILE = Path("/etc/hubd/hubd.toml")
SYSTEM_DATA = Path("/var/lib/hubd")
SYSTEM_RUNTIME = Path("/run/hubd")
ENVIRONMENT_PREFIX = "HUBD_"
NOT_SETTINGS = frozenset({"HUBD_CONFIG", "HUBD_SOAK"})
"""Names that begin like a setting and are none: where the file is, and the full numbers of the project's own tests."""
SOCKET_PATH_BYTES_MAX = 107
"""sun_path of Linux without its closing zero."""
CONFIG_BYTES_MAX = 256 * 1024
MEMBERS_MAX = 64
"""Of a list."""
PAIRED = "paired"
"""Among those who may print: whoever is a paired till."""
DEFAULT = "default"


class Lowered(Struct, frozen=True):
    """A value that is greater than what is used."""

    key: str
    given: int
    used: int


@dataclass(frozen=True, slots=True)
class Config:
    """All settings with their origin: dotted key → `default`, the file, or the environment variable."""

    paths: PathsConfig
    api: ApiConfig = field(default_factory=ApiConfig)
    cloud: CloudConfig = field(default_factory=CloudConfig)
    probes: ProbesConfig = field(default_factory=ProbesConfig)
    discovery: DiscoveryConfig = field(default_factory=DiscoveryConfig)
    devices: DevicesConfig = field(default_factory=DevicesConfig)
    terminals: tuple[TerminalConfig, ...] = ()
    spool: SpoolConfig = field(default_factory=SpoolConfig)
    spools: tuple[SpooledPrinterConfig, ...] = ()
    backup: BackupConfig = field(default_factory=BackupConfig)
    log: LogConfig = field(default_factory=LogConfig)
    origins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False, repr=False)
    lowered: tuple[Lowered, ...] = field(default=(), compare=False)
    """What was written and is not used as it was: said once at the start, and by whoever checks."""
    file: Path | None = field(default=None, compare=False)
    """The file that was read, or would have been if it existed; None: there was none to look for."""

    def origin(self, key: str) -> str:
        """Where the value of a dotted key comes from."""
        return self.origins.get(key, DEFAULT)


SECTIONS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "paths": PathsConfig,
        "api": ApiConfig,
        "cloud": CloudConfig,
        "probes": ProbesConfig,
        "discovery": DiscoveryConfig,
        "devices": DevicesConfig,
        "spool": SpoolConfig,
        "backup": BackupConfig,
        "log": LogConfig,
    }
)
"""Section → its type, in the order of the reference page."""
LISTS: Mapping[str, type[Any]] = MappingProxyType({"terminals": TerminalConfig, "spools": SpooledPrinterConfig})
"""Sections that may be there several times, `[[terminals]]`, → the type of each; the first key of each is required."""


class Key(Struct, frozen=True):
    """One key of a section: its name, type, option and default (None where there is none)."""

    name: str
    type: Any
    option: Option
    default: Any


def keys_of(section: type[Any]) -> list[Key]:
    """The keys of a section in their order."""
    found = []
    hints = get_type_hints(section, include_extras=True)
    for item in fields(section):
        kind, option = get_args(hints[item.name])
        found.append(Key(item.name, kind, option, None if item.default is NODEFAULT else item.default))
    return found


class ShownValue(Struct, frozen=True):
    """One effective value as people may see it: secrets masked, with its origin."""

    key: str
    value: Any
    origin: str


def shown_values(config: Config) -> Iterator[ShownValue]:
    """Every effective value in the order of the sections; secrets and passwords in addresses are masked."""
    for section, kind in SECTIONS.items():
        part = getattr(config, section)
        for item in keys_of(kind):
            key = f"{section}.{item.name}"
            yield ShownValue(key, _shown(item, getattr(part, item.name)), config.origin(key))
    for section, kind in LISTS.items():
        for index, member in enumerate(getattr(config, section)):
            for item in keys_of(kind):
                key = f"{section}[{index}].{item.name}"
                yield ShownValue(key, _shown(item, getattr(member, item.name)), config.origin(key))


def _shown(item: Key, value: Any) -> Any:
    if item.option.secret:
        return MASK if value else ""
    if isinstance(value, tuple):
        return [masked_address(str(part)) for part in value]
    return value if isinstance(value, bool | int) else masked_address(str(value))


def default_paths(environ: Mapping[str, str], uid: int) -> PathsConfig:
    """Where the files are if nothing is said.

    The service manager's own directories first; the system's for root, for the service user and for a person who may
    enter the operators' socket; else the user's own (XDG), so that anyone can run a hub without being root.
    """
    if environ.get("STATE_DIRECTORY") and environ.get("RUNTIME_DIRECTORY"):
        return PathsConfig(Path(environ["STATE_DIRECTORY"]), Path(environ["RUNTIME_DIRECTORY"]))
    if uid == 0 or os.access(SYSTEM_DATA, os.W_OK) or os.access(SYSTEM_RUNTIME, os.X_OK):
        return PathsConfig(SYSTEM_DATA, SYSTEM_RUNTIME)
    home = Path(environ.get("HOME") or "/")
    data = Path(environ.get("XDG_DATA_HOME") or home / ".local/share")
    runtime = Path(environ["XDG_RUNTIME_DIR"]) if environ.get("XDG_RUNTIME_DIR") else Path(f"/tmp/hubd-{uid}")
    return PathsConfig(data / "hubd", runtime / "hubd")


def default_config_file(environ: Mapping[str, str], uid: int) -> Path:
    """The file that is read if none is named; it need not exist."""
    if environ.get("HUBD_CONFIG"):
        return Path(environ["HUBD_CONFIG"])
    if default_paths(environ, uid).data == SYSTEM_DATA:
        return SYSTEM_CONFIG_FILE
    home = Path(environ.get("HOME") or "/")
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "hubd/hubd.toml"


# -- reading -----------------------------------------------------------------------------------------------------------


def load_config(
    file: Path | None = None, environ: Mapping[str, str] | None = None, *, uid: int | None = None
) -> Config:
    """Read the file and the environment. Raises ConfigError; a file that was named must exist, the default need not."""
    environ = os.environ if environ is None else environ
    uid = os.getuid() if uid is None else uid
    path = default_config_file(environ, uid) if file is None else file
    text = _read(path, must_exist=file is not None)
    return replace(parse_config(text, str(path), environ, default_paths(environ, uid)), file=path.absolute())


def _read(path: Path, *, must_exist: bool) -> str:
    try:
        with path.open("rb") as stream:
            raw = stream.read(CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        if not must_exist:
            return ""
        raise ConfigError(
            "config.no_file", f"{path} does not exist.", remedy="Name another file with --config, or create this one."
        ) from None
    except OSError as exc:
        raise ConfigError(
            "config.unreadable", f"{path} cannot be read: {exc.strerror}.", remedy="Check its owner and mode."
        ) from exc
    if len(raw) > CONFIG_BYTES_MAX:
        raise ConfigError("config.too_large", f"{path} is larger than {CONFIG_BYTES_MAX} bytes.")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ConfigError("config.not_utf8", f"{path} is not UTF-8.", remedy="Save it as UTF-8.") from exc


def parse_config(text: str, source: str, environ: Mapping[str, str], paths: PathsConfig) -> Config:
    """The settings from the text of a file (named `source` in messages), the environment and the default places."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError("config.not_toml", f"{source}: {exc}.", remedy="Mend this line.") from exc
    origins: dict[str, str] = {}
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    values["paths"] = {"data": paths.data, "runtime": paths.runtime}
    for section, content in raw.items():
        if section in LISTS:
            continue
        if section not in SECTIONS:
            raise _unknown(source, section, [*SECTIONS, *LISTS])
        if not isinstance(content, dict):
            raise _invalid(source, section, "is a section: write [" + section + "]")
        values[section].update(_read_section(source, section, SECTIONS[section], content, origins))
    parts: dict[str, Any] = {
        name: _read_list(source, name, kind, raw.get(name, []), origins) for name, kind in LISTS.items()
    }
    for name, section, key, value in _read_environment(environ):
        values[section][key] = value
        origins[f"{section}.{key}"] = f"environment {name}"
    lowered = tuple(_lower(values))
    parts |= {section: kind(**values[section]) for section, kind in SECTIONS.items()}
    config = Config(**parts, origins=MappingProxyType(origins), lowered=lowered)
    _check_together(config)
    return config


def _lower(values: dict[str, dict[str, Any]]) -> Iterator[Lowered]:
    """Put what is used in the place of what is too great."""
    for section, kind in SECTIONS.items():
        for item in keys_of(kind):
            given, most = values[section].get(item.name), item.option.most
            if most and given is not None and given > most:
                values[section][item.name] = most
                yield Lowered(f"{section}.{item.name}", given, most)


def _read_section(
    source: str, section: str, kind: type[Any], content: Mapping[str, Any], origins: dict[str, str]
) -> dict[str, Any]:
    known = {item.name: item for item in keys_of(kind)}
    found = {}
    for key, value in content.items():
        dotted = f"{section}.{key}"
        if key not in known:
            raise _unknown(source, dotted, [f"{section}.{name}" for name in known], _everywhere())
        found[key] = _convert(source, dotted, known[key], value)
        origins[dotted] = source
    return found


def _read_list(source: str, name: str, kind: type[Any], raw: Any, origins: dict[str, str]) -> tuple[Any, ...]:
    """The members of a list; the first key of each is required and differs from the others'."""
    if not isinstance(raw, list) or not all(isinstance(item, dict) for item in raw):
        raise _invalid(source, name, f"is a list: write [[{name}]] above each")
    if len(raw) > MEMBERS_MAX:
        raise _invalid(source, name, f"has {len(raw)} members, at most {MEMBERS_MAX} are allowed")
    found, required = list[Any](), keys_of(kind)[0].name
    for index, content in enumerate(raw):
        section = f"{name}[{index}]"
        values = _read_section(source, section, kind, content, origins)
        if not values.get(required):
            raise _invalid(source, f"{section}.{required}", "is missing")
        found.append(kind(**values))
    wanted = [getattr(one, required) for one in found]
    for index, value in enumerate(wanted):
        if value in wanted[:index]:
            raise _invalid(source, f"{name}[{index}].{required}", "is the same as another one's")
    return tuple(found)


def _read_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str, Any]]:
    names = {
        f"{ENVIRONMENT_PREFIX}{section}_{item.name}".upper(): (section, item)
        for section, kind in SECTIONS.items()
        for item in keys_of(kind)
    }
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in NOT_SETTINGS:
            continue
        if name not in names:
            raise _unknown("environment", name, list(names))
        section, item = names[name]
        value = _from_text(name, item.type, environ[name])
        yield name, section, item.name, _convert("environment", name, item, value)


def _from_text(name: str, kind: Any, text: str) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise _invalid("environment", name, "is neither true nor false")
        return text.lower() == "true"
    if kind is int:
        if not re.fullmatch(r"-?\d{1,18}", text):
            raise _invalid("environment", name, "is not a whole number")
        return int(text)
    if kind == tuple[str, ...]:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _convert(source: str, key: str, item: Key, value: Any) -> Any:
    """The value in the option's own type; no text becomes a number and no number a text."""
    kind, low, high = item.type, item.option.low, item.option.high
    if kind is bool:
        if type(value) is not bool:
            raise _invalid(source, key, "is neither true nor false")
        return value
    if kind is int:
        if type(value) is not int:
            raise _invalid(source, key, "is not a whole number")
        if not low <= value <= high:
            raise _invalid(source, key, f"is {value}; it may be {low} to {high}")
        return value
    if kind == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(part, str) and part for part in value):
            raise _invalid(source, key, "is not a list of texts")
        return tuple(value)
    if not isinstance(value, str):
        raise _invalid(source, key, "is not a text")
    if kind is Path:
        if not Path(value).is_absolute():
            raise _invalid(source, key, "is not an absolute path")
        return Path(value)
    if kind is LogLevel:
        if value not in list(LogLevel):
            raise _invalid(source, key, "is not one of " + ", ".join(LogLevel))
        return LogLevel(value)
    return value


def _check_together(config: Config) -> None:
    if config.api.https_port == config.api.http_port != 0:
        raise _invalid(
            config.origin("api.http_port"), "api.http_port", f"is {config.api.http_port}, which api.https_port has"
        )
    if not config.api.addresses:
        raise _invalid(config.origin("api.addresses"), "api.addresses", "is empty; loopback alone is 127.0.0.1")
    if len(os.fsencode(config.paths.socket)) > SOCKET_PATH_BYTES_MAX:
        longest = SOCKET_PATH_BYTES_MAX - len("/hubd.sock")
        raise _invalid(config.origin("paths.runtime"), "paths.runtime", f"is longer than {longest} bytes")
    if config.cloud.address and not re.fullmatch(r"mqtts?://[^/\s]+", config.cloud.address):
        raise _invalid(config.origin("cloud.address"), "cloud.address", "is not mqtts://host:port")
    _check_spools(config)
    for place in config.probes.internet:
        if not re.fullmatch(r"(https|tcp)://\S+", place):
            raise _invalid(
                config.origin("probes.internet"), "probes.internet", "has a place that is not https:// or tcp://"
            )


def _check_spools(config: Config) -> None:
    seen = {("", 0), ("queue", "")}
    for index, one in enumerate(config.spools):
        key = f"spools[{index}]"
        for entry in one.allow:
            if entry != PAIRED and not _is_network(entry):
                raise _invalid(config.origin(f"{key}.allow"), f"{key}.allow", "is neither an address nor `paired`")
        if not re.fullmatch(r"[a-z0-9-]{0,63}", one.queue):
            raise _invalid(config.origin(f"{key}.queue"), f"{key}.queue", "has other characters than a-z, 0-9 and -")
        if one.address and not _is_network(one.address):
            raise _invalid(config.origin(f"{key}.address"), f"{key}.address", "is not an address")
        for name, place in (("raw_port", (one.address, one.raw_port)), ("queue", ("queue", one.queue))):
            if place in seen and place[1]:
                raise _invalid(config.origin(f"{key}.{name}"), f"{key}.{name}", "is the same as another printer's")
            seen.add(place)


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _everywhere() -> list[str]:
    return [f"{section}.{item.name}" for section, kind in SECTIONS.items() for item in keys_of(kind)]


def _unknown(source: str, key: str, valid: list[str], more: list[str] | None = None) -> ConfigError:
    close = difflib.get_close_matches(key, valid, n=1, cutoff=0.0) if valid else []
    leaf = key.rpartition(".")[2]
    elsewhere = [name for name in more or [] if name.rpartition(".")[2] == leaf]
    nearest = elsewhere[0] if elsewhere else close[0]
    return ConfigError(
        "config.unknown_key",
        f"{source}: {key} is unknown; did you mean {nearest}?",
        remedy="`hubctl config example` prints every key with its default.",
    )


def _invalid(source: str, key: str, what: str) -> ConfigError:
    return ConfigError("config.invalid_value", f"{source}: {key} {what}.", remedy="Correct this value.")
