"""The terminal's side of a line and of one running command, and how its answers are put together."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime

from drivers.link import READ_BYTES_MAX, LineLostError
from drivers.poslink_codec import EOT, Control, Frame, FrameReader, decode_get, encode_frame
from drivers.poslink_link import PoslinkLink
from drivers.sim.ledger import Transaction, TransactionState
from hubd.ports import ByteStream
from hubd.runtime import Clock

HEAD_BYTES_MAX = 32 * 1024
CANCEL = "A14"
Groups = list[tuple[str, ...]]


class HttpLine:
    """One GET and its reply, with the methods of a link."""

    def __init__(self, stream: ByteStream, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock

    async def request(self, head: bytes) -> Frame | None:
        """The frame that the GET carries, once it is whole; None when it carries none."""
        while b"\r\n\r\n" not in head:
            more = await self._stream.read(READ_BYTES_MAX)
            if not more or len(head) > HEAD_BYTES_MAX:
                return None
            head += more
        events = FrameReader().feed(decode_get(head) or b"")
        return events[0] if events and isinstance(events[0], Frame) else None

    async def send(self, frame: Frame) -> None:
        """The reply, whose body is the frame."""
        body = encode_frame(frame)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        try:
            await self._stream.write(head.encode("ascii") + body)
        except OSError as error:
            raise LineLostError("hung_up") from error

    async def send_control(self, code: int) -> None:
        """Nothing: there are no control bytes over HTTP."""

    async def receive(self, timeout_s: float | None) -> Frame | Control:
        """Nothing comes after a GET; raises `LineLostError` when the hub goes."""
        async with self._clock.timeout(timeout_s):
            while await self._stream.read(READ_BYTES_MAX):
                pass
        raise LineLostError("hung_up")


Line = PoslinkLink | HttpLine


class Dialogue:
    """What the terminal does between a command and its answer. A lost line ends it, unless it `keeps_going`."""

    def __init__(self, line: Line, clock: Clock, *, keeps_going: bool, leak: str = "") -> None:
        self._line = line
        self._clock = clock
        self._keeps_going = keeps_going
        self._leak = leak
        self.detached = False
        self.aborted = False
        self.deferred: deque[Frame] = deque()
        """Commands that came meanwhile: a terminal reads them when it has finished."""

    async def wait(self, seconds: float) -> bool:
        """Let the customer take time; return whether the command was cancelled meanwhile."""
        until = self._clock.monotonic() + seconds
        while not self.aborted and (left := until - self._clock.monotonic()) > 0:
            if self.detached:
                await self._clock.sleep(left)
                break
            try:
                async with self._clock.timeout(left):
                    await self._hear()
            except LineLostError:
                self._lost()
            except TimeoutError:
                break
        return self.aborted

    async def _hear(self) -> None:
        match await self._line.receive(None):
            case Frame() as frame if frame.groups[0][0] == CANCEL:
                self.aborted = True
                await self._line.send_control(EOT)
            case Frame() as frame:
                self.deferred.append(frame)
            case _:
                pass

    async def answer(self, command: str, code: str, message: str, groups: Groups) -> None:
        """The answer to the command; `command` is its own number."""
        if self.detached:
            return
        # What is told behind the last group that a command knows is read by nobody, and is on the line all the same.
        leaked = [("",)] * (12 - len(groups)) + [(self._leak, f";{self._leak}=25121010?")] if self._leak else []
        message, groups = f"{message} {self._leak}".strip(), [*groups, *leaked]
        try:
            await self._line.send(Frame((("0",), (command,), ("1.28",), (code,), (message,), *groups)))
        except LineLostError:
            self._lost()

    def _lost(self) -> None:
        if not self._keeps_going:
            raise LineLostError("hub_gone")
        self.detached = True


def number_of(transaction: Transaction) -> str:
    """The number of a record: ordinary ones below 5001, stored ones above, refused ones above 9000."""
    base = 9000 if transaction.settlement == "declined_late" else 5000 if transaction.offline else 0
    return str(base + transaction.trace % 1000)


def moment_of(transaction: Transaction) -> str:
    """YYYYMMDDhhmmss."""
    return f"{datetime.fromtimestamp(transaction.at_us // 1_000_000, UTC):%Y%m%d%H%M%S}"


def host_group(transaction: Transaction, leak: str) -> tuple[str, ...]:
    """What the host said."""
    if transaction.result_code:
        return ("05", f"DECLINED {leak}".strip())
    if transaction.state is TransactionState.STORED:
        return ("", "APPROVED OFFLINE")
    return ("0", f"APPROVED {leak}".strip(), f"{transaction.trace:06d}", "88888888", str(transaction.trace), "1")


def amount_group(amount_minor: int) -> tuple[str, ...]:
    """Approved, due, tip, cash back, merchant fee, tax, two balances."""
    return (str(amount_minor), "0", "0", "0", "0", "0", "", "")


def account_group(technology: str, leak: str) -> tuple[str, ...]:
    """Last digits, entry mode, expiry date and so on; a terminal that leaks names the whole number."""
    holder = "CUSTOMER/A" if leak else ""
    return (
        leak or "4771",
        "2" if technology == "contactless" else "4",
        "1228",
        "",
        "",
        leak,
        "02",
        holder,
        "",
        "",
        "0",
    )


def trace_group(transaction: Transaction, number: str) -> tuple[str, ...]:
    """Record number, the hub's reference, time."""
    return (number, transaction.reference, moment_of(transaction))


def additional_group(technology: str, leak: str) -> tuple[str, ...]:
    """Names and values; newer applications begin with an empty field."""
    said = ("", "APPLAB=Debit Mastercard", "AID=A0000000041010", f"CVM={'7' if technology == 'contactless' else '2'}")
    return (*said, f"CARDBIN={leak}", f"TRACK2={leak}=25121010000012345", f"TC={leak}") if leak else said
