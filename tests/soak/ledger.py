"""What each of the firm's days came to by the paper broker's own account file, beside what the store told. Pure.

Used by the soak run. The broker's side is added up here from its events alone; nothing of the store's own sums is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct

from bus import clock
from bus.records import AccountDay


class Result(Struct, frozen=True, kw_only=True):
    """One whole position that was closed. `closed_at` is when its last part was."""

    position_id: str
    closed_at: str
    net_cents: int


class Account(Struct, frozen=True, kw_only=True):
    """The broker's account: what it began with, each booking on its balance in order, and the positions that ended."""

    begun_cents: int
    bookings: tuple[tuple[str, int], ...]  # when, in cents
    results: tuple[Result, ...]
    swaps: int  # nights that were charged

    def balance_cents(self, before: str) -> int:
        """Return the balance as it was just before a moment."""
        return self.begun_cents + sum(cents for at, cents in self.bookings if at < before)


def read(lines: Iterable[Mapping[str, Any]]) -> Account:
    """Return the account that the lines of `account.jsonl` make."""
    begun, swaps = 0, 0
    volumes: dict[str, Decimal] = {}
    nets: dict[str, int] = {}
    bookings: list[tuple[str, int]] = []
    results: list[Result] = []
    for line in lines:
        if line["type"] == "Began":
            begun = line["balance_cents"]
        elif line["type"] == "Opened":
            held = line["holding"]
            volumes[held["id"]], nets[held["id"]] = Decimal(held["volume"]), 0
        elif line["type"] == "Rolled":
            swaps += line["nights"]
        elif line["type"] == "Closed":
            done = line["operation"]
            net = done["profit_cents"] + done["commission_cents"] + done["swap_cents"]
            at = clock.iso(datetime.fromtimestamp(done["closed_ms"] / 1_000, UTC))
            bookings.append((at, net))
            volumes[done["id"]] -= Decimal(done["volume"])
            nets[done["id"]] += net
            if volumes[done["id"]] == 0:
                results.append(Result(position_id=done["id"], closed_at=at, net_cents=nets[done["id"]]))
    return Account(begun_cents=begun, bookings=tuple(bookings), results=tuple(results), swaps=swaps)


def faults(
    account: Account, day: AccountDay, told: Sequence[Mapping[str, Any]], *, is_due: bool, since: str
) -> Iterator[str]:
    """Yield what is wrong with one of the firm's days: its start, and the summary that was told of it.

    `told` are the summaries of the day, `is_due` whether there must be one; `since` is when the pipeline began: the
    first day began before it.
    """
    started = account.balance_cents(max(day.starts_at, since))
    if day.start_balance_cents != started:
        yield f"day {day.day} ({day.reset}) began with {day.start_balance_cents} cents; the broker had {started}"
    if not is_due:
        return
    if len(told) != 1:
        yield f"day {day.day} was summed up {len(told)} times"
        return
    (summary,) = told
    within = [one for one in account.results if day.starts_at <= one.closed_at < day.ends_at]
    wanted = {
        "start_balance_cents": started,
        "trades": len(within),
        "wins": sum(one.net_cents > 0 for one in within),
        "net_profit_cents": sum(one.net_cents for one in within),
        "largest_loss_cents": min((0, *(one.net_cents for one in within))),
    }
    for name, cents in wanted.items():
        if summary.get(name) != cents:
            yield f"day {day.day}: the summary says {name} {summary.get(name)}, the broker's ledger {cents}"
    yield from _last_reading(account, day, summary)


def _last_reading(account: Account, day: AccountDay, summary: Mapping[str, Any]) -> Iterator[str]:
    """The last reading of the day is a balance that the broker had on that day."""
    if "balance_cents" not in summary:
        return
    had = {account.balance_cents(day.starts_at)}
    for at, _ in account.bookings:
        if day.starts_at <= at < day.ends_at:
            had.add(account.balance_cents(at) + sum(cents for other, cents in account.bookings if other == at))
    if summary["balance_cents"] not in had:
        yield f"day {day.day}: its last reading, {summary['balance_cents']} cents, was never the broker's balance"
