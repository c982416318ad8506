"""A week of the request budget: the monitor's pace against a firm that counts. Prints its table when run.

`python -m tests.kit.budget_week` prints that, and what a quiet day costs, flat and with trades. In the week positions
are open all the time, for hours near the floor, the executor trades ten times a day, processes are killed with blocks
in their hands. Only the pace is ours; the counting is the world's.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from actors.compliance import budget, rulebook
from actors.compliance import day as days
from actors.compliance.budget import Pace
from actors.compliance.rulebook import RuleSet
from config.settings import Monitor

LOGIN_EVERY_S = 840.0  # a token lasts 15 minutes and is refreshed a minute before
READS_PER_START = 6  # login, instruments, and a first look with history
BLOCK = 8  # granted at once; lost with a kill
TRADES_PER_DAY, READS_PER_TRADE, WRITES_PER_TRADE = 10, 18, 2
HISTORY_READS = 2  # each trade moves the balance: history and balance once more
KILLS_PER_DAY = 6
OPEN_HOURS = 6
DAY_S = 86_400.0
SPRING = datetime(2026, 3, 25, 22, 0, tzinfo=UTC)  # Athens turns its clocks on 29 March: 23 hours
AUTUMN = datetime(2026, 10, 21, 21, 0, tzinfo=UTC)  # and back on 25 October: 25 hours


@dataclass
class Day:
    """What one firm's day saw."""

    name: str
    hours: float
    reads: int = 0
    writes: int = 0
    polls: int = 0
    shortest_s: float = float("inf")
    longest_s: float = 0.0
    longest_near_s: float = 0.0
    refused: int = 0
    unspent_least: int = 10**9  # requests left, the reserve among them, at the worst moment

    @property
    def requests(self) -> int:
        return self.reads + self.writes


@dataclass
class Week:
    """A week from `start` on; `near_hours` of each day the account is near its floor, in one piece."""

    rules: RuleSet
    start: datetime
    monitor: Monitor = field(default_factory=Monitor)
    near_hours: float = 6.0
    trades: int = TRADES_PER_DAY
    seed: int = 7
    days: list[Day] = field(default_factory=list)

    def run(self) -> list[Day]:
        self._random = random.Random(self.seed)
        now, end = self.start, self.start + timedelta(days=7)
        self._login_at = now
        while now < end:
            now = self._day(now)
        return self.days

    def _day(self, now: datetime) -> datetime:
        """Poll and trade until the reset; return the moment of it."""
        today = days.firm_days(self.rules, now)[0]
        length_s = (today.ends_at - now).total_seconds()
        day = Day(name=today.day, hours=length_s / 3_600)
        self.days.append(day)
        near_from = now + timedelta(seconds=self._random.uniform(0, max(0.0, length_s - 3_600 * self.near_hours)))
        near_to = near_from + timedelta(hours=self.near_hours)
        trades = sorted(now + timedelta(seconds=self._random.uniform(0, length_s)) for _ in range(self.trades))
        kills = sorted(now + timedelta(seconds=self._random.uniform(0, length_s)) for _ in range(KILLS_PER_DAY))
        while now < today.ends_at:
            while trades and trades[0] <= now:
                del trades[0]
                self._spend(day, READS_PER_TRADE + HISTORY_READS, WRITES_PER_TRADE)
            if kills and kills[0] <= now:
                del kills[0]
                self._login_at = now
                self._spend(day, READS_PER_START + BLOCK)  # a block that nobody uses, and a new start
            if now >= self._login_at:
                self._login_at = now + timedelta(seconds=LOGIN_EVERY_S)
                self._spend(day, 1)
            self._spend(day, 2, is_poll=True)
            wait_s = self._wait_s(day, (today.ends_at - now).total_seconds(), is_near=near_from <= now < near_to)
            now += timedelta(seconds=wait_s)
        return today.ends_at

    def _wait_s(self, day: Day, to_reset_s: float, *, is_near: bool) -> float:
        wait_s = budget.poll_interval_s(
            Pace(
                flat_s=self.monitor.equity_poll_flat_s,
                base_s=self.monitor.equity_poll_s,
                near_s=self.monitor.equity_poll_near_s,
            ),
            is_watching=True,
            urgency=1.0 if is_near else 0.0,
            seconds_to_reset=to_reset_s,
            requests_per_poll=2,
            left_requests=budget.left(self.rules, day.requests),
            kept_for_trades=self.monitor.requests_kept_for_trades,
        )
        if to_reset_s > wait_s:  # the last one of a day ends at its reset
            day.shortest_s = min(day.shortest_s, wait_s)
            day.longest_s = max(day.longest_s, wait_s)
            if is_near:
                day.longest_near_s = max(day.longest_near_s, wait_s)
        return max(wait_s, 0.001)

    def _spend(self, day: Day, reads: int, writes: int = 0, *, is_poll: bool = False) -> None:
        if reads + writes > budget.left(self.rules, day.requests):
            day.refused += 1  # as the store does
            return
        day.reads += reads
        day.writes += writes
        day.polls += is_poll
        day.unspent_least = min(day.unspent_least, self.rules.requests.per_day - day.requests)


