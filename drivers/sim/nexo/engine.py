"""The terminal itself: requests in, answers out, books in the ledger. No transport, no thread, no time of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec
from msgspec import Struct

from drivers.nexo_codec import (
    REQUEST,
    RESPONSE,
    Header,
    NexoMessageError,
    decode_message,
    encode_message,
    money_of,
)
from drivers.nexo_crypto import NONCE_BYTES, NexoKey
from drivers.nexo_messages import MessageReference, TransactionId
from drivers.sim.faults import TerminalFaults
from drivers.sim.http_server import BadRequestError, HttpRequest, ServerLine
from drivers.sim.ledger import MONEY_MOVED, Ledger, Transaction, TransactionState
from drivers.sim.nexo.replies import (
    BUSY,
    CANCELLED_CODE,
    DECLINED_CODE,
    IN_PROGRESS,
    LOGGED_OUT,
    NO_CONNECTION_CODE,
    NOT_ALLOWED,
    NOT_FOUND,
    UNREACHABLE_HOST,
    Json,
    diagnosis_response,
    failure,
    is_saf,
    payment_response,
    reconciliation_response,
    refused_event,
    reversal_response,
    status_response,
    success,
    trace_of,
    with_leak,
)
from drivers.sim.terminal import (
    ANSWER_LOST,
    ANSWER_LOST_FOR_GOOD,
    REFUSE_BUSY,
    SLOW,
    SLOW_STEP_S,
    SLOW_STEPS,
    STORED_THEN_APPROVED,
    STORED_THEN_DECLINED,
    Order,
    ResultCodes,
    TerminalOptions,
    TerminalSimulator,
)
from hubd.ports import ByteStream
from hubd.runtime import Runtime

MODEL = "V400m"
PATH = "/nexo"


@dataclass(frozen=True, slots=True)
class SimulatorOptions(TerminalOptions):
    """An Adyen terminal's own settings."""

    key_identifier: str = "CryptoKeyIdentifier12345"
    key_version: int = 1
    passphrase: str = field(default="p@ssw0rd123456", repr=False)
    closes_after_answer: bool = False
    """Whether it ends the connection after each answer, as HTTP allows."""

    @property
    def poiid(self) -> str:
        """Model and serial number."""
        return f"{MODEL}-{self.terminal_id}"

    @property
    def key(self) -> NexoKey:
        """The shared key."""
        return NexoKey(self.key_identifier, self.passphrase, self.key_version)


class _Sale(Struct):
    transaction: TransactionId = msgspec.field(name="SaleTransactionID", default=TransactionId())


class _Amounts(Struct):
    currency: str = msgspec.field(name="Currency", default="")
    amount: Decimal | None = msgspec.field(name="RequestedAmount", default=None)


class _PaymentTransaction(Struct):
    amounts: _Amounts = msgspec.field(name="AmountsReq", default_factory=_Amounts)


class _Original(Struct):
    transaction: TransactionId = msgspec.field(name="POITransactionID", default=TransactionId())


class _Body(Struct):
    """The members of all requests together; each category uses its own."""

    sale: _Sale = msgspec.field(name="SaleData", default_factory=_Sale)
    payment: _PaymentTransaction = msgspec.field(name="PaymentTransaction", default_factory=_PaymentTransaction)
    original: _Original = msgspec.field(name="OriginalPOITransaction", default_factory=_Original)
    reference: MessageReference = msgspec.field(name="MessageReference", default_factory=MessageReference)
    with_host: bool = msgspec.field(name="HostDiagnosisFlag", default=False)


@dataclass(slots=True)
class _Running:
    """A payment that waits for its customer."""

    service_id: str
    news: asyncio.Event = field(default_factory=asyncio.Event)
    aborted: bool = False


