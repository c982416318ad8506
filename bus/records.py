"""The things the pipeline keeps: intents, decisions, orders, account days, halts. Rows of the store as frozen structs.

Column names are the field names. Times are ISO 8601 in UTC with milliseconds; money is integer cents; prices and
volumes are Decimal. Imported by every process; holds no logic.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from bus.vocabulary import DecisionSide, OrderStatus, Side, Source, Status


class Record(Struct, frozen=True, kw_only=True):
    """Base of all records."""


class Signal(Record, frozen=True, kw_only=True):
    """One ranked pair of one scan. Source of the scanner fields: blueprint section 4.1.

    `confidence` says how clear the ranking is; it is not a probability.
    """

    symbol: str
    timeframe: str
    bar_time: str  # close of the newest bar used; for D1 its date, YYYY-MM-DD
    score: float
    confidence: Literal["high", "medium", "low"]
    score_gap: float  # distance to the next rank
    drop_distance: float  # distance to the first pair left out
    topk_spread: float  # first minus last of the top-K
    side_hint: DecisionSide
    close: float  # close of that bar
    volatility_pips: float  # 20-bar close-to-close standard deviation, in pips
    source: str  # the feed the bars came from
    model_id: str
    features: dict[str, float] = {}


class TradeIntent(Record, frozen=True, kw_only=True):
    """A trade opportunity and its whole life. Source: blueprint section 4.1."""

    id: str
    created_at: str
    trade_date: str
    symbol: str
    timeframe: str = "D1"
    scanner_score: float = 0.0
    scanner_confidence: str = "medium"
    scanner_score_gap: float = 0.0
    scanner_drop_distance: float = 0.0
    scanner_topk_spread: float = 0.0
    signal_json: str = ""
    suggested_side: DecisionSide | None = None
    suggested_sl_pips: float | None = None
    suggested_tp_pips: float | None = None
    agent_risk_report: str = ""
    agent_state_json: str = ""
    source: Source = "scanner"
    status: Status = Status.PENDING
    claim_worker_id: str | None = None
    claim_incarnation: str | None = None
    claim_ts: str | None = None
    claim_ttl_minutes: int = 30
    epoch: int = 0
    attempts: int = 0
    not_before: str | None = None
    expires_at: str | None = None
    idempotency_key: str = ""
    position_id: str | None = None
    executed_at: str | None = None
    execution_error: str | None = None
    compliance_snapshot: str = ""


class DecisionRecord(Record, frozen=True, kw_only=True):
    """The audit record of one intent from claim to close. Source: blueprint section 4.2."""

    intent_id: str
    created_at: str
    claimed_at: str | None = None
    decided_at: str | None = None
    executed_at: str | None = None
    closed_at: str | None = None
    status: str = ""
    order_id: str | None = None
    position_id: str | None = None
    failure_reason: str = ""
    compliance_snapshot: str = ""
    execution_meta: str = ""
    net_profit_cents: int | None = None
    close_reason: str = ""


class OrderPlan(Record, frozen=True, kw_only=True):
    """What is sent to the broker, exactly. Symbol, side, volume, SL and TP are the order's fingerprint."""

    symbol: str  # ours, e.g. EURUSD
    broker_symbol: str  # the broker's, e.g. EURUSD.
    side: Side
    volume: Decimal  # lots
    sl_price: Decimal
    tp_price: Decimal  # 0 = none
    entry_price: Decimal  # the quote the plan was made on
    loss_cents: int  # worst loss at the stop, in the account's currency
    profit_cents: int  # gain at the target, in the account's currency


class Order(Record, frozen=True, kw_only=True):
    """The one order of an intent. `baseline` are the position ids that existed before it was reserved.

    `idempotency_key` goes with the order wherever the broker knows such keys; None: it is sent once, whatever happens.
    `figures_mark` says when the figures were read that it was passed with: see `desk.repeating`.
    """

    intent_id: str
    status: OrderStatus
    plan: OrderPlan
    baseline: tuple[str, ...]
    reserved_at: str
    deadline_at: str  # for people: absence may be concluded only from a look that started later
    order_id: str | None = None
    position_id: str | None = None
    resolved_at: str | None = None
    reason: str = ""
    idempotency_key: str | None = None
    figures_mark: str | None = None


