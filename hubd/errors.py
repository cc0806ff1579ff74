"""Errors with a stable code for programs, a sentence for people and a hint what a caller may do next.

The class says which part refused, `code` is what logs, API, command line and documentation name, `retry` is what a
program does next. A lost answer of a terminal is not an error: it is the value `Unknown` (hubd.ports).
"""

from __future__ import annotations

from enum import StrEnum


class Retry(StrEnum):
    """What a program may do after a refusal."""

    NEVER = "never"
    SAME_REQUEST = "same_request"
    AFTER_ENQUIRY = "after_enquiry"
    NEW_ID = "new_id"


class HubError(Exception):
    """A refusal with a stable code. `detail` says what happened to what, `remedy` what a person does next."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        remedy: str = "",
        retry: Retry = Retry.NEVER,
        retry_after_s: int | None = None,
        params: dict[str, str | int] | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}" + (f" {remedy}" if remedy else ""))
        self.code = code
        self.detail = detail
        self.remedy = remedy
        self.retry = retry
        self.retry_after_s = retry_after_s
        self.params = params or {}


class ConfigError(HubError):
    """The configuration cannot be used; nothing was started."""


class StoreError(HubError):
    """The durable store refused or failed. `store.failed` means that the outcome is unknown to the caller."""


class DeviceError(HubError):
    """A device cannot do what was asked, and nothing was charged by asking."""


class PaymentError(HubError):
    """A payment request is wrong or not allowed now."""


class OrderError(HubError):
    """An order request is wrong or not allowed now."""


class PrintError(HubError):
    """A print request is wrong or not possible now."""


class AccessError(HubError):
    """The caller is not known, or may not do this."""


class SyncError(HubError):
    """The conversation with the cloud cannot go on as it stands."""


class InvalidValueError(HubError):
    """A value given from outside does not fit its grammar."""


class InvalidTransitionError(HubError):
    """A state machine was asked for a step that it does not have."""

    def __init__(self, machine: str, state: str, event: str) -> None:
        super().__init__(
            f"{machine}.invalid_transition",
            f"A {machine} that is {state} cannot become {event}.",
            remedy="Read it again; somebody or something else has changed it.",
            params={"state": state, "event": event},
        )


class NotFoundError(HubError):
    """What was asked for is not known to this hub."""
