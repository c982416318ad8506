"""The messages of the operator, each with a name and a reason. Parts of `bus.messages`, which every process imports."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from bus.frame import Id, Message, Text
from bus.records import AccountDay, AccountMark
from bus.vocabulary import Side

Pips = Annotated[float, Meta(gt=0, le=10_000)]


class Submit(Message, frozen=True, kw_only=True, tag=True):
    """The operator proposes a trade and decides it. It passes the same gate as every other, or is not made.

    `key` is the sender's own, one for each trade that is meant: the same key again changes nothing.
    """

    key: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{8,64}\Z")]
    operator: Id
    reason: Text
    symbol: Annotated[str, Meta(pattern=r"^[A-Z]{6}\Z")]
    side: Side
    sl_pips: Pips
    tp_pips: Pips
    ttl_minutes: Annotated[int, Meta(ge=1, le=1_440)] = 60


class Close(Message, frozen=True, kw_only=True, tag=True):
    """The operator has the open position of one intent closed. The monitor does it."""

    intent_id: Id
    operator: Id
    reason: Text


class Cancel(Message, frozen=True, kw_only=True, tag=True):
    """The operator takes back an intent that no order was reserved for."""

    intent_id: Id
    operator: Id
    reason: Text


class Resolve(Message, frozen=True, kw_only=True, tag=True):
    """The operator says what became of an order that nobody else can tell: that position, or (None) no position.

    No default for `position_id`: a field that got lost must not mean "absent".
    """

    intent_id: Id
    operator: Id
    position_id: Id | None
    reason: Text


class Pause(Message, frozen=True, kw_only=True, tag=True):
    """The operator stops new orders: until a time, or until `Resume`."""

    operator: Id
    reason: Text
    until: str | None = None


class Resume(Message, frozen=True, kw_only=True, tag=True):
    """The operator lifts one halt, or (None) all that he may lift."""

    operator: Id
    reason: Text
    halt_id: int | None = None


class Flatten(Message, frozen=True, kw_only=True, tag=True):
    """The operator has every position closed, and new orders stopped until `Resume`."""

    operator: Id
    reason: Text


class DeclareDay(Message, frozen=True, kw_only=True, tag=True):
    """The operator says what a day started with that cannot be rebuilt, and what the account reached at most."""

    operator: Id
    reason: Text
    day: AccountDay
    marks: tuple[AccountMark, ...] = ()


class Attest(Message, frozen=True, kw_only=True, tag=True):
    """The operator has compared the rule set with the account's dashboard, and the firm consents to trading by EA."""

    operator: Id
    account_id: Id
    rules: Id
    rules_hash: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    text: Text
