"""What is answered to a reading command: status, profit, orders, why. Library of the alerts process.

Reads the store's database and nothing else, and finds no words: those are in `wording`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from actors.compliance import day as days
from actors.compliance.rulebook import RuleSet
from actors.console import processes, room, why
from actors.outbox import wording
from actors.outbox.wording import Words
from bus.clock import Clock, iso
from bus.records import Halt, Worker
from bus.vocabulary import State
from config.settings import Settings
from store.outbox import Outbox
from store.queries import Reader

WEEK = timedelta(days=7)


class Answers:
    """Opens the database for each answer: people ask rarely, and a file that was restored is then the new one."""

    def __init__(self, path: Path, settings: Settings, rules: RuleSet, clock: Clock) -> None:
        self._path = path
        self._settings = settings
        self._rules = rules
        self._clock = clock

    def to(self, command: str, rest: str) -> Words:
        """Return the answer to a command that changes nothing. Raises DatabaseRefused."""
        known = {"status": self._status, "profit": self._profit, "orders": self._orders, "why": self._why}
        return known[command](rest) if command in known else wording.help_text(known=command in ("start", "help"))

    def halts(self) -> list[Halt]:
        """Return what stands. Raises DatabaseRefused."""
        reader = Reader(self._path)
        try:
            return reader.halts(iso(self._clock.now()))
        finally:
            reader.close()

    def _status(self, rest: str) -> Words:
        reader, now = Reader(self._path), self._clock.now()
        try:
            alive = [one.name for one in self._seen(reader, now) if one.state not in (processes.SILENT, State.STOPPED)]
            return wording.status(
                profile=self._settings.profile, account_id=self._settings.broker.account_id, alive=alive,
                counts=reader.status_counts(), halts=reader.halts(iso(now)),
                unresolved=len(reader.unresolved_orders()),
                room=room.of(reader, self._rules, self._settings.broker.account_id, now),
            )  # fmt: skip
        finally:
            reader.close()

    def _seen(self, reader: Reader, now: datetime) -> list[Worker]:
        return processes.seen(reader.workers(), now, 2 * self._settings.bus.dead_s)

    def _profit(self, rest: str) -> Words:
        outbox, now = Outbox(self._path), self._clock.now()
        today = days.firm_days(self._rules, now)[0]
        try:
            spans = ((f"Today ({today.day})", iso(today.starts_at)), ("7 days", iso(now - WEEK)), ("All", ""))
            found = [(name, outbox.result_between(begin, iso(now))) for name, begin in spans]
        finally:
            outbox.close()
        return wording.profit(found, self._rules.account.currency)

    def _why(self, rest: str) -> Words:
        """Answer for a pair, for an intent by the beginning of its id, or, without either, for the newest intent."""
        reader, now, wanted = Reader(self._path), self._clock.now(), rest.strip()
        try:
            if wanted.upper() in self._settings.symbols:
                return wording.why(
                    why.of_symbol(reader, wanted.upper(), settings=self._settings, rules=self._rules, now=now)
                )
            ids = reader.intent_ids(wanted.lower()) if wanted else [one.id for one in reader.intents(limit=1)]
            intent = reader.intent(ids[0]) if len(ids) == 1 else None
            if intent is None:
                return wording.why_of_what(len(ids))
            return wording.why(why.of_intent(reader, intent, settings=self._settings, now=now))
        finally:
            reader.close()

    def _orders(self, rest: str) -> Words:
        reader = Reader(self._path)
        try:
            opened = [(one, reader.order(one.id)) for one in reader.active_positions()]
            return wording.orders(
                opened=[(one, order) for one, order in opened if order is not None],
                unresolved=reader.unresolved_orders(), live=reader.live_intents(),
                currency=self._rules.account.currency,
            )  # fmt: skip
        finally:
            reader.close()
