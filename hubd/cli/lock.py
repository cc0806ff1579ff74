"""One process at a time on one data directory: the daemon, the demo, a restore."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hubd.errors import ConfigError, HubError

LOCK_FILE = "hub.lock"


@contextmanager
def only_one(data: Path) -> Iterator[None]:
    """Hold the data directory: two hubs on one journal are two writers. The kernel lets go of it, however we end.

    Raises `hub.already_running`, and `config.data_unusable` where the directory cannot be made or entered.
    """
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(data / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise ConfigError(
            "config.data_unusable",
            f"{exc.filename or data} cannot be used: {exc.strerror}.",
            remedy="Give the directory to the user who runs the hub, or set paths.data.",
        ) from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HubError(
                "hub.already_running",
                f"A hub runs on {data}.",
                remedy="`hubctl status` talks to it; stop it first, or use another directory.",
            ) from None
        yield
    finally:
        os.close(descriptor)


def is_held(data: Path) -> bool:
    """Whether a hub or a restore works on the data directory now. Changes nothing there: a read-only disk will do."""
    try:
        descriptor = os.open(data / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True  # it may; who reads the store next says whose command this is
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
