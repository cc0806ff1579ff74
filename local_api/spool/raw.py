"""The raw port of a printer, 9100 as a rule: whatever a till sends until it closes its side is one print job.

**What the till can know.** Raw printing has no acknowledgement, so the end of the connection is made one: the hub
closes it in order when the job is on disk, and resets it when it was not taken, whatever stopped it. Sockets are set so
that the system resets them too when the hub dies.

A till that keeps its connection open starts a new job with each pause. What asks the printer for its state is
answered from what the hub knows of it, and is no part of the job.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import Counter

from hubd.errors import HubError, InvalidValueError, PrintError
from hubd.model.escpos_stream import Kind, StreamReader
from hubd.ports import Paper
from hubd.runtime import Clock
from hubd.services.access import Caller
from hubd.services.spool import PrinterState, Queue, SpoolDesk

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 32
CONNECTIONS_FROM_ONE_MAX = 4
READ_BYTES_MAX = 16 * 1024
PAUSE_S, PAUSE_AFTER_CUT_S = 10.0, 1.0
"""After this long without a byte a job is over although its connection is not."""
STALLED_S = 60.0
"""A command that was begun and does not go on for so long was cut short."""
UNREAD_BYTES_MAX = 4096
"""Answers that a till does not read; with more of them it is given up."""
_CUTS = frozenset({b"\x1dV", b"\x1bi", b"\x1bm"})
_RESET = struct.pack("ii", 1, 0)
_IN_ORDER = struct.pack("ii", 0, 0)
_KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))


def answer_to(request: bytes, state: PrinterState) -> bytes:
    """What a printer in this state says to DLE EOT and GS r; nothing to other questions (ESC/POS, DLE EOT n)."""
    number = request[2]
    condition, works = state.condition, state.works
    out = condition.paper is Paper.OUT
    low = 0x0C if condition.paper in (Paper.LOW, Paper.OUT) else 0
    if request[:2] == b"\x1dr":
        return bytes((low >> 2 | (0x0C if out else 0),)) if number in (1, 49) else b""
    if request[:2] != b"\x10\x04":
        return b""
    fault = not works and not out and not condition.cover_open
    bits = {
        1: 0x04 * bool(condition.drawer_open) | 0x08 * (not works),
        2: 0x04 * bool(condition.cover_open) | 0x20 * out | 0x40 * fault,
        3: 0,
        4: low | 0x60 * out,
    }
    return bytes((0x12 | bits[number],)) if number in bits else b""


class RawPort:
    """One listening socket for one queue. `run` belongs to the supervisor."""

    def __init__(self, clock: Clock, desk: SpoolDesk, queue: Queue, job_bytes_max: int) -> None:
        self._clock = clock
        self._desk = desk
        self._queue = queue
        self._job_bytes_max = job_bytes_max
        self._open: Counter[str] = Counter()

    async def run(self, listening: socket.socket) -> None:
        """Take connections until cancelled; those that are open then are reset."""
        loop = asyncio.get_running_loop()
        # Inherited by what is accepted: from its first moment a connection ends with a reset, unless told otherwise.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        async with asyncio.TaskGroup() as group:
            while True:
                line, place = await loop.sock_accept(listening)
                address = str(place[0])
                if self._open.total() >= CONNECTIONS_MAX or self._open[address] >= CONNECTIONS_FROM_ONE_MAX:
                    log.warning("spool.too_many_connections", extra={"address": address, "detail": self._queue.printer})
                    line.close()
                    continue
                self._open[address] += 1
                group.create_task(self._counted(line, address), name=f"spool.raw:{address}")

    async def _counted(self, line: socket.socket, address: str) -> None:
        try:
            await self._serve(line, address)
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    async def _serve(self, line: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_BYTES_MAX, loop=loop)
        transport, protocol = await loop.connect_accepted_socket(lambda: asyncio.StreamReaderProtocol(reader), line)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEP_ALIVE:
                line.setsockopt(socket.IPPROTO_TCP, option, value)
            caller = await self._desk.admit(self._queue, address)
            await _Conversation(self, reader, writer, caller, address).run()
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _IN_ORDER)
            writer.close()
            await writer.wait_closed()
        except HubError as error:
            if error.code != "access.not_allowed":
                self._desk.refused(self._queue, address, error.code)
        except OSError:
            log.info("spool.peer_left", extra={"address": address, "detail": self._queue.printer})
        finally:
            transport.abort()


class _Conversation:
    """One connection: jobs in, answers about the printer out."""

    def __init__(
        self,
        port: RawPort,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        caller: Caller,
        address: str,
    ) -> None:
        self._clock = port._clock
        self._desk = port._desk
        self._queue = port._queue
        self._job_bytes_max = port._job_bytes_max
        self._reader = reader
        self._writer = writer
        self._caller = caller
        self._address = address
        self._stream = StreamReader()
        self._job = bytearray()
        self._ends_with_cut = False

    async def run(self) -> None:
        """Until the till has closed its side and its last job is on disk.

        Raises HubError for a job that is not taken, `print_cut_short` for one that lacks its end.
        """
        while True:
            try:
                data = await self._next()
            except TimeoutError:
                if self._stream.begun or not self._job:
                    break  # or the system has given the connection up
                await self._accept()
                continue
            except ConnectionError:
                if self._job or self._stream.begun:
                    raise _cut_short() from None
                raise
            if not data:
                break
            self._take(data)
        if self._stream.begun:
            raise _cut_short()
        if self._job:
            await self._accept()

    async def _next(self) -> bytes:
        pause_s = PAUSE_AFTER_CUT_S if self._ends_with_cut else PAUSE_S
        # A connection that is only held open is never closed: what its till sends next would be lost unheard.
        wait_s = STALLED_S if self._stream.begun else pause_s if self._job else None
        async with self._clock.timeout(wait_s):
            return await self._reader.read(READ_BYTES_MAX)

    def _take(self, data: bytes) -> None:
        for piece in self._stream.feed(data):
            if piece.kind is Kind.REQUEST:
                self._answer(piece.data)
            else:
                self._job += piece.data
                self._ends_with_cut = piece.data[:2] in _CUTS
        if len(self._job) + self._stream.begun > self._job_bytes_max:
            raise InvalidValueError(
                "print_too_long",
                f"A print job has at most {self._job_bytes_max} bytes.",
                remedy="Send it in several jobs.",
            )

    def _answer(self, request: bytes) -> None:
        answer = answer_to(request, self._desk.state(self._queue))
        if self._writer.transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            raise _cut_short()
        if answer:
            self._writer.write(answer)

    async def _accept(self) -> None:
        data = bytes(self._job)
        self._job.clear()
        await self._desk.raw(self._queue, data, self._caller, self._address)


def _cut_short() -> PrintError:
    return PrintError(
        "print_cut_short", "The connection ended in the middle of a print job.", remedy="Print it again from the till."
    )
