"""A pipeline that lives through days in minutes, is hurt, and is audited at each reset. Used by the soak run.

Time goes in leaps. Between them every clock runs as the machine's does; at a leap the wall clock of all processes jumps
ahead in the same instant, and the prices with it. docs/testing.md says why not evenly faster.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct, field, json

from actors.compliance import day as firm_days
from actors.compliance import rulebook
from actors.compliance.rulebook import RuleSet
from bus import messages
from bus.clock import OFFSET_ENV, iso
from bus.records import AccountDay
from bus.vocabulary import Role
from store import connection
from store.queries import DatabaseRefused
from tests.chaos import histories
from tests.chaos import rig as rigs
from tests.chaos.checker import Finding
from tests.chaos.figures import Tally
from tests.chaos.rig import Changes, Rig
from tests.kit import analysis, pipeline
from tests.soak import footprint, ledger
from tests.soak.footprint import Footprint

STEP_S = 2.5  # real time between two leaps
LEAP_MAX = timedelta(hours=3)
BEFORE, AFTER, TOLD = timedelta(seconds=20), timedelta(seconds=5), timedelta(minutes=7)  # looks around a reset
DUE = timedelta(hours=3)  # so long after its end a day must have been told
REST_S = 60.0
QUIET_S = 3.0
BROKER_AWAY_S = 0.8  # the longest that the broker stands still: well within the quiet period
ROLES = ("store.1", "scanner.1", "llm.1", "executor.1", "monitor.1", "paper.1", "dashboard.1", "alerts.1")
HURT_EVERY_S = 6.0  # on the average, so that most lives are long enough to be compared
EVENTS = {"kill": 10, "freeze": 6, "supervisor": 1, "everything": 1}
CALM_PART = 0.25  # at the end of the run nobody is hurt: whoever leaks then is seen
POSITIONS_KEPT = 40
RULES = rigs.RULES | {
    "name": ('name = "e8-signature-50k"', 'name = "soak-rules"'),
    # as the paper broker does; where it is not known, the stricter reading counts, and that is not to the cent
    "commission": ('commission_booked = "unknown"', 'commission_booked = "close"'),
}
SETTINGS: Changes = {
    "scanner": {
        "timeframes": ["D1", "H4"], "sources": ["synthetic"], "model": "momentum", "settle_s": 20.0,
        "bar_age_days_max": 3_650, "history_bars_min": 400,
    },
    "executor": {"quiet_s": QUIET_S, "risk_per_trade_ratio": 0.0004},
    "monitor": {"backup_interval_s": 3_600.0, "backups_kept": 4, "janitor_interval_s": 2.0},
    "paper": {"sessions": "fx", "file_parts_kept": 100},
    "store": {"intent_retention_days": 60, "command_retention_days": 60},
}  # fmt: skip


class Asked(Struct, frozen=True, kw_only=True):
    """What a run is to do. `begin` and `end` are simulated; `seconds` is about how long it may really take."""

    begin: datetime
    end: datetime
    seconds: float
    seed: int
    is_hurt: bool = True
    has_page: bool = True


class Done(Struct, kw_only=True):
    """What a run did and found."""

    tally: Tally
    footprint: Footprint
    days: int = 0
    days_wrong: int = 0
    intents: int = 0
    opened: int = 0
    closed: int = 0
    swaps: int = 0
    leaps: int = 0
    files: dict[str, int] = field(default_factory=dict)
    schedule: list[str] = field(default_factory=list)


def next_change(after: datetime, zone: str) -> datetime:
    """Return the first moment after `after` at which a zone's clocks are changed."""
    there, hour = ZoneInfo(zone), timedelta(hours=1)
    moment = after.replace(minute=0, second=0, microsecond=0)
    while (moment + hour).astimezone(there).utcoffset() == moment.astimezone(there).utcoffset():
        moment += hour
    return moment + hour


