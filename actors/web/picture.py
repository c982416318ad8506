"""What is true now, in one record: the account with its limits, the intents, the processes, what stands in the way.

Library of the dashboard. Reads the store's database; never asks the broker, never writes, has no formula of its own.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from actors.compliance import day as firm_day
from actors.compliance.rulebook import RuleSet
from actors.console import processes, room
from actors.console.room import Room
from bus.clock import iso
from bus.records import AccountDay, EquitySample, Halt, LlmDay, Worker
from bus.vocabulary import Role, State, Status
from config.settings import Settings
from store.board import Board, Holding, Line, Notice, Verdict

VERDICTS_MAX = 12
NOTICES_MAX = 8
COLUMNS = (Status.PENDING, Status.CLAIMED, Status.READY_FOR_EXEC, Status.EXECUTING, Status.OPENED)
NEEDED = (Role.SCANNER, Role.LLM, Role.EXECUTOR, Role.MONITOR)  # without one of them nothing is traded, or watched


class Column(Struct, frozen=True, kw_only=True):
    """One status on the board: how many intents have it, and the oldest of them."""

    status: Status
    count: int
    lines: tuple[Line, ...]


class Process(Struct, frozen=True, kw_only=True):
    """A process as its beats say it. `state` is `silent` without a beat for too long, `stopped` after its end."""

    worker: Worker
    state: str

    @property
    def is_well(self) -> bool:
        return self.state in (State.READY, State.STARTING, State.DRAINING)


class Account(Struct, frozen=True, kw_only=True):
    """The newest reading of the account, and what the firm's days started with."""

    sample: EquitySample
    days: tuple[AccountDay, ...]
    is_fresh: bool  # it was looked at as lately as the monitor's pace says

    @property
    def floating_cents(self) -> int:
        return self.sample.equity_cents - self.sample.balance_cents


class Picture(Struct, frozen=True, kw_only=True):
    """Everything on the first page."""

    now: datetime
    currency: str
    columns: tuple[Column, ...]
    ended: dict[str, int]
    halts: tuple[Halt, ...]
    holdings: tuple[Holding, ...]
    verdicts: tuple[Verdict, ...]
    newest: Line | None
    not_traded: Line | None
    processes: tuple[Process, ...]
    missing: tuple[Role, ...]  # needed, and nobody of that name beats
    last_beat_at: str | None
    is_store_silent: bool
    account: Account | None
    room: Room
    models: LlmDay
    notices: tuple[Notice, ...]
    closing: frozenset[str]  # the intents whose position an operator has closed, and that is still open

    @property
    def unresolved(self) -> tuple[Holding, ...]:
        """Return the orders that may or may not exist at the broker."""
        return tuple(held for held in self.holdings if held.order_status in ("reserved", "unknown"))

    @property
    def silent(self) -> tuple[Process, ...]:
        return tuple(one for one in self.processes if one.state == "silent")


def read(board: Board, settings: Settings, rules: RuleSet, now: datetime) -> Picture:
    """Return what the database says now. Raises ValueError for a time in it that is none."""
    workers = board.workers()
    down = processes.not_running(workers, now, settings.bus.dead_s)
    shown = tuple(
        Process(worker=one, state=one.state) for one in processes.seen(workers, now, settings.bus.dead_s)
    )  # fmt: skip
    well = {one.worker.role for one in shown if one.is_well}
    today = _today(rules, now)
    return Picture(
        now=now,
        currency=rules.account.currency,
        columns=tuple(_column(board, status) for status in COLUMNS),
        ended=board.ended_since(iso(today)),
        halts=tuple(board.halts(iso(now))),
        holdings=tuple(board.holdings()),
        verdicts=tuple(board.verdicts_since(iso(today), VERDICTS_MAX)),
        newest=board.newest(),
        not_traded=board.newest_not_traded(),
        processes=shown,
        missing=tuple(role for role in NEEDED if role not in well),
        last_beat_at=down.since if down else max(one.last_beat_at for one in workers),
        is_store_silent=down is not None,
        account=_account(board, settings, rules, now),
        room=room.of(board, rules, settings.broker.account_id, now),
        models=board.llm_day(now.date().isoformat()),
        notices=tuple(board.notices(limit=NOTICES_MAX)),
        closing=frozenset(one.intent_id for one in board.closings()),
    )


def _today(rules: RuleSet, now: datetime) -> datetime:
    """Return when the firm's day began, by the reading that began first."""
    return min(day.starts_at for day in firm_day.firm_days(rules, now))


def _column(board: Board, status: Status) -> Column:
    count, lines = board.column(str(status))
    return Column(status=status, count=count, lines=tuple(lines))


def _account(board: Board, settings: Settings, rules: RuleSet, now: datetime) -> Account | None:
    sample = board.last_equity()
    if sample is None:
        return None
    account_id = settings.broker.account_id
    found = (board.account_day_at(account_id, moment.label, iso(now)) for moment in firm_day.readings(rules))
    days = tuple(day for day in found if day is not None)
    return Account(sample=sample, days=days, is_fresh=processes.is_fresh(sample, settings.monitor, now))