class NexoSimulator(TerminalSimulator):
    """One terminal with any number of connections to it, one payment at a time."""

    codes = ResultCodes(CANCELLED_CODE, DECLINED_CODE, NO_CONNECTION_CODE)

    def __init__(self, runtime: Runtime, options: SimulatorOptions | None = None, ledger: Ledger | None = None) -> None:
        super().__init__(runtime, ledger)
        self.options: SimulatorOptions = options or SimulatorOptions()
        self.faults: TerminalFaults = TerminalFaults()
        self._running: _Running | None = None
        self._logged_in = False

    async def talk(self, stream: ByteStream, *, serial: bool) -> None:
        """See `TerminalSimulator`."""
        line = ServerLine(stream)
        async with asyncio.TaskGroup() as group:
            group.create_task(line.pump(), name="nexo-simulator:pump")
            try:
                await self._serve(line)
            except OSError:
                pass  # the line is lost
            finally:
                await line.close()

    def power_cut(self) -> None:
        """The login is forgotten."""
        self._logged_in = False

    async def control(self, request: dict[str, object]) -> dict[str, object]:
        """As for every terminal; with its host in reach again, it sends what it holds by itself."""
        answer = await super().control(request)
        if request.get("cmd") == "host" and self.host_up:
            self.forward_stored()
        return answer

    # -- one connection ------------------------------------------------------------------------------------------------

    async def _serve(self, line: ServerLine) -> None:
        while True:
            try:
                request = await line.request()
            except BadRequestError:
                return
            if request is None:
                return
            status, body = await self._answer(line, request)
            await line.respond(status, body, close=self.options.closes_after_answer)
            if not line.may_go_on:
                return

    async def _answer(self, line: ServerLine, request: HttpRequest) -> tuple[int, bytes]:
        if (request.method, request.path) != ("POST", PATH):
            return 404, b""
        options = self.options
        try:
            header, content = decode_message(REQUEST, request.body, options.key)
            members = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
            body = msgspec.json.decode(members[f"{header.category}Request"], type=_Body)
        except (NexoMessageError, msgspec.DecodeError, KeyError):
            return 200, msgspec.json.encode(refused_event(None, options.poiid))
        if header.poiid != options.poiid or header.message_type != "Request":
            return 200, msgspec.json.encode(refused_event(header, options.poiid))
        said = await self._respond(line, header, body)
        if said is None:
            return 200, b""
        answer = with_leak({f"{header.category}Response": said}, self.faults.leak)
        self.faults.note(msgspec.json.encode(answer))
        back = msgspec.structs.replace(header, message_type="Response")
        nonce = self._runtime.ids.token_bytes(NONCE_BYTES)
        return 200, encode_message(RESPONSE, back, answer, options.key, nonce)

    async def _respond(self, line: ServerLine, header: Header, body: _Body) -> Json | None:
        match header.category:
            case "Payment":
                return await self._pay(line, header, body)
            case "Reversal":
                return self._reverse(header, body)
            case "TransactionStatus":
                return self._status(header, body.reference)
            case "Abort":
                self._abort(body.reference)
                return None
            case "Diagnosis":
                return self._diagnose(with_host=body.with_host)
            case "Login":
                self._logged_in = True
                return {"Response": success()}
            case "Reconciliation":
                return self._reconcile()
        return {"Response": failure("UnavailableService")}

    # -- payments ------------------------------------------------------------------------------------------------------

    async def _pay(self, line: ServerLine, header: Header, body: _Body) -> Json:
        self.authorizations_received += 1
        amount = money_of(body.payment.amounts.amount, body.payment.amounts.currency)
        if amount is None or amount.amount_minor <= 0 or not body.sale.transaction.transaction_id:
            return {"Response": failure("MessageFormat")}
        if self._known(header.service_id) is not None or self._is_running(header.service_id):
            return {"Response": failure(NOT_ALLOWED, "this ServiceID was used before")}
        reference = f"{header.service_id} {body.sale.transaction.transaction_id}"
        order = Order(amount.amount_minor, amount.currency, reference)
        if self._running is not None or order.ending == REFUSE_BUSY:
            return {"Response": failure(BUSY)}
        stopped = await self._present_card(line, header.service_id, order.ending)
        transaction = self.decide(order, stopped=stopped)
        if order.ending in (ANSWER_LOST, ANSWER_LOST_FOR_GOOD) and not stopped:
            raise ConnectionResetError("test amount: the line goes with the answer")
        return self._payment(transaction)

    async def _present_card(self, line: ServerLine, service_id: str, special: int) -> bool:
        """The customer and the host take their time; return whether the payment was stopped."""
        running = self._running = _Running(service_id)
        line.on_lost = running.news.set
        think_s = self.options.think_s
        waits = [*([SLOW_STEP_S] * SLOW_STEPS if special == SLOW else []), *([think_s, think_s] if think_s else [])]
        try:
            for seconds in waits:
                if await self._stopped_within(seconds, line, running):
                    return True
            return running.aborted
        finally:
            self._running = None

    async def _stopped_within(self, seconds: float, line: ServerLine, running: _Running) -> bool:
        try:
            async with self._runtime.clock.timeout(seconds):
                while not (running.aborted or (line.lost and not self.options.keeps_going)):
                    running.news.clear()
                    await running.news.wait()
        except TimeoutError:
            return False
        return True

    def _is_running(self, service_id: str) -> bool:
        return self._running is not None and self._running.service_id == service_id

    def _known(self, service_id: str) -> Transaction | None:
        """The newest booked transaction that was asked for under this ServiceID."""
        found = [one for one in self.ledger.transactions if one.reference.partition(" ")[0] == service_id]
        return found[-1] if found else None

    def _payment(self, transaction: Transaction, *, truthful: bool = False) -> Json:
        """PaymentResponse, with the lies of the fault menu unless `truthful`."""
        wrong_amount = self.faults.wrong_amount and not truthful
        wrong_sale = self.faults.wrong_receipt and not truthful
        return payment_response(
            transaction,
            self.options.poiid,
            self.technology,
            amount_minor=transaction.amount_minor + (1 if wrong_amount else 0),
            sale_id="another-sale" if wrong_sale else transaction.reference.partition(" ")[2],
            saf=is_saf(transaction, (STORED_THEN_APPROVED, STORED_THEN_DECLINED)),
            leak=self.faults.leak,
        )

    def _abort(self, reference: MessageReference) -> None:
        if self._running is not None and self._is_running(reference.service_id):
            self._running.aborted = True
            self._running.news.set()

    def _status(self, header: Header, asked: MessageReference) -> Json:
        if self._is_running(asked.service_id):
            return {"Response": failure(IN_PROGRESS, "Uncompleted transaction")}
        found = self._known(asked.service_id)
        if found is None or asked.sale_id != header.sale_id:
            return {"Response": failure(NOT_FOUND, "Reference Not Found")}
        named: Json = msgspec.to_builtins(asked)
        original = msgspec.structs.replace(header, category=asked.category, service_id=asked.service_id)
        withheld = found.kind == "payment" and found.amount_minor % 100 == ANSWER_LOST_FOR_GOOD
        if withheld or self.faults.no_receipt_content:
            return status_response(named, original, "", None)
        if found.kind == "payment":
            return status_response(named, original, "PaymentResponse", self._payment(found, truthful=True))
        undone = self._by_trace(found.original_trace)
        return status_response(named, original, "ReversalResponse", reversal_response(found, undone))

    def _by_trace(self, trace: int) -> Transaction:
        return next(one for one in self.ledger.transactions if one.trace == trace)

    # -- reversals and the rest ----------------------------------------------------------------------------------------

    def _reverse(self, header: Header, body: _Body) -> Json:
        if self._known(header.service_id) is not None:
            return {"Response": failure(NOT_ALLOWED, "this ServiceID was used before")}
        if self._running is not None:
            return {"Response": failure(BUSY)}
        trace = trace_of(body.original.transaction.transaction_id)
        payments = [one for one in self.ledger.transactions if one.kind == "payment" and one.receipt_number]
        asked = next((one for one in payments if one.trace == trace), None)
        target = self.last_payment() if self.faults.reverse_last else asked
        if asked is None or target is None:
            return {"Response": failure(NOT_FOUND)}
        if target.state not in MONEY_MOVED or target.state is TransactionState.STORED:
            return {"Response": failure(NOT_ALLOWED)}
        if not self.host_up:
            return {"Response": failure(UNREACHABLE_HOST)}
        reversal = self.book_reversal(target, f"{header.service_id} {body.sale.transaction.transaction_id}")
        return reversal_response(reversal, target, wrong_minor=1 if self.faults.wrong_amount else 0)

    def _diagnose(self, *, with_host: bool) -> Json:
        if self.faults.refuse_registration:
            return {"Response": failure(NOT_ALLOWED)}
        if self._running is not None:
            return {"Response": failure(BUSY)}
        if with_host and self.host_up and not self.faults.clearing_fails:
            self.forward_stored()
        held = len(self.ledger.stored())
        return diagnosis_response(host_up=self.host_up, held=held, poiid=self.options.poiid, software=self.software)

    def _reconcile(self) -> Json:
        if not self._logged_in:
            return {"Response": failure(LOGGED_OUT), "ReconciliationType": "SaleReconciliation"}
        if not self.host_up:
            return {"Response": failure(UNREACHABLE_HOST), "ReconciliationType": "SaleReconciliation"}
        period = 1000 + sum(one.kind == "end_of_day" for one in self.ledger.transactions)
        return reconciliation_response(period, self.close_batch(), self.options.currency)
