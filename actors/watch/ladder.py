"""How much of each loss limit is used up, and what to say and do when that changes. Pure; library of the monitor.

Levels rise at once and fall with hysteresis, so that a value that swings around a step is told once. What halts and
closes goes by the level without hysteresis.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from actors.broker.wire import Balance, Position
from actors.compliance import budget, drawdown
from actors.compliance.drawdown import Level, Limit
from actors.compliance.money import amount
from actors.compliance.rulebook import RuleSet
from actors.watch.order import Order
from bus.alerting import Data
from bus.clock import parse
from bus.records import AccountDay, AccountMark

if TYPE_CHECKING:
    from actors.watch.tell import Severity  # it comes with sockets, which whoever only reads has no need of

PLAUSIBLE_FACTOR = 2  # a balance further away from the rules' initial one is another account's
TELLING_CENTS = 100  # a floating profit below this says too little of what a point is worth


class Standing(Struct, frozen=True, kw_only=True):
    """One limit at one moment. `level` is without hysteresis. `ends_at` is the day's end, None for the maximum."""

    limit: Limit
    value_cents: int
    level: Level
    ends_at: datetime | None

    @property
    def kind(self) -> Literal["daily", "maximum"]:
        return "maximum" if self.ends_at is None else "daily"

    @property
    def loss_cents(self) -> int:
        return self.limit.loss_cents(self.value_cents)

    @property
    def text(self) -> str:
        """Return the standing as a sentence for people."""
        limit_cents = int(self.limit.amount_cents)
        return (
            f"{self.limit.name} loss {amount(self.loss_cents)} of {amount(limit_cents)} "
            f"({100 * self.loss_cents // max(1, limit_cents)}%), floor {amount(self.limit.floor_cents)}"
        )

    @property
    def data(self) -> Data:
        """Return the figures of the sentence."""
        return {
            "limit": self.limit.name, "loss_cents": self.loss_cents, "limit_cents": int(self.limit.amount_cents),
            "floor_cents": self.limit.floor_cents, "value_cents": self.value_cents,
        }  # fmt: skip


class Change(Struct, frozen=True, kw_only=True):
    """A level was reached or left."""

    event: str
    severity: Severity
    text: str
    data: Data


class Ladder:
    """Remembers the level last told, for the day and for the maximum. A new day starts the daily one anew."""

    def __init__(self) -> None:
        self._told: dict[str, Level] = {}
        self._days: frozenset[str] = frozenset()

    def step(self, standings: Iterable[Standing], days: Iterable[AccountDay]) -> list[Change]:
        """Return what has to be told, and remember it. Of the readings of a day the worst one is told."""
        if (now := frozenset(f"{day.day} {day.reset}" for day in days)) != self._days:
            self._days = now
            self._told.pop("daily", None)
        worst: dict[str, Standing] = {}
        for standing in standings:
            if standing.kind not in worst or _used(standing) > _used(worst[standing.kind]):
                worst[standing.kind] = standing
        return [change for standing in worst.values() if (change := self._step(standing)) is not None]

    def _step(self, standing: Standing) -> Change | None:
        name = standing.kind
        before = self._told.get(name, Level.OK)
        now = standing.limit.next_level(standing.value_cents, before)
        self._told[name] = now
        if now == before:
            return None
        if now < before:
            severity: Severity = "info"
            text = f"back to {now.label}: {standing.text}"
        else:
            severity = "error" if now >= Level.STOP else "warning"
            text = f"reached {now.label}: {standing.text}"
        data: Data = {"level": now.label, "is_back": now < before, **standing.data}
        return Change(event=f"{name}_{now.label}", severity=severity, text=text, data=data)


def standings(
    rules: RuleSet,
    *,
    days: tuple[AccountDay, ...],
    marks: tuple[AccountMark, ...],
    balance_cents: int,
    equity_cents: int,
) -> tuple[Standing, ...]:
    """Return the standing of each limit that counts now.

    A day that is neither known nor watched by a provisional start is left out. A maximum whose mark is not known is
    counted from the initial balance: its floor is at least as high, so what is reached there is certainly reached.
    """
    ends = {f"daily {day.reset}": parse(day.ends_at) for day in days}
    found = drawdown.lines(rules, days=days, marks=marks, balance_cents=balance_cents, equity_cents=equity_cents)
    if isinstance(found, str):
        found = _known_lines(rules, days, marks, balance_cents, equity_cents)
    return tuple(
        Standing(limit=limit, value_cents=value, level=limit.level(value), ends_at=ends.get(limit.name))
        for limit in found
        if limit.name == "maximum" or limit.name in ends
        for value in (drawdown.measured_cents(balance_cents, equity_cents, limit.measured_on),)
    )


