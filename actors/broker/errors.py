"""What can go wrong between us and the broker, sorted by what we then know.

    BrokerError
    ├── Transient         a read brought nothing; it may be repeated later
    │   ├── Unreadable    a read was answered, but not with the JSON we know
    │   └── BudgetSpent   nothing was asked: no request is left to us now
    ├── Blocked           a read was stopped by the content network (403 with HTML)
    ├── Unauthorised      login refused, account not ours, or 401 even after a new login
    ├── Refused           the broker said no: certainly nothing was done
    ├── NotSent           the request certainly never left: no login, no connection, or no request left to us
    └── UnknownOutcome    a write may have been done: never send it again without its key, look instead
        └── KeyConflict   the broker knows the key of this order otherwise than we do, or not as a key

Used by executor and monitor through `broker.client`. A write ends in a result, `Refused`, `NotSent` or
`UnknownOutcome` and in nothing else, so that no handler can mistake "may exist" for "does not exist".
"""

from __future__ import annotations


class BrokerError(Exception):
    """Base of all errors of the broker client."""


class Transient(BrokerError):
    """A read failed in a way that may pass. `retry_after_s` is what the broker asked for; None = it did not say."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unreadable(Transient):
    """A read was answered with something else than the expected JSON; the message names it."""


class BudgetSpent(Transient):
    """No request left us: none is granted. `is_refused`: the store said no; otherwise it did not answer."""

    def __init__(self, message: str, retry_after_s: float | None = None, *, is_refused: bool = False) -> None:
        super().__init__(message, retry_after_s)
        self.is_refused = is_refused


class Blocked(BrokerError):
    """The content network in front of the broker answered a read with 403 and a page."""


class Unauthorised(BrokerError):
    """The broker does not know us: wrong password, wrong account, or a token it refuses twice."""


class Refused(BrokerError):
    """The broker said no and did nothing. `reason` is in its words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotSent(BrokerError):
    """Nothing reached the broker: the login failed, no connection was made, or no request is left to us."""


class UnknownOutcome(BrokerError):
    """The request may have been carried out. Only looking at the account can tell."""


class KeyConflict(UnknownOutcome):
    """The broker objects to the order's idempotency key: it may have been used for something else."""
