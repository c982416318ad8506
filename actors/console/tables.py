"""What `pilot` shows on a terminal: tables and sections of records, useful at 80 columns, colour only on a terminal.

Used by pilot. Prints what it is given; reads no database and no clock.
"""

from __future__ import annotations

from datetime import datetime
from typing import IO

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from actors.console import checks, text
from bus.records import Closing, DecisionRecord, Order, TradeIntent, Transition

CELL_CHARS_MAX = 300
REPORT_CHARS_MAX = 40_000
ID_CHARS = 8

STYLES = {
    "opened": "green", "closed": "green", "ready_for_exec": "cyan", "executing": "bold cyan", "claimed": "cyan",
    "rejected": "yellow", "timed_out": "yellow", "failed": "red", "cancelled": "dim", "unknown": "bold red",
}  # fmt: skip
LEVEL_STYLES = {"warn_50": "yellow", "warn_80": "yellow", "stop": "red", "flatten": "bold red", "breach": "bold red"}
# Shown in sections of their own.
LONG_FIELDS = ("signal_json", "agent_risk_report", "agent_state_json", "compliance_snapshot")


class Check(Struct, frozen=True):
    """One rule of the guard, as `compliance_snapshot` holds it."""

    name: str = ""
    passed: bool = False
    limit: str = ""
    found: str = ""
    text: str = ""


class Compliance(Struct, frozen=True):
    """The guard's verdict, as `compliance_snapshot` holds it."""

    passed: bool = False
    rule: str | None = None
    reason: str = ""
    checks: tuple[Check, ...] = ()


class Story(Struct, frozen=True, kw_only=True):
    """Everything that is known of one intent."""

    intent: TradeIntent
    decision: DecisionRecord | None
    order: Order | None
    transitions: list[Transition]
    compliance: Compliance | None  # None: the guard has not seen it
    closing: Closing | None  # the operator's order to close it


class Row(Struct, frozen=True, kw_only=True):
    """One intent in a list, with its newest arrow."""

    intent: TradeIntent
    updated_at: str
    reason: str


def console(file: IO[str]) -> Console:
    """Return a console on `file` that takes no text for markup."""
    return Console(file=file, markup=False, emoji=False, highlight=False)


def compliance_of(snapshot: str) -> Compliance | None:
    """Return the guard's verdict in a `compliance_snapshot`; None for none, or one of another shape."""
    try:
        return msgspec.json.decode(snapshot, type=Compliance) if snapshot else None
    except (msgspec.DecodeError, RecursionError):
        return None


