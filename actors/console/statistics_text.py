"""How `pilot stats` looks on a terminal. Prints what it is given; used by pilot."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors.console import tables, text
from actors.console.measures import Share
from actors.console.statistics import Count, Statistics, SymbolLine
from config import dollars

DAYS_SHOWN_MAX = 14
CELL_CHARS_MAX = 100


def show(found: Statistics) -> None:
    """Print all of it."""
    out = tables.console(sys.stdout)
    out.print(Text(f"today {found.today.last} (reset {found.reset}): {_count(found.today)}"))
    out.print(Text(f"{found.period.first} to {found.period.last}: {_count(found.period)}"))
    if found.symbols:
        _symbols(out, found)
    if found.requests:
        _requests(out, found)
    if found.models:
        _models(out, found)


def _symbols(out: Console, found: Statistics) -> None:
    table = _table("symbol", "intents", "trades", "closed", "won", "net profit", "mean R", "held")
    for line in (*found.symbols, found.total):
        table.add_row(
            _cell(line.symbol), str(line.intents), str(line.trades), str(line.closed), _share(line.won),
            dollars.amount(line.net_profit_cents), "-" if line.r.value is None else f"{line.r.value:+.2f}", _held(line),
        )  # fmt: skip
    out.print(table)


def _requests(out: Console, found: Statistics) -> None:
    table = _table("firm's day", "process", "reads", "writes")
    days = sorted({line.day for line in found.requests})[-DAYS_SHOWN_MAX:]
    for line in found.requests:
        if line.day in days:
            table.add_row(_cell(line.day), _cell(line.actor), str(line.reads), str(line.writes))
    out.print(table)


def _models(out: Console, found: Statistics) -> None:
    table = _table("UTC day", "endpoint", "calls", "refused", "tokens", "dollars")
    days = sorted({line.day for line in found.models})[-DAYS_SHOWN_MAX:]
    for line in found.models:
        if line.day in days:
            table.add_row(
                _cell(line.day), _cell(line.endpoint), str(line.calls), str(line.refusals), f"{line.tokens:,}",
                dollars.text(line.cost_micros),
            )  # fmt: skip
    out.print(table)


def _count(count: Count) -> str:
    statuses = "  ".join(f"{status} {number}" for status, number in count.by_status.items())
    traded = f"; {_share(count.succeeded)} of the settled ones became a position" if count.succeeded.n else ""
    return f"{count.intents} intents  {statuses}{traded}"


def _share(found: Share) -> str:
    return "-" if found.value is None else f"{100 * found.value:.0f} %"


def _held(line: SymbolLine) -> str:
    if line.held_s is None:
        return "-"
    minutes = round(line.held_s / 60)
    return f"{minutes // 60}h {minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m"


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(names):
        table.add_column(name, justify="left" if index < 1 or name in ("process", "endpoint") else "right")
    return table


def _cell(given: str) -> Text:
    return Text(text.line(given, CELL_CHARS_MAX))