def live(asked: Asked) -> Done:
    """Run the days, and return what was found; nothing of it is left behind."""
    done = Done(tally=Tally(), footprint=Footprint())
    folder = pipeline.new_folder("ps-")
    rules = rigs.write_rules(folder / "soak-rules.toml", RULES)
    changes = SETTINGS | {"compliance": {"rules": str(rules)}}
    if not asked.has_page:  # a short one: a single scan is enough
        changes["scanner"] = changes["scanner"] | {"timeframes": ["D1"]}
    if asked.has_page:
        changes |= {"dashboard": {"port": pipeline.free_port()}, "alerts": {}}
    try:
        with rigs.rigged(done.tally, strict=True, changes=changes) as rig:
            Days(asked, rig, rulebook.load(str(rules)), done).run()
            left = rig.run.processes() if not done.tally.findings else {}
        if left:
            done.tally.findings.append(Finding("nothing is left behind", "illegal", f"processes: {left}"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return done


class Days:
    """One run over its pipeline."""

    def __init__(self, asked: Asked, rig: Rig, rules: RuleSet, done: Done) -> None:
        self._asked = asked
        self._rig = rig
        self._rules = rules
        self._done = done
        self._dice = random.Random(asked.seed)
        self._offset = rig.run.folder / "offset"
        self._set(asked.begin)
        rig.run.env[OFFSET_ENV] = str(self._offset)
        rig.wanted += 2 * asked.has_page
        self._roles = ROLES if asked.has_page else ROLES[:-2]
        self._began_s = time.monotonic()
        self._fed = 0
        self._wrong: set[str] = set()
        self._ended: list[datetime] = []

    def now(self) -> datetime:
        """Return the time of the pipeline's clocks."""
        return datetime.now(UTC) + self._ahead

    def run(self) -> None:
        """Live through all of it, audit each reset, come to rest, and stop."""
        if not self._rig.begin():
            return
        self._began_s = time.monotonic()
        for edge in self._edges():
            self._live_until(edge)
            if self._done.tally.findings:
                break
            if edge in self._ended:
                self._pass_a_reset(edge)
        self._come_to_rest("the end")
        self._rig.wait(self._all_told, REST_S)
        self._audit(iso(self._asked.end))
        self._count()
        if not self._done.tally.findings:
            self._rig.stop()

    # ── time ────────────────────────────────────────────────────────────────

    def _edges(self) -> Iterator[datetime]:
        """Yield the resets within the run, and its end."""
        own = firm_days.readings(self._rules)[0]
        end = firm_days.day_of(own, self._asked.begin).ends_at
        while end < self._asked.end:
            self._ended.append(end)
            yield end
            end = firm_days.day_of(own, end).ends_at
        yield self._asked.end

    def _set(self, moment: datetime) -> None:
        self._ahead = moment - datetime.now(UTC)
        draft = self._offset.with_suffix(".new")  # whole or not at all: every process reads it at any moment
        draft.write_text(str(self._ahead.total_seconds()))
        draft.rename(self._offset)

    def _leap(self, to: datetime) -> None:
        if to > self.now():
            self._set(to)
            self._done.leaps += 1

    def _live_until(self, edge: datetime) -> None:
        """Leap, trade and suffer until just before a moment."""
        target = edge - BEFORE
        while (left := target - self.now()) > timedelta() and not self._done.tally.findings:
            self._trade()
            if (
                self._asked.is_hurt
                and not self._is_calm()
                and self._dice.random() < self._step_s() / self._hurt_every_s()
            ):
                self._hurt()
            self._rig.wait(lambda: False, self._dice.uniform(0.3, 1.7) * self._step_s())
            self._look()
            real_left_s = self._began_s + self._asked.seconds - time.monotonic()
            steps = max(1.0, real_left_s / STEP_S)
            leap = min(LEAP_MAX, max((self._asked.end - self.now()) / steps, timedelta(seconds=1)))
            self._leap(self.now() + min(leap * self._dice.uniform(0.4, 1.6), left))

    def _step_s(self) -> float:
        return min(STEP_S, self._asked.seconds / 8)

    def _hurt_every_s(self) -> float:
        return max(self._step_s(), min(HURT_EVERY_S, self._asked.seconds / 40))

    def _is_calm(self) -> bool:
        return self.now() > self._asked.end - (self._asked.end - self._asked.begin) * CALM_PART

    def _pass_a_reset(self, edge: datetime) -> None:
        """Audit the account as it is just before a reset, and let the reset and the summary come."""
        day = firm_days.day_of(firm_days.readings(self._rules)[0], edge - BEFORE).day
        if not self._come_to_rest(f"the end of {day}"):
            return
        self._audit(iso(self.now()))
        self._leap(edge + AFTER)
        new = firm_days.day_of(firm_days.readings(self._rules)[0], edge)
        if not self._rig.wait(lambda: any(one.day == new.day for one in self._days()), REST_S):
            self._rig.report("each day begins", f"nobody said what {new.day} began with")
        self._done.days += 1
        self._leap(edge + TOLD)
        self._say(f"{day} ended: {self._rig.run.counts()}, {self._done.tally.kills} kills")

    # ── work and misfortune ─────────────────────────────────────────────────

    def _trade(self) -> None:
        """Propose as a second scanner would, both ways, stops near enough to be reached within the day."""
        for _ in range(self._dice.randint(1, 2)):
            self._fed += 1
            symbol = rigs.SYMBOLS[self._fed % len(rigs.SYMBOLS)]
            bar = rigs.FIRST_BAR - timedelta(days=self._fed // len(rigs.SYMBOLS))
            volatility = self._dice.choice((8.0, 12.0, 25.0))
            signal = analysis.a_signal(symbol=symbol, bar_time=bar.isoformat(), volatility_pips=volatility)
            if self._dice.random() < 0.5:
                signal = analysis.turned(signal)
            self._rig.ask(messages.Propose(signal=signal, trade_date=self.now().date().isoformat()), Role.SCANNER, 3.0)
        if self._dice.random() < 0.1:
            self._rig.close_positions(keep=POSITIONS_KEPT)

    def _hurt(self) -> None:
        event = self._dice.choices(list(EVENTS), list(EVENTS.values()))[0]
        name = self._dice.choice(self._roles)
        seconds = round(self._dice.uniform(0.1, BROKER_AWAY_S if name == "paper.1" else 3.0), 2)
        if event == "kill":
            self._rig.kill(name)
        elif event == "freeze":
            self._rig.freeze(name, seconds)
        elif event == "supervisor":
            self._rig.kill("supervisor")
        else:
            self._rig.kill_everything()
        who = f" {name}" if event in ("kill", "freeze") else ""
        self._done.schedule.append(f"{self.now():%a %H:%M} {event}{who}{f' {seconds} s' if event == 'freeze' else ''}")

    def _come_to_rest(self, what: str) -> bool:
        self._rig.wake_all()
        self._rig.wait(self._is_settled, REST_S)
        return self._rig.come_to_rest(what, REST_S)

    def _is_settled(self) -> bool:
        try:
            with self._rig.run.reader() as reader:
                is_halted = any(halt.kind == "hard" for halt in reader.halts())
            if is_halted:
                self._rig.operate()
        except DatabaseRefused:
            return False
        return self._rig.at_rest()

    # ── looks ───────────────────────────────────────────────────────────────

    def _look(self) -> None:
        pids = self._rig.children()
        root = self._rig.run.root
        if root is not None and root.poll() is None:
            pids["supervisor.1"] = root.pid
        self._done.footprint.look(pids, time.monotonic() - self._began_s)

    def _days(self) -> list[AccountDay]:
        try:
            with self._rig.run.reader() as reader:
                return reader.account_days("PAPER-1", 1_000)
        except DatabaseRefused:
            return []

    def _all_told(self) -> bool:
        """Return whether each day that is due was summed up; while not, the clock goes on to the store's next look."""
        own, due = firm_days.readings(self._rules)[0].label, iso(self.now() - DUE)
        wanted = {day.day for day in self._days() if day.reset == own and day.ends_at <= due}
        if wanted <= {str(one["day"]) for one in summaries(self._rig.run.data / "decisions.db")}:
            return True
        time.sleep(0.5)
        self._leap(self.now() + timedelta(seconds=40))
        return False

    def _audit(self, now: str) -> None:
        """Compare every day so far with the broker's own account."""
        account = ledger.read(histories.with_parts(self._rig.run.data / "paper" / "account.jsonl"))
        told, days = summaries(self._rig.run.data / "decisions.db"), self._days()
        own = firm_days.readings(self._rules)[0].label
        due = iso(self.now() - DUE)
        for day in days:
            is_due = day.reset == own and day.ends_at <= due
            mine = [one for one in told if one["day"] == day.day and one["reset"] == day.reset]
            found = list(
                ledger.faults(
                    account, day, mine if day.reset == own else (), is_due=is_due, since=iso(self._asked.begin)
                )
            )
            for text in found:
                self._rig.report("a day is right to the cent", f"{text} (seen {now})")
            if found:
                self._wrong.add(f"{day.day} {day.reset}")
        self._done.days_wrong = len(self._wrong)
        self._done.closed, self._done.swaps = len(account.results), account.swaps

    def _count(self) -> None:
        counts = self._rig.run.counts()
        self._done.intents = sum(counts.values())
        self._done.opened = counts.get("opened", 0) + counts.get("closed", 0)
        with self._rig.run.reader() as reader:
            why = Counter(
                move.reason.partition(":")[0] for move in reader.journal() if move.event in ("reject", "fail", "cancel")
            )
        self._say(f"Ended without a position: {dict(why.most_common())}")
        run = self._rig.run_folder()
        self._done.files = footprint.files(self._rig.run.data, run, self._rig.run.points)

    def _say(self, text: str) -> None:
        self._done.tally.notes.append(text)


def summaries(path: Path) -> list[dict[str, Any]]:
    """Return the figures of every daily summary in the outbox."""
    with contextlib.closing(connection.open_reader(path)) as db:
        return [json.decode(str(row[0])) for row in db.execute("SELECT data FROM alerts WHERE event = 'daily_summary'")]
