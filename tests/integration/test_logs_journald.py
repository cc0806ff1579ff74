"""Fields reach a real journald under their own names, whatever their length, and card data does not."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest

from hubd.config_sections import LogLevel
from hubd.logs import REMOVED, VALUE_BYTES_MAX, JournalHandler, log_context, set_up_logging
from tests.rigs.journald import Journald, journald

ARRIVAL_LIMIT_S = 10.0
CARD = "4111111111111111"


@pytest.fixture(scope="module")
def journal() -> Iterator[Journald]:
    with journald() as running:
        yield running


@pytest.fixture
def log(journal: Journald) -> Iterator[logging.Logger]:
    logger = logging.getLogger("hubd.journald_test")
    handler = JournalHandler(journal.socket)
    logger.addHandler(handler)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)
    logger.propagate = True
    handler.close()


def test_fields_arrive_and_a_record_is_found_by_its_payment(journal: Journald, log: logging.Logger) -> None:
    with log_context(till_id="till-7"):
        log.warning("payment.unknown", extra={"payment_id": "01900000-0000-7000-8000-000000000001", "attempt": 2})
    record = journal.wait_for_record(ARRIVAL_LIMIT_S, HUBD_PAYMENT_ID="01900000-0000-7000-8000-000000000001")
    assert record["HUBD_ATTEMPT"] == "2"
    assert record["HUBD_TILL_ID"] == "till-7"
    assert record["HUBD_EVENT"] == "payment.unknown"
    assert record["PRIORITY"] == "4"
    assert record["SYSLOG_IDENTIFIER"] == "hubd"
    assert record["CODE_FUNC"] == "test_fields_arrive_and_a_record_is_found_by_its_payment"
    assert record["MESSAGE"].startswith("payment.unknown attempt=2 payment_id=01900000")


def test_several_lines_and_long_values_arrive_whole_up_to_the_limit(journal: Journald, log: logging.Logger) -> None:
    log.error("device.gone", extra={"device_id": "long", "reason": "é\nsecond line\n" + "x" * VALUE_BYTES_MAX})
    reason = journal.wait_for_record(ARRIVAL_LIMIT_S, HUBD_DEVICE_ID="long")["HUBD_REASON"]
    assert reason.startswith("é\nsecond line\nxxx")
    assert reason.endswith("… (cut)")


def test_a_traceback_is_part_of_what_people_read(journal: Journald, log: logging.Logger) -> None:
    with pytest.raises(ConnectionRefusedError) as caught:
        socket.create_connection(("127.0.0.1", 1), timeout=5)
    log.error("worker.failed", exc_info=caught.value, extra={"worker": "device:t1"})
    message = journal.wait_for_record(ARRIVAL_LIMIT_S, HUBD_WORKER="device:t1")["MESSAGE"]
    assert "ConnectionRefusedError" in message
    assert "Traceback" in message


def test_no_card_number_is_stored(journal: Journald, log: logging.Logger) -> None:
    log.error(
        "card %s",
        CARD,
        exc_info=ValueError(CARD),
        extra={"code": f"a {CARD[:4]} {CARD[4:8]} {CARD[8:12]} {CARD[12:]}", "kind": "pan"},
    )
    record = journal.wait_for_record(ARRIVAL_LIMIT_S, HUBD_KIND="pan")
    assert record["HUBD_CODE"] == REMOVED
    assert CARD not in str(record).replace(" ", "")


def test_the_service_manager_chooses_journald_and_people_get_lines(
    journal: Journald, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        handler = set_up_logging(LogLevel.INFO, {}, journal_socket=journal.socket)
        assert not isinstance(handler, JournalHandler)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        logging.captureWarnings(capture=False)