class Halt(Record, frozen=True, kw_only=True):
    """A stop of new orders, latched in the database until it is lifted or `until` has passed."""

    id: int
    kind: Literal["soft", "hard"]
    reason: str
    raised_by: str
    raised_at: str
    until: str | None = None
    lifted_at: str | None = None
    lifted_by: str | None = None
    lift_reason: str | None = None
    flatten: bool = False  # the monitor closes every position while this stands


class Closing(Record, frozen=True, kw_only=True):
    """The operator's order to close the position of one intent. Carried out once that intent is closed."""

    intent_id: str
    operator: str
    reason: str
    asked_at: str


class AccountDay(Record, frozen=True, kw_only=True):
    """What a firm's day started with. Floating profit is never part of the start balance.

    A rule set may have two readings of when the day begins; `reset` tells their days apart.
    """

    account_id: str
    day: str  # the firm's date: the local one of its beginning
    reset: str  # local time and zone of the beginning, e.g. "00:00 Europe/Athens"
    starts_at: str
    ends_at: str
    start_balance_cents: int
    reference_cents: int  # what the day's loss is counted from: the start balance, or equity where that was higher
    initial_balance_cents: int
    created_at: str
    note: str = ""  # how it is known: seen, rebuilt from the history, or the operator's word


MarkKind = Literal["day_end_balance", "closed_balance", "equity"]


class AccountMark(Record, frozen=True, kw_only=True):
    """The highest value of the account so far, for maximum floors that trail it. Never falls."""

    account_id: str
    kind: MarkKind
    value_cents: int
    at: str  # when it was reached
    known_until: str  # the account was followed without a gap up to here


class Attestation(Record, frozen=True, kw_only=True):
    """The operator's word that this rule set was compared with the account's dashboard and the firm consents."""

    id: int
    account_id: str
    rules: str
    rules_hash: str
    operator: str
    at: str
    text: str


class LossLine(Record, frozen=True, kw_only=True):
    """One loss limit as the guard saw it: what is measured now, and the worst it can become with this order."""

    name: str  # "daily 00:00 Europe/Athens", "next_day", "maximum"
    reference_cents: int
    amount_cents: Decimal
    stop_cents: int  # the worst case must stay strictly above
    measured_cents: int
    worst_cents: int
    measured_on: Literal["equity", "lower_of_balance_and_equity"]


class Loss(Record, frozen=True, kw_only=True):
    """What one position, pending or unresolved order can still lose; negative when a stop locks a profit in."""

    id: str
    loss_cents: int


class Certificate(Record, frozen=True, kw_only=True):
    """The guard's figures, which travel with the reservation and which the store works out again for itself."""

    rules: str
    rules_hash: str
    account_id: str
    account_version: int  # of the store, read before the broker was
    read_at: str
    balance_cents: int
    equity_cents: int
    positions: tuple[Loss, ...]
    pending: tuple[Loss, ...]
    unresolved: tuple[Loss, ...]  # by intent id: orders that may or may not have become positions
    closed: tuple[str, ...]  # positions of opened intents that the broker's history shows closed
    order_loss_cents: int
    lines: tuple[LossLine, ...]


class EquitySample(Record, frozen=True, kw_only=True):
    """One reading of the account."""

    at: str
    day: str
    balance_cents: int
    equity_cents: int
    margin_cents: int
    positions: int
    daily_loss_cents: int
    max_loss_cents: int
    level: str = "ok"


class LlmDay(Record, frozen=True, kw_only=True):
    """What the analysts' calls of one UTC day cost, and what those that are not settled may cost at most."""

    day: str
    calls: int = 0
    refusals: int = 0  # by a limit of the day
    tokens: int = 0
    cost_micros: int = 0  # millionths of a US dollar
    reserved_tokens: int = 0
    reserved_micros: int = 0


class Transition(Record, frozen=True, kw_only=True):
    """One arrow of an intent's life, hash-chained to the one before it."""

    seq: int
    intent_id: str
    at: str
    event: str
    from_status: str | None
    to_status: str
    actor: str
    incarnation: str
    epoch: int
    reason: str
    payload: str
    prev_hash: str
    hash: str


class Worker(Record, frozen=True, kw_only=True):
    """The newest incarnation of a process that the store has heard of."""

    name: str
    role: str
    incarnation: str
    pid: int
    state: str
    capacity: int
    holding: int
    progress: int
    started_at: str
    last_beat_at: str
