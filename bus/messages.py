"""Every message on the bus. One union per direction; each role may send only its own.

Actor -> store: an `Envelope` with a `Beat` (never acked) or a command (resent with the same id until its `Ack`).
Store -> actor: `Ack`, `Welcome`, `Analyse`, `Execute`, `Withdraw`. New fields have defaults; tests hold golden bytes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from bus.alerting import AlertsDelivered as AlertsDelivered
from bus.alerting import Report as Report
from bus.frame import Day, Id, LongText, Moment, Text
from bus.frame import Message as Message
from bus.records import AccountDay, AccountMark, Certificate, EquitySample, Order, OrderPlan, Signal, TradeIntent
from bus.steering import Attest as Attest
from bus.steering import Cancel as Cancel
from bus.steering import Close as Close
from bus.steering import DeclareDay as DeclareDay
from bus.steering import Flatten as Flatten
from bus.steering import Pause as Pause
from bus.steering import Resolve as Resolve
from bus.steering import Resume as Resume
from bus.steering import Submit as Submit
from bus.tallies import TALLIES_MAX, Tally
from bus.tokens import ReserveTokens as ReserveTokens
from bus.tokens import SettleTokens as SettleTokens
from bus.vocabulary import DecisionSide, Outcome, Role, Source, State

Host = Annotated[str, Meta(pattern=r"^(|[A-Za-z0-9][A-Za-z0-9_.-]{0,62}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,62})?)\Z")]


class Peer(Struct, frozen=True, omit_defaults=True):
    """Who speaks: role, slot number and incarnation. `name` is `llm.2`; a new process is a new incarnation.

    `host` is empty on the store's host. Elsewhere a process says what its machine is called, and the store puts the
    name of the key before it: `llm.2@gpu1/node7`.
    """

    role: Role
    slot: Annotated[int, Meta(ge=1, le=99)]
    incarnation: Annotated[str, Meta(pattern=r"^[0-9a-f]{12}\Z")]
    host: Host = ""

    @property
    def name(self) -> str:
        return f"{self.role}.{self.slot}@{self.host}" if self.host else f"{self.role}.{self.slot}"


class Held(Struct, frozen=True):
    """One lease that an actor holds."""

    intent_id: Id
    epoch: int


# ── actor -> store ──────────────────────────────────────────────────────────


class Beat(Message, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Heartbeat, credit, lease renewal and resync in one. Sent every `bus.beat_s`."""

    pid: int
    state: State
    capacity: Annotated[int, Meta(ge=0, le=1_000)]
    holding: tuple[Held, ...] = ()
    progress: int = 0
    seen_store_epoch: int = 0
    tallies: Annotated[tuple[Tally, ...], Meta(max_length=TALLIES_MAX)] = ()


class Propose(Message, frozen=True, kw_only=True, tag=True):
    """A new intent. The idempotency key is `symbol:timeframe:bar_time:source`."""

    signal: Signal
    trade_date: Day
    source: Source = "scanner"
    ttl_minutes: Annotated[int, Meta(ge=1, le=1_440)] = 240
    expires_at: Moment | None = None  # at the latest, however late this arrives


class Invalidate(Message, frozen=True, kw_only=True, tag=True):
    """The scanner takes back an intent that no order was reserved for."""

    intent_id: Id
    reason: Text


class Decide(Message, frozen=True, kw_only=True, tag=True):
    """An analyst's verdict. HOLD cancels the intent; SL and TP are needed otherwise. `reason` is a line for people."""

    intent_id: Id
    epoch: int
    side: DecisionSide
    sl_pips: float | None = None
    tp_pips: float | None = None
    risk_report: LongText = ""
    state_json: LongText = ""
    reason: Text = ""


class AnalysisFailed(Message, frozen=True, kw_only=True, tag=True):
    """No verdict. The intent is tried again with a delay while attempts are left."""

    intent_id: Id
    epoch: int
    error: Text


class Release(Message, frozen=True, kw_only=True, tag=True):
    """Give a lease back unused: an orderly stop. The attempt does not count. From an executor: nothing was reserved."""

    intent_id: Id
    epoch: int
    reason: Text = "stopping"
    retry_after_s: Annotated[float, Meta(ge=0, le=93_600)] = 0.0  # at most until the next reset


