"""For which intent and in which role a language model is being asked, without an argument on every way to it.

Used by the llm process. Each analysis is a task of its own, so what is set here is seen by its calls alone. Holds
nothing longer than one analysis; decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from msgspec import Struct

from bus.records import TradeIntent

ANALYST = "analyst"  # the role of an analyst that has only one


class Analysis(Struct, kw_only=True):
    """One analysis of one intent: one claim, one epoch. `subject` names what is judged in every run: its key."""

    intent_id: str = ""
    subject: str = ""
    epoch: int = 0
    attempt: int = 0
    asked: dict[tuple[str, str], int] = {}  # calls so far, by role and prompt


_analysis: ContextVar[Analysis | None] = ContextVar("analysis", default=None)
_role: ContextVar[str] = ContextVar("role", default=ANALYST)


@contextmanager
def about(intent: TradeIntent) -> Iterator[None]:
    """Let every call inside belong to one analysis of `intent`."""
    found = Analysis(
        intent_id=intent.id, subject=intent.idempotency_key, epoch=intent.epoch, attempt=intent.attempts
    )  # fmt: skip
    token = _analysis.set(found)
    try:
        yield
    finally:
        _analysis.reset(token)


@contextmanager
def as_role(role: str) -> Iterator[None]:
    """Let every call inside be made in this role."""
    token = _role.set(role)
    try:
        yield
    finally:
        _role.reset(token)


def analysis() -> Analysis:
    """Return the analysis that is under way; an unnamed one outside of any."""
    return _analysis.get() or Analysis()


def role() -> str:
    """Return the role that is asked."""
    return _role.get()


def count(found: Analysis, asked_role: str, prompt_sha256: str) -> int:
    """Return the number of this call among those of its role and prompt in this analysis, from 1, and remember it."""
    number = found.asked.get((asked_role, prompt_sha256), 0) + 1
    found.asked[asked_role, prompt_sha256] = number
    return number
