"""A monitor's watch over a real paper broker and a real store in this process.

async with watching.a_room(tmp_path) as room:
    with room.watched() as found:
        await found.round()
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from actors.broker.client import BrokerClient
from actors.broker.errors import Transient, UnknownOutcome
from actors.broker.wire import Balance, ClosedPosition, OpenRequest, Position
from actors.compliance import day as days
from actors.compliance import rulebook
from actors.compliance.rulebook import RuleSet
from actors.desk.allowance import Allowance, Block
from actors.watch.poll import Watch
from bus import messages
from bus.clock import iso
from bus.records import AccountDay
from config import load, settings
from store.queries import Reader
from tests.kit import desk, paper
from tests.kit.compliance import D, a_plan, the_rules
from tests.kit.desk import Shifted, StoreHere
from tests.kit.gate import an_open_gate

NOON = datetime(2026, 2, 18, 12, 0, tzinfo=UTC)  # a Wednesday; days begin at 22:00 by both readings


class Wayward(BrokerClient):
    """A real client that can be told to fail, to see too little, or to hear wrong figures."""

    hides_rows = False
    hides_last_row = False
    hides_positions = False
    is_down = False
    balance_is_down = False
    history_is_down = False
    close_fails = 0
    said: Balance | None = None
    closes = 0
    looks = 0  # at the positions
    histories = 0  # that were asked for

    async def open_positions(self) -> tuple[Position, ...]:
        self.looks += 1
        if self.is_down:
            raise Transient("GET /open-positions: connection refused")
        found = await super().open_positions()
        return () if self.hides_positions else found

    async def balance(self) -> Balance:
        if self.balance_is_down:
            raise Transient("GET /balance: 500")
        return self.said or await super().balance()

    async def closed_positions(self, since: datetime, until: datetime) -> tuple[ClosedPosition, ...]:
        self.histories += 1
        if self.history_is_down:
            raise Transient("POST /closed-positions: 500")
        rows = await super().closed_positions(since, until)
        if self.hides_last_row:
            rows = tuple(sorted(rows, key=lambda row: row.closed_at)[:-1])
        return () if self.hides_rows else rows

    async def close_position(self, position: Position) -> None:
        self.closes += 1
        if self.close_fails:
            self.close_fails -= 1
            raise UnknownOutcome("POST /position/close: no answer")
        await super().close_position(position)


class Watched:
    """A watch with what it watches: one `round` is one poll of the monitor."""

    def __init__(self, room: Room, rules: RuleSet, **executor: Any) -> None:
        compliance = settings.Compliance(rules=str(room.rules_file)) if room.rules_file else settings.Compliance()
        self.settings = settings.Settings(profile="test", executor=settings.Executor(**executor), compliance=compliance)
        self.rules = rules
        self.store = room.store
        self.reader = Reader(room.store.path)
        self.watch = Watch(
            room.client, room.store, allowance=room.allowance, settings=self.settings, rules=rules,  # type: ignore[arg-type]
            clock=room.clock, db_path=room.store.path,
        )  # fmt: skip

    async def round(self) -> None:
        await self.watch.round(self.reader)

    def interval_s(self) -> float:
        return self.watch.interval_s(self.reader, self.store.clock.now())

    async def waits(self, rounds: int) -> list[float]:
        """Go round so often, and return how long each round is followed by a wait."""
        found = []
        for _ in range(rounds):
            await self.round()
            found.append(self.interval_s())
        return found

    def events(self) -> list[str]:
        """Return the events of all reports, in order."""
        return [report.event for report in self.store.sent(messages.Report)]

    def halts(self) -> list[tuple[str, str]]:
        """Return kind and key of the halts that stand."""
        standing = self.reader.halts(iso(self.store.clock.now()))
        return [(halt.kind, halt.reason.partition(":")[0]) for halt in standing]

    def flattens(self) -> list[str]:
        """Return the keys of the halts that want everything closed."""
        standing = self.reader.halts(iso(self.store.clock.now()))
        return [halt.reason.partition(":")[0] for halt in standing if halt.flatten]

    def status(self, intent_id: str) -> str:
        intent = self.reader.intent(intent_id)
        assert intent is not None
        return intent.status


@dataclass
class Room:
    """Broker, client, store and clock of one test."""

    broker: paper.RunningPaper
    client: Wayward
    store: StoreHere
    clock: Shifted
    allowance: Allowance
    rules_file: Path | None

    @contextlib.contextmanager
    def watched(self, rules: RuleSet | None = None, **executor: Any) -> Iterator[Watched]:
        """A monitor that has just been started; `executor` are settings."""
        found = Watched(self, rules or the_rules(), **executor)
        try:
            yield found
        finally:
            found.reader.close()

    def start_days(self, rules: RuleSet, start_balance_cents: int) -> None:
        """Have the store know what today started with, by every reading of the reset."""
        for day in days.firm_days(rules, self.clock.now()):
            kept = AccountDay(
                account_id="PAPER-1", day=day.day, reset=day.reset, starts_at=iso(day.starts_at),
                ends_at=iso(day.ends_at), start_balance_cents=start_balance_cents,
                reference_cents=start_balance_cents, initial_balance_cents=5_000_000, created_at=iso(self.clock.now()),
            )  # fmt: skip
            ack = self.store.apply(desk.MONITOR, messages.StartDay(day=kept))
            assert ack.outcome == "applied", ack

    def price(self, bid: str) -> None:
        self.broker.venue.set_price("EURUSD.", D(bid), hold=True)

    def close(self, position_id: str) -> None:
        """Close a position as its owner might by hand."""
        self.broker.venue.close_position(position_id)

    async def open_positions(self) -> tuple[Position, ...]:
        """Return what is open, whatever the client is told to show."""
        async with self.broker.client() as client:
            return await client.open_positions()

    async def buy(self, volume: str = "1.00", sl: str = "0.90000", tp: str = "1.90000") -> str:
        order = OpenRequest(broker_symbol="EURUSD.", side="BUY", volume=D(volume), sl_price=D(sl), tp_price=D(tp))
        async with self.broker.client() as client:
            await client.balance()
            return await client.open_position(order)

    async def buy_for_an_intent(self, *, planned: str | None = None, **given: Any) -> tuple[str, str]:
        """Return the ids of a position and of the intent that owns it; `planned` lots, None: as many as were filled."""
        volume = given.get("volume", "1.00")
        execute = self.store.reserve(a_plan(volume=D(planned or volume)))
        position_id = await self.buy(**given)
        return position_id, self.store.opened(execute, position_id, volume)

    async def cut(self, position_id: str, volume: str) -> None:
        """Close a part of a position as its owner might by hand."""
        (position,) = [one for one in await self.open_positions() if one.id == position_id]
        await self.client.close_partially(position, D(volume))


@contextlib.asynccontextmanager
async def a_room(folder: Path, *, at: datetime = NOON, rules_file: Path | None = None) -> AsyncIterator[Room]:
    """Open a room at a moment; `rules_file` is the rule set that the store goes by, None: the usual one."""
    clock, rules = Shifted(at), rulebook.load(str(rules_file)) if rules_file else the_rules()
    gate = an_open_gate(rules_file) if rules_file else None
    async with paper.running(folder / "paper", clock=clock) as broker:
        with contextlib.closing(StoreHere(folder / "decisions.db", clock, gate)) as store:
            allowance = Allowance(
                store.ask, clock, lambda: days.firm_days(rules, clock.now()), block=Block(reads=4, writes=1),
                answer_s=0.05,
            )  # fmt: skip
            async with Wayward(broker.settings, "paper", clock, allowance) as client:
                broker.venue.set_price("EURUSD.", Decimal("1.10000"), hold=True)
                yield Room(broker, client, store, clock, allowance, rules_file)


def trailing_rules(folder: Path, mode: str = "trailing_intraday") -> Path:
    """Write the usual rules with a floor that trails, the highest equity if nothing else is said; return their file."""
    path = folder / "trailing.toml"
    text = (load.RULES / "e8-signature-50k.toml").read_text().replace('name = "e8-signature-50k"', 'name = "trailing"')
    path.write_text(text.replace('mode = "static"', f'mode = "{mode}"'))
    return path


def with_changes(rules: RuleSet, **tables: dict[str, Any]) -> RuleSet:
    """Return the rules with some values changed, by table."""
    changed = {name: msgspec.structs.replace(getattr(rules, name), **values) for name, values in tables.items()}
    return msgspec.structs.replace(rules, **changed)
