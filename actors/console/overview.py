"""The pipeline at a glance, as the database has it: processes, account, room, positions, today. Read and shown.

Used by pilot for `status` and `top`. Asks no broker, and says how old the account's figures are.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from rich.console import Console
from rich.text import Text

from actors.compliance import rulebook
from actors.console import holdings, processes, room, tables, text
from actors.console.holdings import OpenPosition, Today
from actors.console.processes import NotRunning
from actors.console.room import Room
from actors.console.tables import cell
from bus.clock import iso
from bus.records import EquitySample, Halt, LlmDay, Order, Worker
from bus.vocabulary import Role
from config import dollars, load
from config.load import ConfigError
from config.settings import Settings
from store.queries import Reader


class Overview(Struct, frozen=True, kw_only=True):
    """The pipeline at a glance. `requests` are reads and writes of the newest equity's day.

    While `not_running` is not None everything else is what was known then. `workers` are in the state of now.
    `models` is what language models cost today, in UTC. `room` and `today` are None when the rule set cannot be read:
    `rules_problem` then says why.
    """

    profile: str
    database: str
    counts: dict[str, int]
    not_running: NotRunning | None
    workers: list[Worker]
    halts: list[Halt]
    unresolved_orders: list[Order]
    positions: tuple[OpenPosition, ...]
    equity: EquitySample | None
    is_watched: bool  # a monitor runs, and has looked at the account as lately as its pace says
    requests: tuple[int, int] | None
    models: LlmDay | None = None
    room: Room | None = None
    today: Today | None = None
    rules_problem: str = ""


def read(reader: Reader, settings: Settings, now: datetime) -> Overview:
    """Return the pipeline as it stands in the database."""
    sample, written, dead_s = reader.last_equity(), reader.workers(), settings.bus.dead_s
    workers = processes.seen(written, now, dead_s)
    is_fresh = sample is not None and processes.is_fresh(sample, settings.monitor, now)
    found, day, problem = None, None, ""
    try:
        rules = rulebook.load(settings.compliance.rules)
    except ConfigError as error:
        problem = str(error)
    else:
        found, day = room.of(reader, rules, settings.broker.account_id, now), holdings.today(reader, rules, now)
    return Overview(
        profile=settings.profile,
        database=str(load.db_path(settings)),
        counts=reader.status_counts(),
        not_running=processes.not_running(written, now, dead_s),
        workers=workers,
        halts=reader.halts(iso(now)),
        unresolved_orders=reader.unresolved_orders(),
        positions=holdings.open_positions(reader),
        equity=sample,
        is_watched=is_fresh and processes.runs(workers, Role.MONITOR),
        requests=reader.requests(sample.day) if sample else None,
        models=reader.llm_day(now.date().isoformat()),
        room=found,
        today=day,
        rules_problem=problem,
    )


def show(out: Console, found: Overview, now: datetime) -> None:
    """Print the state of the pipeline."""
    out.print(cell(f"{found.profile}: {found.database}"))
    if found.not_running is not None:
        out.print(cell(_down(found.not_running, now), "bold red"))
    _troubles(out, found, now)
    counts = "  ".join(f"{status} {count}" for status, count in found.counts.items())
    out.print(cell(f"intents   {counts or 'none yet'}"))
    held = "  ".join(f"{one.symbol} {one.side} {one.volume} {one.position_id}" for one in found.positions)
    out.print(cell(f"positions {held or 'none'}"))
    if (sample := found.equity) is not None:
        watched = "" if found.is_watched else ", NOT WATCHED now"
        out.print(
            cell(
                f"account   balance {dollars.amount(sample.balance_cents)}  "
                f"equity {dollars.amount(sample.equity_cents)}  loss today {dollars.amount(sample.daily_loss_cents)}  "
                f"level {sample.level} ({text.age(sample.at, now)} ago{watched})",
                "yellow" if watched else "",
            )
        )
    if found.today is not None:
        out.print(cell(f"today     {today_line(found.today)}"))
    if found.room is not None:
        for one in found.room.limits:
            out.print(cell(f"room      {room_line(one)}", tables.LEVEL_STYLES.get(one.level, "")))
        budget = found.room.budget
        if sample is not None or budget.reads or budget.writes:
            out.print(cell(f"requests  {budget_line(budget)}"))
    elif found.requests is not None and sample is not None:
        out.print(cell(f"requests  {sum(found.requests)} on {sample.day} ({found.requests[1]} writes)"))
    if (models := found.models) is not None and (models.calls or models.refusals):
        out.print(cell(f"models    {_models(models)}"))
    if found.workers:
        show_workers(out, found.workers, now)


def room_line(one: room.LimitRoom) -> str:
    """Return a limit in one line: what is left of it, in money and percent."""
    limit, left = dollars.amount(one.limit_cents), dollars.amount(one.room_cents)
    return f"{one.name}: {left} of {limit} left, {one.used_percent}% used, floor {dollars.amount(one.floor_cents)}"


def budget_line(found: room.Budget) -> str:
    """Return the day's requests in one line."""
    used = found.reads + found.writes
    return f"{used} of {found.per_day} on {found.day} ({found.writes} writes), {found.left} left for work"