class Reject(Message, frozen=True, kw_only=True, tag=True):
    """The guard refused the trade."""

    intent_id: Id
    epoch: int
    reason: Text
    compliance_snapshot: LongText


class ReserveOrder(Message, frozen=True, kw_only=True, tag=True):
    """Ask for the licence to send one order, once; with a key, to repeat that order while its figures are young."""

    intent_id: Id
    epoch: int
    plan: OrderPlan
    baseline: tuple[str, ...]
    deadline_at: str
    compliance_snapshot: LongText
    certificate: Certificate | None = None  # None is refused
    idempotency_key: Annotated[str, Meta(max_length=64)] = ""  # empty: the broker knows no keys
    figures_mark: Annotated[str, Meta(max_length=128)] = ""


class OrderOpened(Message, frozen=True, kw_only=True, tag=True):
    """The position was seen at the broker. With `closed` set it was found in history: both arrows in one commit."""

    intent_id: Id
    epoch: int
    order_id: str
    position_id: Id
    execution_meta: LongText
    closed: PositionResult | None = None


class PositionResult(Struct, frozen=True, kw_only=True):
    """How a position ended. `net_profit_cents` holds swap and commission."""

    closed_at: str
    net_profit_cents: int
    close_price: str
    reason: str


class OrderFailed(Message, frozen=True, kw_only=True, tag=True):
    """The order does certainly not exist at the broker: refused, never sent, or absent after the quiet period."""

    intent_id: Id
    epoch: int
    reason: Text


class OrderUnknown(Message, frozen=True, kw_only=True, tag=True):
    """The answer was lost; the order may exist. Ambiguous ones halt the account until the operator decides."""

    intent_id: Id
    epoch: int
    reason: Text
    ambiguous: bool = False


class PositionClosed(Message, frozen=True, kw_only=True, tag=True):
    """The monitor found an opened intent's position in the broker's history."""

    intent_id: Id
    position_id: Id
    result: PositionResult


class Adopt(Message, frozen=True, kw_only=True, tag=True):
    """A position that nobody owns becomes an intent's: all of it in one commit. `plan` is the position as it is."""

    position_id: Id
    plan: OrderPlan
    opened_at: str
    reason: Text


class StartDay(Message, frozen=True, kw_only=True, tag=True):
    """What the firm's day started with. The first one of a day stands.

    `earlier` are days that were slept through, `marks` what the account reached meanwhile: one commit with the day.
    """

    day: AccountDay
    earlier: tuple[AccountDay, ...] = ()
    marks: tuple[AccountMark, ...] = ()


class RaiseMarks(Message, frozen=True, kw_only=True, tag=True):
    """The account was followed up to now. A mark rises or stays; a lower value changes only `known_until`."""

    marks: tuple[AccountMark, ...]


class SampleEquity(Message, frozen=True, kw_only=True, tag=True):
    """One reading of the account."""

    sample: EquitySample


class CountRequests(Message, frozen=True, kw_only=True, tag=True):
    """Requests that were made without a grant: while the store was away, to close positions."""

    day: Day
    reads: Annotated[int, Meta(ge=0)]
    writes: Annotated[int, Meta(ge=0)]


class RaiseHalt(Message, frozen=True, kw_only=True, tag=True):
    """Stop new orders. `soft` ends at `until`; `hard` only by the operator. `flatten`: close everything, too."""

    level: Literal["soft", "hard"]
    reason: Text
    until: str | None = None
    flatten: bool = False


class GrantRequests(Message, frozen=True, kw_only=True, tag=True):
    """Ask for a block of the day's requests before making them: granted counts as used, whatever happens.

    `flatten` may use the reserve. Refused as a whole when it does not fit, or leaves fewer than `kept` for others.
    """

    day: Day
    reads: Annotated[int, Meta(ge=0, le=10_000)]
    writes: Annotated[int, Meta(ge=0, le=10_000)]
    purpose: Literal["work", "flatten"] = "work"
    kept: Annotated[int, Meta(ge=0, le=100_000)] = 0


