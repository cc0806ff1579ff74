"""The terminal's side of one running request: it uses the till's devices, waits, and hears an AbortRequest."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from drivers.link import LineLostError
from drivers.opi_link import OpiLink
from drivers.opi_messages import (
    ABORT_REQUEST,
    BUSY,
    CASHIER_DISPLAY,
    OUTPUT,
    PRINTER_RECEIPT,
    SUCCESS,
    CardServiceRequest,
    CardServiceResponse,
    DeviceRequest,
    DeviceResponse,
    Output,
    Request,
    Response,
    ServiceResponse,
    encode,
)
from drivers.sim.ledger import Transaction, TransactionState
from hubd.model.money import Money
from hubd.runtime import Clock

DEVICE_TIMEOUT_S = 5.0
"""How long the terminal waits for a device of the till; then it goes on without it."""
DEVICE_ENCODING = "ISO-8859-1"


class Dialogue:
    """What the terminal does between a request and its answer. A lost line ends it, unless it `keeps_going`."""

    def __init__(self, link: OpiLink, request: Request, clock: Clock, terminal_id: str, leak: str = "") -> None:
        self._link = link
        self._clock = clock
        self._terminal_id = terminal_id
        self._sequence = 0
        self._leak = leak
        self.request = request
        self.devices: OpiLink | None = None
        """Channel 1, once it is open."""
        self.keeps_going = False
        self.detached = False
        self.aborted = False

    # -- channel 1 -----------------------------------------------------------------------------------------------------

    async def show(self, *lines: str) -> None:
        """On the cashier's display."""
        await self._output(CASHIER_DISPLAY, lines)

    async def print_lines(self, lines: list[str]) -> None:
        """A receipt."""
        await self._output(PRINTER_RECEIPT, tuple(lines))

    async def _output(self, target: str, lines: tuple[str, ...]) -> None:
        """Send it and wait for the answer; a till that gives none is not waited for long."""
        if self.devices is None:
            return
        lines = (f"PAN {self._leak}", f";{self._leak}=27121?", *lines) if self._leak else lines
        self._sequence += 1
        request = DeviceRequest(
            OUTPUT,
            self.request.request_id,
            self.request.till.workstation_id,
            str(self._sequence),
            self._terminal_id,
            (Output(target, lines),),
        )
        try:
            async with self._clock.timeout(DEVICE_TIMEOUT_S):
                await self.devices.send(encode(request, DEVICE_ENCODING))
                while not isinstance(await self.devices.receive(None), DeviceResponse):
                    pass
        except OSError:  # TimeoutError is one
            return

    async def close(self) -> None:
        """Hang up channel 1."""
        if self.devices is not None:
            await self.devices.close()

    # -- channel 0 -----------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """An AbortRequest has come on another line."""
        self.aborted = True
        self._link.put(CardServiceRequest(ABORT_REQUEST, ""))

    async def wait(self, seconds: float) -> bool:
        """Let the customer take time; return whether the request was aborted meanwhile."""
        until = self._clock.monotonic() + seconds
        while not self.aborted and (left := until - self._clock.monotonic()) > 0:
            if self.detached:
                await self._clock.sleep(left)
                break
            try:
                await self._hear(left)
            except TimeoutError:
                break
            except LineLostError:
                self._lost()
        return self.aborted

    async def _hear(self, timeout_s: float) -> None:
        message = await self._link.receive(timeout_s)
        if not isinstance(message, Request) or self.aborted:
            return
        if message.request_type == ABORT_REQUEST:
            self.aborted = True
            await self.answer(refusal(message, SUCCESS))
        elif message.request_id != self.request.request_id:  # the same one again is only a doubled line
            await self.answer(refusal(message, BUSY))

    async def answer(self, response: Response) -> None:
        """Send an answer."""
        if self.detached:
            return
        try:
            await self._link.send(with_leak(encode(response), self._leak))
        except LineLostError:
            self._lost()

    def _lost(self) -> None:
        if not self.keeps_going:
            raise LineLostError("hub_gone")
        self.detached = True


def refusal(request: Request, result: str, terminal_id: str = "") -> Response:
    """An answer without content."""
    kind = CardServiceResponse if isinstance(request, CardServiceRequest) else ServiceResponse
    return kind(request.request_type, request.request_id, result, request.till.workstation_id, terminal_id)


def receipt_lines(transaction: Transaction, terminal_id: str) -> list[str]:
    """A cardholder's receipt, as in Brussels."""
    amount = Money(transaction.amount_minor, transaction.currency).plain().replace(".", ",")
    verdict = "Paiement refusé" if transaction.result_code else "Paiement accepté"
    if transaction.kind == "reversal":
        verdict = "Annulation acceptée"
    return [
        "* * Ticket client * *",
        f"Terminal {terminal_id}",
        f"Transaction {transaction.trace:06d}  Ticket {transaction.receipt_number}",
        f"Montant {amount}",
        "Carte ############4771",
        verdict,
    ]


def moment(transaction: Transaction) -> str:
    """TimeStamp."""
    return datetime.fromtimestamp(transaction.at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def state_of(transaction: Transaction) -> tuple[str, str]:
    """OverallResult and ErrorText."""
    if transaction.state is TransactionState.CANCELLED:
        return "Aborted", "Annulé"
    return ("Failure", "Refusé") if transaction.result_code else (SUCCESS, "Accepté")


def with_leak(document: bytes, leak: str) -> bytes:
    """The answer of a terminal that names the full card number, expiry date and track, as `RequestFullPAN` makes it."""
    if not leak:
        return document
    text = document.decode().replace('CardPAN="############4771"', f'CardPAN="{leak}"')
    text = text.replace("<ErrorText>", f"<ErrorText>{leak} ")
    for name in ("CardCircuit", "ActionCode", "ApprovalCode", "AcquirerID", "PaymentType"):
        text = re.sub(rf'\b{name}="[^"]*"', f'{name}="{leak}"', text)
    text = re.sub(r"<Terminal\b", f'<Terminal SerialNumber="{leak}"', text)
    tracks = f"<ExpiryDate>1227</ExpiryDate><Track1>%B{leak}^A/B^2712101?</Track1><Track2>;{leak}=2712101?</Track2>"
    value = f"<CardValue><CardPAN>{leak}</CardPAN>{tracks}</CardValue><Merchant>{leak}</Merchant>"
    return re.sub(r"</((?:Card)?ServiceResponse)>", rf"{value}</\1>", text).encode()
