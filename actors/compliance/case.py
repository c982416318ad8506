"""What one order's checks look at, and what they say. Pure; used by the guard and its checks."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec
from msgspec import Struct

from actors.compliance.account import AccountView
from actors.compliance.conversion import NoRate
from actors.compliance.news import Calendar
from actors.compliance.rulebook import RuleSet
from bus.records import OrderPlan


class TradeFacts(Struct, frozen=True, kw_only=True):
    """What the guard needs beside plan and account. None: not known, unless it says otherwise."""

    now: datetime
    monotonic_s: float  # the same moment on the clock that `figures_at_s` was read from
    figures_age_s_max: float
    quote_age_s: float | None  # age of the oldest quote the plan or the account was valued with
    quote_age_s_max: float
    bar_age_days: int | None  # of the newest bar that the intent rests on
    bar_age_days_max: int | None  # None: the intent rests on no bars
    session_open: bool
    expires_at: datetime | None
    volume_min: Decimal
    volume_max: Decimal
    volume_step: Decimal
    margin_cents: int | NoRate | None  # None: the leverage is not known, margin is left to the broker
    rules_hash: str | None  # of the rule set's file as it is now
    needs_attestation: bool
    attested: str | None  # who compared exactly these rules with the account's dashboard, and when; None: nobody
    calendar: Calendar | str  # the news, or why they are not known
    holiday: str = ""  # the date of today that the settings name as one on which nothing is traded
    flat_lead_s: float  # no order so long before no position may be open


class Case(Struct, frozen=True, kw_only=True):
    """One order, the account it would meet, and the rules."""

    plan: OrderPlan
    account: AccountView
    rules: RuleSet
    facts: TradeFacts


class Check(Struct, frozen=True, kw_only=True):
    """One rule's result: what was found, what is allowed, and a sentence for people."""

    name: str
    passed: bool
    limit: str
    found: str
    text: str


class GuardResult(Struct, frozen=True, kw_only=True):
    """The verdict. `rule` is the first check that failed, None when all passed."""

    passed: bool
    rule: str | None
    reason: str
    checks: tuple[Check, ...]

    def snapshot(self) -> str:
        """Return all checks as JSON, for `compliance_snapshot`."""
        return msgspec.json.encode(self).decode()


def said(name: str, passed: bool, *, limit: object, found: object, text: str) -> Check:
    """Return a check's result."""
    return Check(name=name, passed=passed, limit=str(limit), found=str(found), text=text)
