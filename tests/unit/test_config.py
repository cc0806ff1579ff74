"""The bootstrap configuration: strict, with an origin for every value, and no secret shown."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from hubd.config import (
    LISTS,
    SECTIONS,
    Config,
    Lowered,
    default_config_file,
    default_paths,
    keys_of,
    load_config,
    parse_config,
    shown_values,
)
from hubd.config_sections import MASK, LogLevel, PathsConfig, SpooledPrinterConfig, TerminalConfig, masked_address
from hubd.errors import ConfigError
from hubd.main import check_config, warn_of_lowered

PLACES = PathsConfig(Path("/var/lib/hubd"), Path("/run/hubd"))


def parse(text: str, **environ: str) -> Config:
    return parse_config(text, "hubd.toml", environ, PLACES)


def test_an_empty_file_gives_the_defaults() -> None:
    config = parse("")
    assert (config.api.https_port, config.api.http_port) == (8443, 8080)
    assert config.paths == PLACES
    assert config.terminals == ()
    assert {value.origin for value in shown_values(config)} == {"default"}


def test_the_environment_wins_over_the_file_and_each_value_knows_its_origin() -> None:
    config = parse("[api]\nhttps_port = 9443\nhttp_port = 9080\n[log]\nlevel = 'debug'", HUBD_API_HTTPS_PORT="7443")
    assert (config.api.https_port, config.api.http_port, config.log.level) == (7443, 9080, LogLevel.DEBUG)
    origins = {value.key: value.origin for value in shown_values(config)}
    assert origins["api.https_port"] == "environment HUBD_API_HTTPS_PORT"
    assert origins["api.http_port"] == "hubd.toml"
    assert origins["api.addresses"] == "default"


def test_a_file_of_an_older_version_starts_the_hub_and_what_is_not_used_as_written_is_named() -> None:
    config = parse("[probes]\ninterval_s = 300", HUBD_BACKUP_INTERVAL_H="24")
    assert (config.probes.interval_s, config.backup.interval_h) == (30, 12)
    assert config.lowered == (Lowered("probes.interval_s", 300, 30), Lowered("backup.interval_h", 24, 12))
    assert {one.key: one.value for one in shown_values(config)}["backup.interval_h"] == 12, "what is in force"
    assert parse("[probes]\ninterval_s = 30\n[backup]\ninterval_h = 12").lowered == ()


def test_whoever_checks_the_configuration_is_told_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "hubd.toml"
    file.write_text("[backup]\ninterval_h = 24")
    check_config(argparse.Namespace(config=file))
    assert "backup.interval_h is 24; 12 is used." in capsys.readouterr().out


def test_a_start_warns_once_of_what_is_not_used_as_written(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_lowered(parse("[backup]\ninterval_h = 24"))
    (record,) = caplog.records
    assert (record.message, record.levelname) == ("config.lowered", "WARNING")
    assert [vars(record)[name] for name in ("setting", "given", "used")] == ["backup.interval_h", 24, 12]


def test_both_ports_may_be_any_free_one() -> None:
    config = parse("[api]\nhttps_port = 0\nhttp_port = 0")
    assert (config.api.https_port, config.api.http_port) == (0, 0)


def test_lists_and_truth_values_come_from_the_environment_too() -> None:
    config = parse("", HUBD_API_ADDRESSES="127.0.0.1, ::1", HUBD_CLOUD_ENABLED="false", HUBD_PATHS_DATA="/srv/hub")
    assert config.api.addresses == ("127.0.0.1", "::1")
    assert config.cloud.enabled is False
    assert config.paths.database == Path("/srv/hub/hub.db")


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("[api]\nhttps_prt = 1", "api.https_prt", "api.https_port"),
        ("[apy]\nhttps_port = 1", "apy", "api"),
        ("[cloud]\nlevel = 'info'", "cloud.level", "log.level"),
        ("[[terminals]]\naddress = 'tcp://a:1'\ndrivr = 'zvt'", "terminals[0].drivr", "terminals[0].driver"),
        ("https_port = 1", "https_port", ""),
    ],
)
def test_an_unknown_key_stops_with_the_nearest_valid_name(text: str, key: str, nearest: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.code == "config.unknown_key"
    assert f"hubd.toml: {key} is unknown" in caught.value.detail
    assert nearest in caught.value.detail


def test_an_unknown_variable_stops_too() -> None:
    with pytest.raises(ConfigError, match="did you mean HUBD_API_HTTPS_PORT"):
        parse("", HUBD_API_HTTPS_PRT="1")
    assert parse("", HUBD_CONFIG="/x", HUBD_SOAK="1", HUBDX="1") == parse("")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[api]\nhttps_port = '8443'", "api.https_port"),
        ("[api]\nhttps_port = 65536", "api.https_port"),
        ("[api]\nhttps_port = true", "api.https_port"),
        ("[api]\nhttp_port = 8443", "api.http_port"),
        ("[api]\naddresses = []", "api.addresses"),
        ("[api]\naddresses = '0.0.0.0'", "api.addresses"),
        ("[api]\naddresses = [1]", "api.addresses"),
        ("api = 1", "api"),
        ("[cloud]\nenabled = 'yes'", "cloud.enabled"),
        ("[cloud]\naddress = 'http://broker'", "cloud.address"),
        ("[probes]\ninternet = ['http://x']", "probes.internet"),
        ("[probes]\ninterval_s = 0", "probes.interval_s"),
        ("[probes]\ninterval_s = 301", "probes.interval_s"),
        ("[paths]\ndata = 'here'", "paths.data"),
        ("[paths]\nruntime = '/" + "x" * 100 + "'", "paths.runtime"),
        ("[log]\nlevel = 'loud'", "log.level"),
        ("terminals = 3", "terminals"),
        ("[[terminals]]\ndriver = 'zvt'", "terminals[0].address"),
        ("[[terminals]]\naddress='tcp://a:1'\n[[terminals]]\naddress='tcp://a:1'", "terminals[1].address"),
        ("[[terminals]]\naddress='tcp://a:1'\n" * 65, "terminals"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(text: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.code == "config.invalid_value"
    assert f": {key} " in caught.value.detail
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("name", "value"),
    [("HUBD_API_HTTPS_PORT", "many"), ("HUBD_CLOUD_ENABLED", "1"), ("HUBD_LOG_LEVEL", "x"), ("HUBD_PATHS_DATA", "x")],
)
def test_a_wrong_variable_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"environment: {name} "):
        parse("", **{name: value})


def test_no_error_repeats_a_secret() -> None:
    with pytest.raises(ConfigError, match=r"terminals\[0\].password is not a text") as caught:
        parse("[[terminals]]\naddress = 'tcp://a:1'\npassword = 90210")
    assert "90210" not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["cloud.username", "cloud.password", "cloud.password_file", "discovery.serial", "discovery.hid"]
)
def test_what_nobody_would_read_is_no_setting(key: str) -> None:
    section, _, name = key.partition(".")
    with pytest.raises(ConfigError) as caught:
        parse(f"[{section}]\n{name} = 'x'")
    assert caught.value.code == "config.unknown_key"


def test_secrets_are_masked_when_shown_and_in_repr() -> None:
    config = parse(
        "[cloud]\naddress = 'mqtts://hub:hunter2@broker:8883'\n"
        "[[terminals]]\naddress = 'tcp://a:1'\npassword = '314159'"
    )
    shown = {value.key: value.value for value in shown_values(config)}
    assert shown["terminals[0].password"] == MASK
    assert shown["cloud.address"] == f"mqtts://hub:{MASK}@broker:8883"
    assert "hunter2" not in str(shown)
    assert "314159" not in str(shown)
    assert "314159" not in repr(config)
    assert "hunter2" not in repr(config).replace("hub:hunter2@", "")


@pytest.mark.parametrize("text", ["", "plain", "tcp://a:1", "mqtts://user@host", "a@b", "/path/x@y"])
def test_what_holds_no_password_is_shown_as_it_is(text: str) -> None:
    assert masked_address(text) == text


def test_every_key_shows_once_and_has_a_sentence() -> None:
    config = replace(parse(""), terminals=(TerminalConfig("tcp://a:1"),), spools=(SpooledPrinterConfig("P"),))
    keys = [value.key for value in shown_values(config)]
    assert len(keys) == len(set(keys))
    assert {key.partition(".")[0] for key in keys} == {*SECTIONS, "terminals[0]", "spools[0]"}
    sections: list[type[Any]] = [*SECTIONS.values(), *LISTS.values()]
    assert [key.name for kind in sections for key in keys_of(kind) if not key.option.help.endswith(".")] == []
    assert {item.name for item in fields(Config)} == {*SECTIONS, *LISTS, "origins", "lowered", "file"}


def test_a_named_file_must_exist_and_a_default_one_need_not(tmp_path: Path) -> None:
    environ = {"HUBD_CONFIG": str(tmp_path / "none.toml")}
    assert load_config(None, environ).api.https_port == 8443
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path / "none.toml", {})


@pytest.mark.parametrize(
    ("content", "code"), [(b"\xff", "not_utf8"), (b"[api", "not_toml"), (b"#" * 300_000, "too_large")]
)
def test_an_unreadable_file_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    file = tmp_path / "hubd.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(file, {})
    assert caught.value.code == f"config.{code}"


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, {})


def test_a_user_without_root_gets_directories_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubd.config.os.access", lambda *_: False)
    environ = {"HOME": "/h/eve", "XDG_RUNTIME_DIR": "/run/user/7"}
    assert default_paths(environ, 7) == PathsConfig(Path("/h/eve/.local/share/hubd"), Path("/run/user/7/hubd"))
    assert default_config_file(environ, 7) == Path("/h/eve/.config/hubd/hubd.toml")
    environ |= {"XDG_DATA_HOME": "/d", "XDG_CONFIG_HOME": "/c"}
    assert default_paths(environ, 7).data == Path("/d/hubd")
    assert default_config_file(environ, 7) == Path("/c/hubd/hubd.toml")


def test_root_the_service_user_and_its_group_get_the_systems_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_paths({"HOME": "/h"}, 0) == PLACES
    assert default_config_file({}, 0) == Path("/etc/hubd/hubd.toml")
    monkeypatch.setattr("hubd.config.os.access", lambda path, _: path == Path("/run/hubd"))
    assert default_paths({"HOME": "/h"}, 999) == PLACES


def test_the_service_managers_directories_come_first() -> None:
    environ = {"STATE_DIRECTORY": "/state", "RUNTIME_DIRECTORY": "/runtime"}
    assert default_paths(environ, 999) == PathsConfig(Path("/state"), Path("/runtime"))


def test_printers_that_are_offered_to_tills() -> None:
    text = """
    [[spools]]
    printer = "Bar"
    [[spools]]
    printer = "Kitchen"
    raw_port = 9101
    queue = "kitchen"
    allow = ["paired", "192.168.1.0/24", "10.0.0.7"]
    """
    bar, kitchen = parse(text).spools
    assert (bar.raw_port, bar.queue, bar.allow) == (9100, "", ("paired",)), "only paired tills unless it is said"
    assert (kitchen.raw_port, kitchen.queue) == (9101, "kitchen")
    assert parse("").spools == ()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("raw_port = 9101", "printer is missing"),
        ('printer = "A"\nallow = ["everybody"]', "neither an address nor"),
        ('printer = "A"\nqueue = "Kitchen 1"', "other characters"),
        ('printer = "A"\naddress = "here"', "is not an address"),
        ('printer = "A"\n[[spools]]\nprinter = "A"', "same as another"),
        ('printer = "A"\n[[spools]]\nprinter = "B"', "raw_port is the same"),
        ('printer = "A"\nqueue = "q"\n[[spools]]\nprinter = "B"\nraw_port = 0\nqueue = "q"', "queue is the same"),
    ],
)
def test_printers_that_cannot_be_offered_so(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        parse(f"[[spools]]\n{text}")


def test_printers_without_ports_of_the_same_number() -> None:
    parse('[[spools]]\nprinter = "A"\nraw_port = 0\n[[spools]]\nprinter = "B"\nraw_port = 0')
