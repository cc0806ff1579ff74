"""What an answer of an OPI terminal proves, and what it does not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from drivers.opi_messages import (
    CARD_PAYMENT,
    CARD_REPEAT_LAST_MESSAGE,
    PAYMENT_REVERSAL,
    Authorisation,
    CardServiceResponse,
    request_id_of,
)
from drivers.opi_verdict import (
    STAN_MAX,
    evidence_of,
    identity_of,
    judge_enquiry,
    judge_payment,
    judge_reversal,
)
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    AuthorizeRequest,
    Cancelled,
    Declined,
    Enquiry,
    EnquiryRequest,
    Found,
    Inconclusive,
    NotStarted,
    NotTaken,
    Outcome,
    ReverseRequest,
    StillRunning,
    Stored,
    Unknown,
)

EUR = Money(3950, "EUR")
ASKED = AuthorizeRequest("p-1", EUR)
OURS = request_id_of(CARD_PAYMENT, "p-1")
REVERSAL = request_id_of(PAYMENT_REVERSAL, "p-1")
SAID = Authorisation("Online", "girocard", "4771", "8930", "0", "", "2024-02-09T09:36:28-00:00")
GOOD = CardServiceResponse(CARD_PAYMENT, OURS, "Success", "1", "68276185", "021601", "", EUR, SAID, "NFC", "NoCVM")
REFUSED = replace(GOOD, overall_result="Failure", authorisation=replace(SAID, action_code="5"))
BEFORE = "20543:021600"
OWN = "17"


def verdict(response: CardServiceResponse, *, quiet: bool = False, baseline: str = BEFORE) -> Outcome:
    return judge_payment(response, ("line",), ASKED, baseline, quiet=quiet)


def test_an_approval_names_everything() -> None:
    outcome = verdict(GOOD)
    assert isinstance(outcome, Approved)
    evidence = outcome.evidence
    assert (evidence.amount, evidence.receipt_number, evidence.trace_number) == (EUR, "8930", "021601")
    assert (evidence.technology, evidence.verification, evidence.device_at) == ("contactless", "none", "0209 093628")
    assert (evidence.result_code, evidence.pan_last4, evidence.receipt_lines) == ("0", "4771", ("line",))


@pytest.mark.parametrize("word", ["Offline", "offline", "OfflineApproved", "Voice", "StandIn"])
def test_every_other_way_of_authorisation_than_online_is_stored(word: str) -> None:
    outcome = verdict(replace(GOOD, authorisation=replace(SAID, authorisation_type=word)))
    assert isinstance(outcome, Stored)
    assert outcome.evidence.offline


@pytest.mark.parametrize("word", ["Online", "online", "ONLINE", ""])
def test_online_however_it_is_written_is_approved(word: str) -> None:
    assert isinstance(verdict(replace(GOOD, authorisation=replace(SAID, authorisation_type=word))), Approved)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (replace(GOOD, amount=None), "amount_mismatch"),
        (replace(GOOD, amount=Money(3951, "EUR")), "amount_mismatch"),
        (replace(GOOD, amount=Money(3950, "CHF")), "currency_mismatch"),
        (replace(GOOD, stan=""), "receipt_missing"),
        (replace(GOOD, stan="021600"), "receipt_not_new"),
        (replace(GOOD, authorisation=replace(SAID, action_code="5")), "contradiction"),
        (replace(REFUSED, authorisation=replace(SAID, approval_code="123456", action_code="5")), "contradiction"),
        (replace(REFUSED, authorisation=SAID), "contradiction"),
        (replace(REFUSED, amount=Money(1, "EUR")), "amount_mismatch"),
        (replace(GOOD, overall_result="PartialFailure"), "partial_failure"),
        (replace(GOOD, overall_result="TimedOut"), "terminal_timed_out"),
        (replace(GOOD, overall_result="CommunicationError"), "host_no_connection"),
        (replace(GOOD, overall_result="DeviceUnavailable"), "device_unavailable"),
        (replace(GOOD, overall_result="Sucess"), "unknown_result"),
        (replace(GOOD, overall_result=""), "unknown_result"),
        (replace(GOOD, overall_result="Busy"), "contradiction"),
    ],
)
def test_every_doubt_is_unknown(response: CardServiceResponse, reason: str) -> None:
    assert verdict(response) == Unknown(reason)


@pytest.mark.parametrize(
    ("response", "kind", "reason"),
    [
        (REFUSED, Declined, "declined"),
        (replace(REFUSED, amount=Money(0, "EUR")), Declined, "declined"),
        (replace(GOOD, overall_result="Failure", amount=None, authorisation=None), Declined, "declined"),
        (replace(REFUSED, overall_result="UnknownCard"), Declined, "card_unknown"),
        (replace(REFUSED, overall_result="Aborted"), Cancelled, "cancelled"),
    ],
)
def test_the_terminals_own_no(response: CardServiceResponse, kind: type[Declined | Cancelled], reason: str) -> None:
    outcome = verdict(response)
    assert isinstance(outcome, kind)
    assert outcome.reason == reason


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("Busy", "terminal_busy"), ("Loggedout", "not_registered"), ("LoggedOut", "not_registered"),
        ("FormatError", "request_refused"), ("MissingMandatoryData", "request_refused"),
    ],
)  # fmt: skip
def test_a_terminal_that_has_not_begun_has_shown_nothing(word: str, reason: str) -> None:
    refused = replace(GOOD, overall_result=word)
    quiet = verdict(refused, quiet=True)
    assert isinstance(quiet, NotStarted)
    assert quiet.reason == reason
    assert verdict(refused, quiet=False) == Unknown("contradiction")


# -- reversals ---------------------------------------------------------------------------------------------------------

UNDO = ReverseRequest("p-1", EUR, "8930", "021601")
UNDONE = replace(GOOD, request_type=PAYMENT_REVERSAL, request_id=REVERSAL, stan="021602")


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (UNDONE, Approved), (replace(UNDONE, original_stan="21601"), Approved),
        (replace(UNDONE, authorisation=replace(SAID, authorisation_type="Offline")), Approved),
        (replace(UNDONE, original_stan="021599"), Unknown), (replace(UNDONE, amount=Money(222, "EUR")), Unknown),
        (replace(REFUSED, request_type=PAYMENT_REVERSAL), Declined),
    ],
)  # fmt: skip
def test_a_reversal_is_one_of_what_was_asked(response: CardServiceResponse, expected: type[Outcome]) -> None:
    assert isinstance(judge_reversal(response, (), UNDO, quiet=False), expected)


# -- enquiries ---------------------------------------------------------------------------------------------------------


def asked(response: CardServiceResponse, baseline: str = BEFORE) -> Enquiry:
    return judge_enquiry(response, OWN, EnquiryRequest("p-1", EUR, baseline))


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        (GOOD, Approved), (REFUSED, Declined), (replace(REFUSED, overall_result="Aborted"), Cancelled),
        (replace(GOOD, request_type=CARD_REPEAT_LAST_MESSAGE), Approved),
        (replace(GOOD, authorisation=replace(SAID, authorisation_type="Offline")), Stored),
    ],
)  # fmt: skip
@pytest.mark.parametrize("baseline", ["", BEFORE, ":021600"])
def test_a_payment_is_found_by_its_request_id(
    response: CardServiceResponse, outcome: type[Outcome], baseline: str
) -> None:
    found = asked(response, baseline)
    assert isinstance(found, Found)
    assert isinstance(found.outcome, outcome)
    assert found.by_reference


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (replace(GOOD, amount=Money(1, "EUR")), "other_amount"),
        (replace(GOOD, amount=Money(3950, "CHF")), "currency_mismatch"),
        (replace(GOOD, request_type=PAYMENT_REVERSAL), "other_kind"),
        (replace(GOOD, request_type="AbortRequest"), "no_content"),
        (replace(GOOD, overall_result="TimedOut"), "terminal_timed_out"),
        (replace(GOOD, overall_result="Loggedout"), "contradiction"),
        (replace(GOOD, request_id="20550", stan="021603"), "others_since"),
        (replace(GOOD, request_id="20543", stan="021603"), "others_since"),
        (replace(GOOD, request_id=OWN, stan=""), "no_content"),
        (CardServiceResponse(CARD_REPEAT_LAST_MESSAGE, OWN, "Failure"), "no_content"),
        (replace(GOOD, request_id=OWN), "no_baseline"),
    ],
)
def test_what_proves_nothing_is_inconclusive(response: CardServiceResponse, reason: str) -> None:
    answer = asked(response)
    assert isinstance(answer, Inconclusive)
    assert answer.reason == reason
    assert answer.evidence == evidence_of(response)


def test_the_transaction_from_before_proves_that_there_was_none() -> None:
    last = replace(GOOD, request_id="20543", stan="021600")
    assert asked(last) == NotTaken(evidence_of(last))
    assert isinstance(asked(last, ""), Inconclusive)


def test_a_busy_terminal_is_still_running() -> None:
    assert asked(replace(GOOD, overall_result="Busy")) == StillRunning()


@pytest.mark.parametrize(
    ("stan", "baseline", "expected"),
    [
        ("021601", ":021600", Found), ("1", f":{STAN_MAX}", Found), ("021600", ":021600", NotTaken),
        ("021602", ":021600", Inconclusive), ("021601", "", Inconclusive), ("x", ":021600", Inconclusive),
    ],
)  # fmt: skip
def test_a_terminal_that_repeats_under_the_enquirys_own_id_is_believed_by_its_numbers_only(
    stan: str, baseline: str, expected: type[Enquiry]
) -> None:
    answer = asked(replace(GOOD, request_id=OWN, stan=stan), baseline)
    assert isinstance(answer, expected)
    assert not (isinstance(answer, Found) and answer.by_reference)
    other = asked(replace(GOOD, request_id=OWN, stan=stan, amount=Money(1, "EUR")), baseline)
    assert not isinstance(other, Found)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (UNDONE, Found), (replace(UNDONE, original_stan="9"), Inconclusive), (GOOD, NotTaken),
        (replace(GOOD, request_id=OWN), NotTaken), (replace(GOOD, stan="021599"), Inconclusive),
        (replace(GOOD, request_id=OWN, request_type=CARD_REPEAT_LAST_MESSAGE), Inconclusive),
        (replace(GOOD, request_id=OWN, stan="021599"), Inconclusive),
    ],
)  # fmt: skip
def test_enquiries_about_a_reversal(response: CardServiceResponse, expected: type[Enquiry]) -> None:
    request = EnquiryRequest("p-1", EUR, "", "8930", "021601")
    assert isinstance(judge_enquiry(response, OWN, request), expected)


def test_identities() -> None:
    assert identity_of(GOOD, OWN) == f"{OURS}:021601"
    assert identity_of(replace(GOOD, request_id=OWN), OWN) == ":021601"
    assert identity_of(replace(GOOD, request_id=OWN, stan=""), OWN) == ""
