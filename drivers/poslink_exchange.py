"""Commands and their answers over the lines of one POSLink terminal: what is sent once, awaited, repeated or dropped.

Terminals differ in what they do with a line after an answer: some keep it, some end it. Over HTTP, and for those that
were seen to end it, every exchange has a line of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from msgspec import Struct

from drivers.base import Lines
from drivers.link import LineLostError
from drivers.poslink_codec import ACK, EOT, NAK, Control, Dialect, Frame
from drivers.poslink_link import PoslinkLink
from drivers.poslink_messages import (
    CANCEL,
    STATUS_REPORT,
    Answer,
    Request,
    decode_answer,
    decode_transaction,
    encode_request,
)
from hubd.ports import ByteStream, Progress, ProgressSink
from hubd.runtime import Clock

ACK_TIMEOUT_S = 5.0
"""From a command to its ACK."""
ANSWER_TIMEOUT_S = 180.0
"""From the ACK, or the last status report, to the answer: the customer and the host take their time in between."""
EXCHANGE_TIMEOUT_S = 900.0
"""No command may hold the terminal longer, however often it reports its status."""
CANCEL_SEND_TIMEOUT_S = 1.0
REPEATS_MAX = 2
"""How often a command that moves no money is sent again after a NAK."""
SHORT_LINES_MAX = 2
"""Lines in a row that the terminal ended after one exchange; then it wants a line for each, and gets one."""


class Lost(Struct, frozen=True):
    """The exchange did not end: what happened is not known, unless nothing was `sent`."""

    reason: str
    sent: bool = True


class NotAcknowledgedError(OSError):
    """The terminal answered NAK to a command that must not be sent (again)."""


def ignore(_: Progress) -> None:
    """Nobody is looking."""


class Exchanges:
    """The driver's lines. One exchange at a time; `pump` must run beside it."""

    def __init__(self, clock: Clock, dialect: Dialect) -> None:
        self._clock = clock
        self._dialect = dialect
        self._each = dialect is Dialect.HTTP
        """Whether every exchange has a line of its own."""
        self._short_lines = 0
        self._lines: Lines | None = None
        self._host = ""
        self._link: PoslinkLink | None = None
        self._new_link = asyncio.Event()
        self._closed = True
        self._clean = False
        self._ended = 0
        self._running: Request | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._cancelled = False

    # -- lines ---------------------------------------------------------------------------------------------------------

    def attach(self, stream: ByteStream, url: str, lines: Lines) -> None:
        """Take an open line; nothing of the one before is left."""
        self._lines, self._host = lines, urlsplit(url).netloc
        self._closed, self._clean, self._ended = False, True, 0
        self._take(stream)

    def _take(self, stream: ByteStream) -> PoslinkLink:
        self._link = PoslinkLink(stream, self._clock, self._dialect, self._host)
        self._new_link.set()
        return self._link

    async def pump(self) -> str:
        """Read until the line is lost, and return why. With a line for each exchange: until there will be no more."""
        while True:
            self._new_link.clear()
            if self._link is None:
                return "closed"
            reason = await self._link.pump()
            if not self._each:
                await self._idle.wait()  # an exchange whose answer has arrived still ends as it should
                self._judge_line(reason)
            if self._closed or not self._each:
                return reason
            await self._new_link.wait()

    def _judge_line(self, reason: str) -> None:
        """Notice a terminal that ends the line after each answer: that is its way, and not a fault."""
        ended = reason == "hung_up" or reason.startswith("line_error")
        short = ended and self._clean and self._ended == 1
        self._short_lines = self._short_lines + 1 if short else 0
        self._each = self._short_lines >= SHORT_LINES_MAX

    async def close(self) -> None:
        """Give the line back; may be called again."""
        self._closed = True
        self._new_link.set()
        if self._link is not None:
            await self._link.close()

    @property
    def usable(self) -> bool:
        """Whether every exchange has ended as it should, and there is a line or may be another one."""
        return self._clean and not self._closed and self._link is not None and (self._each or not self._link.lost)

    @asynccontextmanager
    async def _line(self) -> AsyncIterator[PoslinkLink]:
        """A line for one exchange; raises OSError when there is none."""
        link = self._link
        if link is None or self._lines is None or self._closed:
            raise ConnectionError("no line is attached")
        if self._each and link.lost:
            link = self._take(await self._lines.another())
        try:
            yield link
        finally:
            if self._each:
                await link.close()

    # -- exchanges -----------------------------------------------------------------------------------------------------

    async def exchange(self, request: Request, progress: ProgressSink = ignore, *, once: bool = False) -> Answer | Lost:
        """One command and its answer. With `once` it leaves at most one time, whatever happens.

        Cancelling a transaction asks the terminal to stop it.
        """
        self._clean, self._running, self._cancelled = False, request, False
        self._idle.clear()
        sent = False
        try:
            async with self._clock.timeout(EXCHANGE_TIMEOUT_S), self._line() as link:
                sent = True
                answer = await self._guarded(link, request, progress, once=once)
        except LineLostError as error:
            return Lost(error.reason, sent)
        except OSError:  # TimeoutError is one, and so is a frame that was not acknowledged
            return Lost("no_answer" if sent else "terminal_unreachable", sent)
        else:
            self._clean = True
            self._ended += 1
        finally:
            self._running = None
            self._idle.set()
        return answer

    async def _guarded(self, link: PoslinkLink, request: Request, progress: ProgressSink, *, once: bool) -> Answer:
        try:
            return await self._converse(link, request, progress, once=once)
        except OSError:
            raise
        except BaseException:  # cancellation, or a caller's sink that fails: the customer must not be left to pay
            await self.cancel()
            raise

    async def cancel(self) -> bool:
        """A14 on the line of the transaction that runs; True if it was sent. Not possible over HTTP."""
        link, running = self._link, self._running
        if link is None or running is None or not running.reference or not link.acknowledges:
            return False
        self._cancelled = True
        try:
            async with self._clock.timeout(CANCEL_SEND_TIMEOUT_S):
                await link.send(encode_request(Request(CANCEL)))
        except OSError:
            return False
        return True

    @property
    def cancelled(self) -> bool:
        """Whether the newest exchange was asked to stop."""
        return self._cancelled

    async def _converse(self, link: PoslinkLink, request: Request, progress: ProgressSink, *, once: bool) -> Answer:
        for _ in range(1 if once else 1 + REPEATS_MAX):
            link.discard_received()
            await link.send(encode_request(request))
            taken = await self._acknowledged(link, request) if link.acknowledges else True
            if isinstance(taken, Answer):
                return taken
            if taken:
                progress(Progress("started"))
                return await self._answer(link, request, progress)
        raise NotAcknowledgedError("the command was not acknowledged")

    async def _acknowledged(self, link: PoslinkLink, request: Request) -> Answer | bool:
        """Wait for ACK or NAK. A frame that comes before is of an older exchange, unless it names our reference."""
        async with self._clock.timeout(ACK_TIMEOUT_S):
            while True:
                match await link.receive(ACK_TIMEOUT_S):
                    case Control(code) if code in (ACK, NAK):
                        return code == ACK
                    case Frame() as frame:
                        answer = decode_answer(frame)
                        if answer and answers(answer, request) and request.reference:
                            return answer
                    case _:
                        pass  # the EOT of an older exchange

    async def _answer(self, link: PoslinkLink, request: Request, progress: ProgressSink) -> Answer:
        while True:
            match await link.receive(ANSWER_TIMEOUT_S):
                case Frame() as frame:
                    answer = decode_answer(frame)
                    if answer and answer.command == STATUS_REPORT:
                        progress(Progress("please_wait"))
                    elif answer and (answers(answer, request) or _is_anonymous(answer, request)):
                        return answer
                case Control(code) if code == EOT and not self._cancelled:
                    raise LineLostError("ended_by_terminal")
                case _:
                    pass  # the ACK to a cancel command, or a doubled one to ours


def answers(answer: Answer, request: Request) -> bool:
    """Whether this is the answer to the command: of a transaction by its reference, of others by its number alone."""
    fits = answer.command == request.answered_by
    return fits and (not request.reference or decode_transaction(answer).reference == request.reference)


def _is_anonymous(answer: Answer, request: Request) -> bool:
    """Whether a transaction's answer names no reference, as refusals do; another one's would be an echo."""
    return answer.command == request.answered_by and not decode_transaction(answer).reference
