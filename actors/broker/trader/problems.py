"""The Trader API's problem objects, sorted into our errors: what is certainly refused, and what nobody knows.

Used by `trader.client` only; does no I/O. A problem is `{path, status, type, title, detail, additionalInfo}`; only its
`type`, `error://trader-api/{code}`, is a promise.
Source: https://app.theneo.io/match-trade/trader-api; the pages name the codes below and are not complete.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from actors.broker.errors import KeyConflict, Refused, Unauthorised, UnknownOutcome
from actors.broker.raw import UNDECODABLE
from actors.broker.transport import Answer

PREFIX = "error://trader-api/"
# Documented as the request being wrong in itself: nothing was done. What is not listed may have been done.
REFUSALS = {"trading-validation-failed": 400}
KEY_CODES = "idempotency-key-"  # any objection to the key: see KeyConflict


class Problem(Struct, frozen=True):
    """What of a problem object we look at."""

    status: int
    type: str
    title: str = ""
    detail: str = ""

    @property
    def code(self) -> str:
        """The part of `type` that names the kind of error; empty when this is no problem of this API."""
        return self.type.removeprefix(PREFIX) if self.type.startswith(PREFIX) else ""

    def __str__(self) -> str:
        return f"{self.code}: {self.detail or self.title or 'no reason given'}"


def problem_of(answer: Answer) -> Problem | None:
    """Return the problem in an answer; None for anything else, also when its status is not the answer's own."""
    try:
        found = msgspec.json.decode(answer.body, type=Problem)
    except UNDECODABLE:
        return None
    return found if found.code and found.status == answer.status else None


def judge_read(answer: Answer, where: str) -> None:
    """Raise Unauthorised when a token is refused or lacks a right; leave every other answer to the transport."""
    found = problem_of(answer)
    if found is not None and answer.status in (401, 403):
        raise Unauthorised(f"{where}: {answer.status}, {found}")


def judge_write(answer: Answer, where: str, done: int) -> None:
    """Return when the answer says `done`, the documented status of success.

    401, 403 and 429 are no refusals here either: nothing says that the request had not been passed on before.

    Raises:
        Refused: a problem that is documented as a request which was not carried out.
        KeyConflict: the broker objects to the idempotency key.
        UnknownOutcome: everything else.
    """
    if answer.status == done:
        return
    found = problem_of(answer)
    if found is not None and found.code.startswith(KEY_CODES):
        raise KeyConflict(f"{where}: {answer.status}, {answer.masked(str(found))}")
    if found is not None and REFUSALS.get(found.code) == answer.status:
        raise Refused(answer.masked(str(found)))
    said = answer.masked(str(found)) if found is not None else answer.quoted()
    raise UnknownOutcome(f"{where}: {answer.status}, {said}")
