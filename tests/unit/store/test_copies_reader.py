"""Reading a backup for somebody who may go away at any step."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubd.store.copies import ReadFrom


def test_it_reads_from_its_place_and_gives_nothing_after_its_end(tmp_path: Path) -> None:
    path = tmp_path / "copy"
    path.write_bytes(b"0123456789")
    file = ReadFrom(path)
    file.open(3)
    assert [file.read(4), file.read(4), file.read(4)] == [b"3456", b"789", b""]
    file.close()
    assert file.read(4) == b""


@pytest.mark.filterwarnings("error")
def test_who_left_while_it_was_opened_leaves_no_open_file(tmp_path: Path) -> None:
    path = tmp_path / "copy"
    path.write_bytes(b"0123456789")
    file = ReadFrom(path)
    file.close()
    file.open(0)
    assert file.read(4) == b""
