"""What hubctl says where it gets no answer, from the hub or from journald."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import hubd.cli.client
from hubd.cli.client import unreachable
from hubd.cli.logs import Filter, journal_records
from hubd.errors import HubError


@pytest.mark.blocking_allowed("hubctl is no part of a hub: it has no event loop")
@pytest.mark.parametrize(("user", "code"), [(0, "hub.not_answering"), (1000, "hub.socket_closed")])
def test_who_is_root_already_is_not_told_to_become_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, code: str
) -> None:
    monkeypatch.setattr(hubd.cli.client, "service_state", lambda: {"LoadState": "loaded", "ActiveState": "active"})
    monkeypatch.setattr(os, "geteuid", lambda: user)
    why = unreachable(tmp_path / "socket", tmp_path)
    assert why.code == code
    assert ("sudo" in why.remedy) == (user != 0)


@pytest.mark.blocking_allowed("hubctl is no part of a hub: it has no event loop")
def test_a_journalctl_that_fails_slowly_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journalctl = tmp_path / "journalctl"
    journalctl.write_text("#!/bin/sh\necho refused >&2\nexec >&- 2>&-\nsleep 0.3\nexit 1\n")
    journalctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(HubError, match="refused"):
        list(journal_records(Filter({}, "info"), "", 10, follow=False))