def today_line(found: Today) -> str:
    """Return the firm's day in one line."""
    said = f"{found.day}: {found.proposed} proposed, {found.opened} opened, {found.closed} closed"
    if not found.closed:
        return said
    return f"{said} ({found.gained} gained, {found.lost} lost), net {dollars.amount(found.net_profit_cents)}"


def show_workers(out: Console, workers: list[Worker], now: datetime) -> None:
    """Print the processes, one line each."""
    table = tables.grid("process", "state", "pid", "beat", "holds", "slots", "done")
    for worker in workers:
        table.add_row(
            cell(worker.name), cell(worker.state, "" if worker.state == "ready" else "yellow"), str(worker.pid),
            text.age(worker.last_beat_at, now), str(worker.holding), str(worker.capacity), str(worker.progress),
        )  # fmt: skip
    out.print(table)


def _down(found: NotRunning, now: datetime) -> str:
    """Return since when nothing runs, and what that means for all below."""
    if found.since is None:
        return "NOT RUNNING: no process was ever heard"
    why = "stopped in order" if found.in_order else "its store has written nothing since"
    return f"NOT RUNNING since {found.since} ({text.age(found.since, now)}): {why}. Below is what was known then"


def _troubles(out: Console, found: Overview, now: datetime) -> None:
    if found.rules_problem:
        out.print(cell(f"RULES: {found.rules_problem}", "bold red"))
    for halt in found.halts:
        until = f" until {halt.until}" if halt.until else ", until it is lifted"
        what = f"HALTED ({halt.kind}) by {halt.raised_by}, {text.age(halt.raised_at, now)} ago{until}: {halt.reason}"
        out.print(cell(what, "bold red"))
    for order in found.unresolved_orders:
        plan = order.plan
        what = f"ORDER {order.status.upper()}: {order.intent_id} {plan.side} {plan.volume} {plan.symbol} {order.reason}"
        out.print(cell(what, "bold red"))
    if found.room is not None and found.equity is not None:
        for one in found.room.unknown:
            out.print(Text(f"NOT KNOWN: {text.line(one, tables.CELL_CHARS_MAX)}", "yellow"), soft_wrap=True)


def _models(found: LlmDay) -> str:
    """Return what language models cost on a day; what is reserved and not settled may still come on top."""
    cost, reserved = dollars.text(found.cost_micros), dollars.text(found.reserved_micros)
    said = f"{found.calls} calls, {found.tokens:,} tokens, ${cost} on {found.day} (UTC)"
    if found.reserved_tokens:
        said += f", reserved {found.reserved_tokens:,} and ${reserved}"
    return said + (f"; {found.refusals} refused" if found.refusals else "")