def table(found: list[Day]) -> str:
    """Return the week as lines for people."""
    head = "| firm's day | hours | polls | requests | writes | left | shortest | longest | longest near |"
    rule = "|---|---|---|---|---|---|---|---|---|"
    rows = [
        f"| {day.name} | {day.hours:.0f} | {day.polls} | {day.requests:,} | {day.writes} | {day.unspent_least} "
        f"| {day.shortest_s:.0f} s | {day.longest_s:.0f} s | {day.longest_near_s:.0f} s |"
        for day in found
    ]
    return "\n".join((head, rule, *rows))


@dataclass
class Requests:
    """What one day of 24 hours asks of the broker, by what for."""

    reads: int = 0
    writes: int = 0
    logins: int = 0  # and refreshes

    @property
    def total(self) -> int:
        return self.reads + self.writes + self.logins


def quiet_day(rules: RuleSet, monitor: Monitor, trades: int) -> Requests:
    """Return a day's requests far from every floor: `trades` one after the other, each open for `OPEN_HOURS`.

    The executor logs in for each trade, the monitor keeps its token alive; both start once.
    """
    found = Requests(reads=2 * (READS_PER_START - 1), logins=2)
    pace = Pace(
        flat_s=monitor.equity_poll_flat_s, base_s=monitor.equity_poll_s, near_s=monitor.equity_poll_near_s
    )  # fmt: skip
    opens = [3_600.0 * (2 + 7 * number) for number in range(trades)]
    waiting, now_s, renew_s = list(opens), 0.0, LOGIN_EVERY_S
    while now_s < DAY_S:
        if waiting and waiting[0] <= now_s:
            del waiting[0]
            found.logins += 1
            found.reads += READS_PER_TRADE + HISTORY_READS - 1
            found.writes += 1
        if now_s >= renew_s:
            renew_s = now_s + LOGIN_EVERY_S
            found.logins += 1
        found.reads += 2
        is_open = any(begin <= now_s < begin + 3_600.0 * OPEN_HOURS for begin in opens)
        now_s += budget.poll_interval_s(
            pace,
            is_watching=is_open,
            urgency=0.0,
            seconds_to_reset=DAY_S - now_s,
            requests_per_poll=2,
            left_requests=budget.left(rules, found.total),
            kept_for_trades=monitor.requests_kept_for_trades,
        )
    return found


def main() -> None:
    rules = rulebook.load("e8-signature-50k")
    sys.stdout.write("| one day | reads | writes | logins and refreshes | of |\n|---|---|---|---|---|\n")
    for title, trades in (("flat", 0), ("three trades, each open for six hours", 3)):
        day = quiet_day(rules, Monitor(), trades)
        cost = f"{day.total:,} of {rules.requests.per_day:,}"
        sys.stdout.write(f"| {title} | {day.reads:,} | {day.writes} | {day.logins} | {cost} |\n")
    sys.stdout.write("\n")
    for title, start in (("Spring, one day of 23 hours", SPRING), ("Autumn, one day of 25 hours", AUTUMN)):
        sys.stdout.write(f"{title}; {rules.requests.per_day:,} requests a day, reserve {rules.requests.reserve}\n\n")
        sys.stdout.write(table(Week(rules, start).run()) + "\n\n")


if __name__ == "__main__":
    main()
