"""The balance's past, read backwards from the balance now and the rows of the history. Pure.

Used by executor and monitor. Rows may come in any order and doubled. Floating profit never moves a balance. A broker
books the commission when a position is opened or when it is closed; where that is not known there are two curves, and
the higher one counts, which makes for the higher floor. Source: docs/decisions.md, "Rebuild after a slept reset".
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable
from datetime import datetime
from itertools import groupby
from typing import Literal, Protocol

from msgspec import Struct


class ClosedRow(Protocol):
    """What is needed of a row of the broker's history. `commission_cents` is negative when it costs."""

    @property
    def key(self) -> Hashable: ...
    @property
    def opened_at(self) -> datetime: ...
    @property
    def closed_at(self) -> datetime: ...
    @property
    def net_profit_cents(self) -> int: ...
    @property
    def commission_cents(self) -> int: ...
    @property
    def swap_cents(self) -> int: ...


class OpenRow(Protocol):
    """What is needed of an open position. `commission_cents` is negative when it costs."""

    @property
    def opened_at(self) -> datetime: ...
    @property
    def commission_cents(self) -> int: ...
    @property
    def swap_cents(self) -> int: ...


Booked = Literal["open", "close", "unknown"]


class Curve(Struct, frozen=True):
    """One reading of the past: `times` ascending, the amount booked at each, and the balance before each."""

    times: tuple[datetime, ...]
    amounts: tuple[int, ...]
    before: tuple[int, ...]  # one longer than `times`: the last is the balance now

    def at(self, moment: datetime) -> int:
        """Return the balance just before whatever is stamped at this moment."""
        return self.before[bisect_left(self.times, moment)]


class Past(Struct, frozen=True):
    """The balance at earlier moments; only as far back as the rows reach."""

    curves: tuple[Curve, ...]

    def balance_cents(self, moment: datetime) -> int:
        """Return the balance at a moment. What is stamped exactly at it comes after it."""
        return max(curve.at(moment) for curve in self.curves)

    def least_cents(self, moment: datetime) -> int:
        """Return what the balance was at least at a moment, whenever commission is booked."""
        return min(curve.at(moment) for curve in self.curves)

    def peaks(self, since: datetime) -> tuple[tuple[datetime, int], ...]:
        """Return the highest balance at each moment after `since` at which something was booked, oldest first.

        The order of what is stamped alike is not known: the gains may have come before the losses.
        """
        found: dict[datetime, int] = {}
        for curve in self.curves:
            first = bisect_right(curve.times, since)
            stamped = zip(curve.times[first:], curve.amounts[first:], strict=True)
            for moment, group in groupby(stamped, key=lambda entry: entry[0]):
                gains_cents = sum(max(0, cents) for _, cents in group)
                found[moment] = max(found.get(moment, 0), curve.at(moment) + gains_cents)
        return tuple(sorted(found.items()))


def past(balance_cents: int, *, closed: Iterable[ClosedRow], open_positions: Iterable[OpenRow], booked: Booked) -> Past:
    """Return the past that leads to the balance now."""
    rows, held = distinct(closed), tuple(open_positions)
    curves = []
    if booked in ("close", "unknown"):
        curves.append(_curve(balance_cents, [(row.closed_at, row.net_profit_cents) for row in rows]))
    if booked in ("open", "unknown"):
        entries = [(row.closed_at, row.net_profit_cents - row.commission_cents) for row in rows]
        entries += [(min(row.opened_at, row.closed_at), row.commission_cents) for row in rows]
        entries += [(row.opened_at, row.commission_cents) for row in held]
        curves.append(_curve(balance_cents, entries))
    return Past(tuple(curves))


def _curve(balance_cents: int, entries: list[tuple[datetime, int]]) -> Curve:
    ordered = sorted(entries)
    before = [balance_cents]
    for _, cents in reversed(ordered):
        before.append(before[-1] - cents)
    return Curve(tuple(moment for moment, _ in ordered), tuple(cents for _, cents in ordered), tuple(reversed(before)))


def unexplained_cents(
    start_balance_cents: int,
    balance_cents: int,
    *,
    starts_at: datetime,
    closed: Iterable[ClosedRow],
    open_positions: Iterable[OpenRow],
    booked: Booked,
) -> int:
    """Return how much of the balance now neither a day's recorded start nor the rows since explain; 0: nothing.

    Within it lies what may have been booked earlier or later than we think: commission, where that is not known (of
    positions opened since, the start may have been recorded too high by it; of those carried over the start it may
    have left before), and swap, booked each night or at the close. A deposit makes it positive, a withdrawal negative.
    """
    held, rows = tuple(open_positions), [row for row in distinct(closed) if row.closed_at >= starts_at]
    carried = [row for row in rows if row.opened_at < starts_at]
    opened = [found for found in (*rows, *held) if found.opened_at >= starts_at]
    swing_cents = sum(abs(found.swap_cents) for found in (*carried, *held))
    delta_cents = balance_cents - start_balance_cents - sum(row.net_profit_cents for row in rows)
    low_cents = high_cents = 0
    if booked == "open":
        taken_cents = sum(found.commission_cents for found in held if found.opened_at >= starts_at)
        delta_cents += sum(row.commission_cents for row in carried) - taken_cents
    elif booked == "unknown":
        low_cents = -sum(abs(found.commission_cents) for found in opened)
        high_cents = sum(abs(row.commission_cents) for row in carried)
    if delta_cents < low_cents - swing_cents:
        return delta_cents - (low_cents - swing_cents)
    return max(0, delta_cents - (high_cents + swing_cents))


def realised_cents(closed: Iterable[ClosedRow], starts_at: datetime) -> int:
    """Return the net profit of the rows closed at or after the day's start. The same row twice counts once."""
    return sum(row.net_profit_cents for row in distinct(closed) if row.closed_at >= starts_at)


def distinct(closed: Iterable[ClosedRow]) -> tuple[ClosedRow, ...]:
    """Return each row once: partial closes share the position's id, doubled rows share everything of their key."""
    return tuple({row.key: row for row in closed}.values())
