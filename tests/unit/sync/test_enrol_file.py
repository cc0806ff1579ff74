"""`enrol.toml`: strict, private, erased for good."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hubd.errors import ConfigError
from sync import enrol_file
from sync.enrol_file import FILE_NAME, GroupToken, erase, places, read

TOKEN = "gt-4821-secret-of-forty-stores"
GOOD = f'cloud = "https://cloud.example"\ntoken = "{TOKEN}"\n'


def put(folder: Path, content: str | bytes, mode: int = 0o600) -> Path:
    file = folder / FILE_NAME
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    file.chmod(mode)
    return file


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_private_file_gives_address_and_token(tmp_path: Path, mode: int) -> None:
    assert read(put(tmp_path, GOOD, mode)) == GroupToken("https://cloud.example", TOKEN)


def test_no_file_is_no_token_and_no_error(tmp_path: Path) -> None:
    assert read(tmp_path / FILE_NAME) is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no cloud"),
        (f'token = "{TOKEN}"', "no cloud"),
        ('cloud = "https://cloud.example"', "no token"),
        (GOOD + "uses = 3", "a key other than cloud and token"),
        (GOOD.replace(f'"{TOKEN}"', "4821"), "a token that is not a text"),
        (GOOD.replace(TOKEN, ""), "a token that is not 1 to 200"),
        (GOOD.replace(TOKEN, "x" * 201), "a token that is not 1 to 200"),
        (GOOD.replace(TOKEN, f"{TOKEN} {TOKEN}"), "a token that is not 1 to 200"),
        (GOOD.replace(TOKEN, "jéton-de-groupe"), "a token that is not 1 to 200"),
        (GOOD + GOOD, "is not TOML"),
        (TOKEN, "is not TOML"),
        (GOOD.encode() + b"# \xff", "is not UTF-8"),
        (GOOD + "#" * enrol_file.FILE_BYTES_MAX, "is larger than"),
    ],
)
def test_anything_else_is_refused_with_what_is_wrong_and_without_the_token(
    tmp_path: Path, content: str | bytes, says: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        read(put(tmp_path, content))
    assert refused.value.code == "enrolment.file_invalid"
    assert says in refused.value.detail
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize("cloud", ["http://cloud.example", "cloud.example", "mqtts://cloud.example", "https://"])
def test_a_token_is_sent_over_tls_only(tmp_path: Path, cloud: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(put(tmp_path, GOOD.replace("https://cloud.example", cloud)))
    assert refused.value.code == "enrolment.not_https"


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o620, 0o660, 0o777])
def test_a_file_that_others_may_read_or_change_is_not_used(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError) as refused:
        read(put(tmp_path, GOOD, mode))
    assert refused.value.code == "enrolment.file_open"
    assert f"{mode:04o}" in refused.value.detail


def test_a_file_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    found = list(os.stat(put(tmp_path, GOOD)))
    found[4] = os.geteuid() + 4821
    with pytest.raises(ConfigError) as refused:
        enrol_file._check_owner(tmp_path / FILE_NAME, os.stat_result(found))
    assert refused.value.code == "enrolment.file_owner"


def test_links_directories_and_pipes_are_not_read(tmp_path: Path) -> None:
    elsewhere = put(tmp_path, GOOD).rename(tmp_path / "elsewhere")
    link, folder, pipe = tmp_path / "link", tmp_path / "folder", tmp_path / "pipe"
    link.symlink_to(elsewhere)
    folder.mkdir()
    os.mkfifo(pipe, 0o600)
    for path in (link, folder, pipe):
        with pytest.raises(ConfigError) as refused:
            read(path)
        assert refused.value.code == "enrolment.file_not_regular", path


def test_what_could_not_be_erased_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, whom no mode stops, so the kernel's answer is given here."""
    file = put(tmp_path, GOOD)
    monkeypatch.setattr(os, "access", lambda path, mode: not (Path(path) == tmp_path and mode & os.W_OK))
    with pytest.raises(ConfigError) as refused:
        read(file)
    assert refused.value.code == "enrolment.file_stuck"


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_erasing_overwrites_the_blocks_and_removes_the_name(tmp_path: Path, mode: int) -> None:
    file, other = put(tmp_path, GOOD, mode), tmp_path / "other name"
    os.link(file, other)  # the same blocks, to look at afterwards
    erase(file)
    assert not os.path.lexists(file)
    if mode & 0o200 or os.geteuid() == 0:
        assert other.read_bytes().strip() == b""
    erase(file)


def test_erasing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    elsewhere, link = put(tmp_path, GOOD).rename(tmp_path / "elsewhere"), tmp_path / FILE_NAME
    link.symlink_to(elsewhere)
    erase(link)
    assert not os.path.lexists(link)
    assert elsewhere.read_text() == GOOD


def test_the_data_directory_comes_before_the_configuration_s(tmp_path: Path) -> None:
    data, config = tmp_path / "data", tmp_path / "etc/hubd.toml"
    assert places(data, config) == (data / FILE_NAME, tmp_path / "etc" / FILE_NAME)
    assert places(data, data / "hubd.toml") == places(data, None) == (data / FILE_NAME,)


def test_the_token_is_not_shown_where_the_value_is() -> None:
    assert TOKEN not in repr(GroupToken("https://cloud.example", TOKEN))
