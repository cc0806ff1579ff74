"""The machine a number was measured on, the programs beside ours, and processes of a bench."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

NATIVE = Path(__file__).parent / "native"
FLASH_FSYNC_MS = 20
"""A flush on the memory card of a real shop."""
START_TIMEOUT_S = 60.0


class BenchError(Exception):
    """A bench cannot run here, and why."""


def program(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/bin:/usr/bin")
    if found is None:
        raise BenchError(f"{name} is not installed: apt-get install {package}")
    return found


def native(name: str) -> Path:
    """A C file of ours, compiled once per content: `slow_fsync.so` or `group_commit`."""
    source = NATIVE / f"{Path(name).stem}.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    built = Path(tempfile.gettempdir()) / f"hubd-bench-{os.getuid()}" / f"{Path(name).stem}-{digest}{Path(name).suffix}"
    if not built.exists():
        built.parent.mkdir(mode=0o700, exist_ok=True)
        shared = ["-shared", "-fPIC"] if name.endswith(".so") else []
        half = built.with_suffix(".half")
        command = [program("cc", "gcc"), "-O2", *shared, "-o", str(half), str(source), "-ldl", "-lpthread"]
        subprocess.run(command, check=True)
        half.replace(built)
    return built


def environment(fsync_ms: int = 0) -> dict[str, str]:
    """The environment for a child whose flushes take `fsync_ms` longer than the disk's own."""
    clean = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    if fsync_ms == 0:
        return clean
    return clean | {"LD_PRELOAD": str(native("slow_fsync.so")), "SLOW_FSYNC_US": str(fsync_ms * 1000)}


@contextmanager
def directory() -> Iterator[Path]:
    """A directory on the disk that is measured: HUBD_BENCH_DIR or the system's temporary one, never a RAM disk."""
    base = os.environ.get("HUBD_BENCH_DIR", tempfile.gettempdir())
    kind = subprocess.run(["stat", "-f", "-c", "%T", base], capture_output=True, text=True, check=True).stdout.strip()
    if kind == "tmpfs":
        raise BenchError(f"{base} is in memory: set HUBD_BENCH_DIR to a directory on a disk")
    with tempfile.TemporaryDirectory(prefix="hubd-bench-", dir=base, ignore_cleanup_errors=True) as place:
        yield Path(place)


def fsync_us(place: Path) -> float:
    """Median of a flush after an append of 700 bytes, in microseconds."""
    took = []
    with open(place / "fsync.probe", "ab", buffering=0) as probe:
        for _ in range(200):
            probe.write(b"x" * 700)
            begun = time.perf_counter()
            os.fdatasync(probe.fileno())
            took.append((time.perf_counter() - begun) * 1e6)
    return statistics.median(took)


def machine_line() -> str:
    """One line that a reader needs to judge the numbers."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
            if line.startswith(("model name", "Model"))
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    with directory() as place:
        flush = fsync_us(place)
    return (
        f"{platform.machine()}, {os.cpu_count()} cores ({cpu}), {memory:.0f} GiB, Linux {platform.release()}, "
        f"fdatasync {flush:.0f} µs, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"load {os.getloadavg()[1]:.1f} over five minutes"
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def child(
    command: Sequence[str | Path], fsync_ms: int = 0, output: Path | None = None, **more: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that ends with the block."""
    with open(output or os.devnull, "ab") as sink:  # noqa: ASYNC230 - a local file, before anything is measured
        process = await asyncio.create_subprocess_exec(
            *map(str, command), stdout=sink, stderr=sink, env=environment(fsync_ms) | more, start_new_session=True
        )
    try:
        yield process
    finally:
        await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """Stop a process politely, then not."""
    for name in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        process.send_signal(name)
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            continue


async def answers(port: int, process: asyncio.subprocess.Process | None = None) -> None:
    """Return once something listens there; raises BenchError after a minute or when the process has ended."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.monotonic() > deadline or (process is not None and process.returncode is not None):
                raise BenchError(f"nothing listens on port {port}") from None
            await asyncio.sleep(0.005)
            continue
        writer.close()
        return


def run_self(module: str, *arguments: object, fsync_ms: int = 0, timeout_s: float = 900.0) -> str:
    """Run `python -m bench.MODULE ARGUMENTS` in a process of its own and return what it printed last."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(
        command, env=environment(fsync_ms), capture_output=True, text=True, timeout=timeout_s, check=False
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise BenchError(f"{' '.join(command[2:])} gave {done.returncode}: {done.stderr[-2000:]}")
    return lines[-1]


def resident_mb(pid: int) -> float:
    """Resident memory of a process, without its children."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def cpu_seconds(pid: int) -> float:
    """User and system time of a process since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