class ReturnRequests(Message, frozen=True, kw_only=True, tag=True):
    """Give back what was granted and not used: an orderly stop."""

    day: Day
    reads: Annotated[int, Meta(ge=0, le=10_000)]
    writes: Annotated[int, Meta(ge=0, le=10_000)]


class Sweep(Message, frozen=True, kw_only=True, tag=True):
    """The janitor's round: expire, recycle, clean up."""


class ChildExited(Message, frozen=True, kw_only=True, tag=True):
    """The supervisor waited for this process: it is certainly dead."""

    peer: Peer
    status: str


Command = (
    Propose | Invalidate | Decide | AnalysisFailed | Release | Reject | ReserveOrder | OrderOpened | OrderFailed
    | OrderUnknown | PositionClosed | Adopt | StartDay | RaiseMarks | SampleEquity | CountRequests | GrantRequests
    | ReturnRequests | RaiseHalt | Report | Sweep | ChildExited | Cancel | Resolve | Pause | Resume | Flatten
    | DeclareDay | Attest | ReserveTokens | SettleTokens | AlertsDelivered | Close | Submit
)  # fmt: skip


class Envelope(Struct, frozen=True, kw_only=True):
    """One frame from an actor to the store. `id` is empty for beats, a UUIDv7 for commands."""

    sender: Peer
    body: Beat | Command
    id: Annotated[str, Meta(max_length=36)] = ""


# What an operator may ask through a page or a chat: nothing that speaks for the broker's records or the rules.
OPERATORS: tuple[type[Message], ...] = (Cancel, Close, Pause, Resume, Flatten)

MAY_SEND: dict[Role, tuple[type[Message], ...]] = {
    Role.SCANNER: (Beat, Propose, Invalidate, GrantRequests, ReturnRequests, Report),
    Role.LLM: (Beat, Decide, AnalysisFailed, Release, ReserveTokens, SettleTokens, Report),
    Role.EXECUTOR: (
        Beat, Release, Reject, ReserveOrder, OrderOpened, OrderFailed, OrderUnknown, StartDay, RaiseMarks,
        CountRequests, GrantRequests, ReturnRequests, RaiseHalt, Report,
    ),
    Role.MONITOR: (
        Beat, PositionClosed, Adopt, StartDay, RaiseMarks, SampleEquity, CountRequests, GrantRequests, ReturnRequests,
        RaiseHalt, Report, Sweep,
    ),
    Role.DASHBOARD: (Beat, *OPERATORS, Report),
    Role.ALERTS: (Beat, AlertsDelivered, Pause, Resume, Flatten, Report),
    Role.PAPER: (Beat, Report),
    Role.PILOT: (*OPERATORS, Submit, Resolve, DeclareDay, Attest),
    Role.SUPERVISOR: (ChildExited, Report),
    Role.STORE: (),
}  # fmt: skip

REMOTE: tuple[Role, ...] = (Role.LLM,)
"""Who may speak from another host. All others hold a lock, the account or the database of the store's host."""


# ── store -> actor ──────────────────────────────────────────────────────────


class Ack(Message, frozen=True, kw_only=True, tag=True):
    """The recorded answer to the command with this id. Applied means durable."""

    id: str
    outcome: Outcome
    reason: str = ""
    allowed: tuple[str, ...] = ()
    intent_id: str | None = None


class Welcome(Message, frozen=True, kw_only=True, tag=True):
    """The store's answer to a beat that has not seen this life of the store yet."""

    store_epoch: int


class Analyse(Message, frozen=True, kw_only=True, tag=True):
    """A claimed intent for an analyst. The claim is committed already."""

    intent: TradeIntent
    epoch: int
    lease_s: float


class Execute(Message, frozen=True, kw_only=True, tag=True):
    """An executing intent for the executor. With `order` set it was reserved before: reconcile it, never send."""

    intent: TradeIntent
    epoch: int
    order: Order | None = None


class Withdraw(Message, frozen=True, kw_only=True, tag=True):
    """This lease is gone (cancelled, expired, or held by another): drop the work."""

    intent_id: str
    epoch: int
    reason: str


FromStore = Ack | Welcome | Analyse | Execute | Withdraw