def grid(*titles: str) -> Table:
    """Return an empty table without lines whose last column takes what is left."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for title in titles:
        is_last = title == titles[-1]
        table.add_column(title, no_wrap=not is_last, overflow="fold")
    return table


def cell(value: str, style: str = "") -> Text:
    """Return text from outside as a cell."""
    # Text, not str: what comes from outside must never be read as markup or reach the terminal as an escape.
    return Text(text.clean(value, CELL_CHARS_MAX * 4), style)


# ── lists ───────────────────────────────────────────────────────────────────


def show_intents(out: Console, rows: list[Row], now: datetime) -> None:
    """Print a list of intents, one line each. `updated` is the age of the newest arrow."""
    if not rows:
        out.print("no intents")
        return
    table = grid("id", "symbol", "side", "status", "score", "conf", "updated", "reason")
    short = short_ids([row.intent.id for row in rows])
    for row in rows:
        intent = row.intent
        table.add_row(
            short[intent.id], cell(intent.symbol), intent.suggested_side or "-", _status(intent.status),
            f"{intent.scanner_score:+.3f}", cell(intent.scanner_confidence), text.age(row.updated_at, now),
            _one_line(row.reason),
        )  # fmt: skip
    out.print(table)


# ── one intent ──────────────────────────────────────────────────────────────


def show_story(out: Console, story: Story) -> None:
    """Print everything about one intent: fields, signal, report, arrows, checks, order, order to close, decision."""
    intent = story.intent
    head = Text.assemble(intent.id, "  ", intent.symbol, "  ", intent.suggested_side or "-", "  ")
    out.print(head.append_text(_status(intent.status)))
    _fields(out, "Intent", intent, LONG_FIELDS)
    _json(out, "Signal", intent.signal_json)
    if intent.agent_risk_report:
        _heading(out, "Report")
        out.print(Text(text.clean(intent.agent_risk_report, REPORT_CHARS_MAX)))
    _json(out, "Analyst", intent.agent_state_json)
    _heading(out, "Transitions")
    for move in story.transitions:
        _transition(out, move)
    if story.compliance is not None:
        _heading(out, "Compliance: " + ("passed" if story.compliance.passed else f"refused, {story.compliance.reason}"))
        out.print(_checks(story.compliance.checks, out.width))
    if story.order is not None:
        _fields(out, "Order", story.order, ("plan",))
        _fields(out, "Order plan", story.order.plan, ())
    if story.closing is not None:
        _fields(out, "Close ordered", story.closing, ("intent_id",))
    if story.decision is not None:
        _fields(out, "Decision", story.decision, ("compliance_snapshot",))


def _transition(out: Console, move: Transition) -> None:
    """Print one arrow: what and who in one line, why below it. A column for the reason would be too narrow."""
    head = Text.assemble(move.at, f"  {move.event:<12}  ", _status(move.to_status), " " * (16 - len(move.to_status)))
    out.print(head.append(text.line(f"{move.actor}, epoch {move.epoch}", CELL_CHARS_MAX)))
    if move.reason:
        out.print(Padding(cell(text.line(move.reason, CELL_CHARS_MAX * 4), "dim"), (0, 0, 0, 4)))


def _checks(found: tuple[Check, ...], width: int) -> Table:
    """Return verdict, name and reason of each check, whole; its figures beside them where there is room, else below.

    They have no columns: the longest limit would leave none of the width to names and reasons.
    """
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in found:
        word = Text("ok", "dim") if check.passed else Text("NO", "bold red")
        said = cell(text.line(f"{check.name}: {check.text}", CELL_CHARS_MAX * 4), "dim" if check.passed else "")
        limit, finding = (checks.figure(check.name, value) for value in (check.limit, check.found))
        figures = cell(text.line(f"limit {limit}, found {finding}", CELL_CHARS_MAX * 4), "dim")
        is_beside = len(word) + said.cell_len + figures.cell_len + len("     ()") <= width
        before, after = ("   (", ")") if is_beside else ("\n  ", "")
        table.add_row(word, said.append(before).append_text(figures).append(after))
    return table


def _fields(out: Console, title: str, record: Struct, left_out: tuple[str, ...]) -> None:
    _heading(out, title)
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if name not in left_out:
            shown = ", ".join(value) if isinstance(value, tuple) else "-" if value in (None, "") else str(value)
            table.add_row(name, cell(shown or "-"))
    out.print(table)


def _json(out: Console, title: str, raw: str) -> None:
    """Print a JSON object as fields; as it is when it is none; nothing when it is empty."""
    if not raw:
        return
    _heading(out, title)
    try:
        found = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        out.print(cell(raw))
        return
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in found.items():
        table.add_row(cell(name), cell(bytes(value).decode().strip('"')))
    out.print(table)


# ── pieces ──────────────────────────────────────────────────────────────────


def _heading(out: Console, title: str) -> None:
    out.print()
    out.print(Text(text.line(title, CELL_CHARS_MAX), "bold"))


def _one_line(value: str) -> Text:
    """Return a cell that is cut with an ellipsis where the terminal ends."""
    return Text(text.line(value, CELL_CHARS_MAX), no_wrap=True, overflow="ellipsis")


def _status(status: str) -> Text:
    return Text(str(status), STYLES.get(str(status), ""))


def short_ids(ids: list[str]) -> dict[str, str]:
    """Return for each id the beginning that tells it from the others in the list, at least `ID_CHARS` long."""
    for length in range(ID_CHARS, 65):
        short = {found: found[:length] for found in ids}
        if len(set(short.values())) == len(set(ids)):
            return short
    return {found: found for found in ids}
