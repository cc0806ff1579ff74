"""Reading a backup for somebody who may go away at any step."""

from __future__ import annotations

from pathlib import Path, PosixPath
from threading import Event, Thread
from typing import Any

import pytest

from hubd.store.copies import ReadFrom

WAIT_S = 10.0


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


class SlowPath(PosixPath):
    """Opening takes until somebody says so."""

    begun, go_on = Event(), Event()

    def open(self, *args: Any, **more: Any) -> Any:
        self.begun.set()
        assert self.go_on.wait(WAIT_S)
        return super().open(*args, **more)


@pytest.mark.filterwarnings("error")
def test_who_leaves_while_a_thread_is_at_work_waits_for_nobody_and_leaves_no_open_file(tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(b"0123456789")
    path = SlowPath(tmp_path / "copy")
    file = ReadFrom(path)
    thread = Thread(target=file.open, args=(0,))
    thread.start()
    assert path.begun.wait(WAIT_S)
    file.close()
    assert thread.is_alive(), "whoever closes does not wait for the thread"
    path.go_on.set()
    thread.join()
    assert file._file is not None
    assert file._file.closed