def orders_of(rules: RuleSet, found: Iterable[Standing]) -> list[Order]:
    """Return the halts that the levels call for, at most one for the day and one for the maximum.

    From the stop level on: no new orders, for the day until its reset, for the maximum until the operator lifts it.
    From the flatten level on everything is closed as well, and a day whose breach ends the account halts for good.
    """
    orders = []
    at_stop = [standing for standing in found if standing.level >= Level.STOP]
    for key, kind in (("daily_drawdown", "daily"), ("max_drawdown", "maximum")):
        reached = sorted((one for one in at_stop if one.kind == kind), key=_used, reverse=True)
        if not reached:
            continue
        is_flatten = any(one.level >= Level.FLATTEN for one in reached)
        is_hard = kind == "maximum" or (is_flatten and rules.daily.kind == "hard")
        until = None if is_hard else max(one.ends_at for one in reached if one.ends_at is not None)
        orders.append(Order(key=key, text=reached[0].text, until=until, flatten=is_flatten))
    return orders


def urgency(found: Iterable[Standing], positions: tuple[Position, ...]) -> float:
    """Return how much faster than usual to look, 0 to 1, by the limit that asks for most. Source: `budget.urgency`."""
    stake_cents = stake(positions)
    flats = [(standing, standing.limit.at_ratio_cents(standing.limit.flatten_ratio)) for standing in found]
    return max(
        (
            budget.urgency(
                room_cents=standing.value_cents - flat_cents,
                path_cents=standing.limit.reference_cents - flat_cents,
                stake_cents=stake_cents,
            )
            for standing, flat_cents in flats
        ),
        default=1.0,
    )


def stake(positions: Iterable[Position]) -> int | None:
    """Return what the positions lose from now until all their stops are hit, in cents; None: no bound is known.

    What a point is worth is read from the floating profit: good enough to decide how soon to look again, and for
    nothing else. The gate values stops by contract and quotes.
    """
    stake_cents = 0
    for position in positions:
        move = position.current_price - position.open_price
        if position.sl_price is None or not move or abs(position.profit_cents) < TELLING_CENTS:
            return None
        to_stop_cents = position.profit_cents * (position.current_price - position.sl_price) / move
        stake_cents += max(0, int(to_stop_cents))
    return stake_cents


def doubt_of(rules: RuleSet, balance: Balance) -> str:
    """Return why these figures cannot be the account's that the rules are for; empty when they can."""
    found = f"balance {amount(balance.balance_cents)}, equity {amount(balance.equity_cents)} {balance.currency}"
    initial_cents = rules.account.initial_balance_cents
    if balance.currency != rules.account.currency:
        return f"{found}; the rules {rules.name} are for an account in {rules.account.currency}"
    if balance.balance_cents <= 0 or balance.equity_cents <= 0:
        return f"{found}; allowed: above 0. Look at the account"
    low_cents, high_cents = initial_cents // PLAUSIBLE_FACTOR, initial_cents * PLAUSIBLE_FACTOR
    if not low_cents <= balance.balance_cents <= high_cents:
        between = f"{amount(low_cents)} and {amount(high_cents)}"
        return f"{found}; the rules {rules.name} are for another account: allowed between {between}"
    return ""


def _known_lines(
    rules: RuleSet, days: tuple[AccountDay, ...], marks: tuple[AccountMark, ...], balance_cents: int, equity_cents: int
) -> tuple[Limit, ...]:
    """Return the limits that can be said although one of them cannot."""
    no_daily = msgspec.structs.replace(rules, daily=msgspec.structs.replace(rules.daily, kind="none"))
    found = drawdown.lines(no_daily, days=(), marks=marks, balance_cents=balance_cents, equity_cents=equity_cents)
    known = (drawdown.maximum(rules),) if isinstance(found, str) else found
    if rules.daily.kind == "none":
        return known
    daily = (drawdown.daily(rules, day.reference_cents, name=f"daily {day.reset}") for day in days)
    return (*daily, *known)


def _used(standing: Standing) -> tuple[int, float]:
    """Return what makes one standing worse than another: its level, then how much of the limit is gone."""
    return standing.level, standing.loss_cents / max(1, int(standing.limit.amount_cents))
