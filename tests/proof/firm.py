"""The firm as an independent judge: floors, days and marks by whole cents. Imports nothing of `actors.compliance`.

Reads the numbers of a rule set and works everything out for itself; every reading of the reset is judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo


@dataclass
class Day:
    """One reading of the firm's day."""

    label: str
    at: time
    zone: ZoneInfo
    today: date
    start_cents: int
    reference_cents: int
    realised_cents: int = 0

    def date_of(self, now: datetime) -> date:
        """Return the firm's date: the local one, until the reset still yesterday's."""
        local = now.astimezone(self.zone)
        return local.date() if local.time() >= self.at else local.date() - timedelta(days=1)


SCALE = 10**9  # parts of a cent, so that every floor is a whole number


@dataclass
class Line:
    """One limit until its reference moves. Levels are in parts of a cent."""

    name: str
    floor: int
    stop: int
    amount: int
    on_equity: bool


@dataclass
class Firm:
    """What the firm knows of the account, and what it forbids. `rules` are the numbers of a rule set.

    Margins are parts of their limit's amount: 0 is the floor (or the stop level) itself, below it is a breach.
    """

    rules: Any
    days: list[Day]
    mark_cents: int
    passed: bool = False  # nothing is judged before the gate has passed an order
    smallest: dict[str, float] = field(default_factory=dict)  # line -> smallest (value - floor) / amount
    stop_smallest: dict[str, float] = field(default_factory=dict)  # line -> smallest (value - stop) / amount
    broken: list[str] = field(default_factory=list)  # rules other than floors that were broken
    trades: int = 0  # closed, as far back as the firm counts how long they were held
    short: int = 0  # of these, held too short
    news: tuple[tuple[datetime, str], ...] = ()  # when, and of which currency
    _lines: list[Line] | None = None

    def lines(self) -> list[Line]:
        """Return every loss limit that counts now."""
        if self._lines is None:
            self._lines = list(self._found())
        return self._lines

    def _found(self) -> Iterator[Line]:
        rules, initial = self.rules, self.rules.account.initial_balance_cents
        if rules.daily.kind != "none":
            for day in self.days:
                base = day.reference_cents if rules.daily.base == "reference" else initial
                yield self._line(
                    f"daily {day.label}", Fraction(day.reference_cents), Fraction(rules.daily.ratio) * base,
                    rules.daily.measured_on,
                )  # fmt: skip
        amount = Fraction(rules.maximum.ratio) * initial
        top = Fraction(initial) if rules.maximum.mode == "static" else Fraction(self.mark_cents)
        if rules.maximum.lock_at == "initial":
            top = min(top, initial + amount)
        yield self._line("maximum", top, amount, rules.maximum.measured_on)

    def _line(self, name: str, reference: Fraction, amount: Fraction, measured_on: str) -> Line:
        stop = reference - Fraction(self.rules.safety.stop_ratio) * amount
        levels = [value * SCALE for value in (reference - amount, stop, amount)]
        assert all(level.denominator == 1 for level in levels), f"{name}: more decimals than {SCALE}"
        floor, stop_level, whole = (int(level) for level in levels)
        return Line(name, floor, stop_level, whole, measured_on == "equity")

    def saw(self, balance_cents: int, equity_cents: int) -> None:
        """Judge one moment of the account."""
        if self.rules.maximum.mode == "trailing_intraday" and equity_cents > self.mark_cents:
            self.mark_cents, self._lines = equity_cents, None
        if not self.passed:
            return
        lower = min(balance_cents, equity_cents) * SCALE
        for line in self.lines():
            value = equity_cents * SCALE if line.on_equity else lower
            margin = (value - line.floor) / line.amount
            if margin < self.smallest.get(line.name, 1e9):
                self.smallest[line.name] = margin
            margin = (value - line.stop) / line.amount
            if margin < self.stop_smallest.get(line.name, 1e9):
                self.stop_smallest[line.name] = margin

    def closed(self, balance_cents: int, net_cents: int, held_s: float) -> None:
        """Count a closed position."""
        self._held(held_s)
        if self.rules.maximum.mode == "trailing_closed" and balance_cents > self.mark_cents:
            self.mark_cents, self._lines = balance_cents, None
        rules = self.rules
        for day in self.days:
            day.realised_cents += net_cents
            if self.passed and rules.best_day.scope == "cap":
                cap = Fraction(rules.best_day.ratio) * Fraction(rules.target.ratios[0])
                cap *= rules.account.initial_balance_cents
                if day.realised_cents > cap:
                    self.broken.append(f"best_day: {day.realised_cents} cents in one day, cap {cap}")

    def _held(self, held_s: float) -> None:
        hold = self.rules.hold
        was_within = self._is_hold_kept()
        self.trades += 1
        self.short += held_s < hold.seconds_min
        if self.passed and was_within and not self._is_hold_kept():
            self.broken.append(f"min_hold: {self.short} of {self.trades} trades held under {hold.seconds_min} s")

    def _is_hold_kept(self) -> bool:
        hold = self.rules.hold
        return self.trades < hold.trades_min or self.short < Fraction(hold.short_share_max) * self.trades

    def turned(self, now: datetime, balance_cents: int, equity_cents: int) -> None:
        """Begin the day of each reading whose reset has come."""
        for day in self.days:
            if day.date_of(now) == day.today:
                continue
            self._lines = None
            day.today, day.start_cents, day.realised_cents = day.date_of(now), balance_cents, 0
            day.reference_cents = balance_cents
            if self.rules.daily.reference == "higher_of_balance_and_equity":
                day.reference_cents = max(balance_cents, equity_cents)
            if self.rules.maximum.mode == "trailing_day_end":
                self.mark_cents = max(self.mark_cents, balance_cents)

    @property
    def margin(self) -> float:
        """Return the smallest distance to any floor."""
        return min(self.smallest.values(), default=10.0)

    @property
    def stop_margin(self) -> float:
        """Return the smallest distance to any stop level."""
        return min(self.stop_smallest.values(), default=10.0)

    def copy(self) -> Firm:
        """Return a firm that goes its own way from here."""
        days = [Day(**vars(day)) for day in self.days]
        return Firm(
            self.rules, days, self.mark_cents, self.passed, dict(self.smallest), dict(self.stop_smallest),
            list(self.broken), self.trades, self.short, self.news, self._lines,
        )  # fmt: skip


def opened(rules: Any, now: datetime, *, balance_cents: int, references: list[int], mark_cents: int) -> Firm:
    """Return the firm in the middle of a day; `references` are what each reading's day is counted from."""
    readings = [rules.reset, *rules.reset.also]
    days = []
    for index, reading in enumerate(readings):
        reference = references[index % len(references)]
        label = f"{reading.time} {reading.tz}"
        day = Day(label, time.fromisoformat(reading.time), ZoneInfo(reading.tz), date.min, reference, reference)
        day.today = day.date_of(now)
        day.start_cents = reference
        day.realised_cents = balance_cents - reference
        days.append(day)
    return Firm(rules, days, mark_cents)
