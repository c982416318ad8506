"""Every text that people are sent, and nothing else. Pure; library of the alerts process.

Made from figures, with units: USD, lots, pips, %, s. Nothing here is escaped or masked: whoever sends it does that. The
texts are compared with tests/unit/golden_alerts/ to the letter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from actors.compliance.money import amount
from actors.console import text
from actors.console.room import Room
from actors.console.why import Why
from actors.market import pips
from actors.market.errors import BadBars
from bus.records import Halt, Order, OrderPlan, TradeIntent
from config import dollars
from store.outbox import Alert
from store.results import Result

MARKS = {"info": "ℹ", "warning": "⚠", "error": "⛔"}
LINE_CHARS_MAX = 500
GROUP_LINE_CHARS_MAX = 240
SHOWN_MAX = {"info": 3, "warning": 5, "error": 8}  # of many alerts of one event, the newest
TITLES = {
    "attested": "Rules attested", "backup_failed": "Backup failed", "backup_overdue": "Backup overdue",
    "broker_login": "Broker refuses the login",
    "broker_unreachable": "Broker unreachable", "clock": "Wall clock was set back", "day_declared": "Day declared",
    "day_unknown": "Start of the day unknown", "flattened": "Flattening", "integrity_failed": "Database is damaged",
    "llm_away": "Language model away", "llm_back": "Language model back", "llm_budget": "Language model budget spent",
    "order_resolved": "Order settled by the operator", "orphan_adopted": "Position adopted",
    "orphan_closed": "Position of nobody closed", "orphan_left": "Position of nobody left to you",
    "orphan_position": "Position of nobody", "overfilled": "More filled than ordered",
    "position_missing": "Position missing in the history", "process_given_up": "Process given up",
    "pipeline_stopping": "Pipeline stops", "requests_spent": "Requests of the day spent", "resumed": "Trading resumed",
    "scan_failed": "Scan failed", "stale_data": "Stale data", "symbols_left_out": "Pairs left out of the scan",
    "sweep_refused": "Upkeep of the database refused",
    "telegram_conflict": "Somebody else polls this bot", "telegram_stranger": "A stranger wrote to the bot",
}  # fmt: skip
LEVELS = {
    "ok": "ok again", "warn_50": "50 % used", "warn_80": "80 % used", "stop": "no new orders",
    "flatten": "everything is closed", "breach": "BREACHED",
}  # fmt: skip
ORDERS_MAX, HALTS_MAX = 12, 6
AGAIN = "Sent again: it may have reached you before."


class Words(Struct, frozen=True):
    """One paragraph: a heading and the lines below it."""

    heading: str
    lines: tuple[str, ...] = ()


# ── one alert ───────────────────────────────────────────────────────────────


def of(alert: Alert, currency: str) -> Words:
    """Return what one alert says, with when it happened and where to look."""
    title, lines = _said(alert, currency)
    stamp = f"{alert.at[:10]} {alert.at[11:19]} UTC, {alert.actor}"
    if alert.intent_id:
        stamp += f", intent {alert.intent_id}"
    cut = tuple(text.line(line, LINE_CHARS_MAX) for line in lines if line)
    return Words(f"{MARKS[alert.level]} {text.line(title, 120)}", (*cut, stamp))


def of_many(alerts: Sequence[Alert], currency: str) -> Words:
    """Return what many alerts of one event say: how many, and the newest of them."""
    shown = alerts[-SHOWN_MAX[alerts[0].level] :]
    lines = [f"{alerts[0].at[11:19]} to {alerts[-1].at[11:19]} UTC"]
    if len(alerts) > len(shown):
        lines[0] += f"; the last {len(shown)} of {len(alerts)}:"
    for one in shown:
        title, found = _said(one, currency)
        lines.append(text.line(f"{one.at[11:19]} {title}. {' '.join(found)}", GROUP_LINE_CHARS_MAX))
    return Words(f"{MARKS[alerts[0].level]} {len(alerts)} × {_name(alerts[0].event)}", tuple(lines))


def of_old(alerts: Sequence[Alert], currency: str) -> Words:
    """Return the sum of what happened while nobody could be told."""
    counts: dict[str, int] = {}
    for one in alerts:
        counts[one.event] = counts.get(one.event, 0) + 1
    closed = [int(one.data["net_profit_cents"] or 0) for one in alerts if "net_profit_cents" in one.data]
    lines = [", ".join(f"{times} × {_name(event).lower()}" for event, times in counts.items())]
    if closed:
        lines.append(f"Closed with {signed(sum(closed))} {currency} net in all")
    span = f"{alerts[0].at[:16].replace('T', ' ')} to {alerts[-1].at[:16].replace('T', ' ')} UTC"
    return Words(f"{MARKS['info']} Earlier, {span}", tuple(text.line(line, LINE_CHARS_MAX) for line in lines))


def bare(first_seq: int, through_seq: int) -> str:
    """Return what is sent in the place of a text that the channel does not take."""
    return f"Alerts {first_seq} to {through_seq} cannot be shown here; see the log of the alerts process, or pilot."


def signed(cents: int) -> str:
    """Return cents with their sign: `+12.34`, `-5.00`, `0.00`."""
    return f"{'+' if cents > 0 else ''}{amount(cents)}"


def _said(alert: Alert, currency: str) -> tuple[str, tuple[str, ...]]:
    """Return heading and lines of an alert. One that lacks its figures, as of an older version, is shown as written."""
    made = next((make for names, make in MADE if alert.event in names), None)
    if made is not None and alert.data:
        try:
            return made(alert.data, currency)
        except (KeyError, TypeError, ValueError):
            pass
    return _name(alert.event), (alert.text,)


def _name(event: str) -> str:
    return TITLES.get(event, event.replace("_", " ").capitalize())


# ── answers to commands ─────────────────────────────────────────────────────

NO = "No, leave it"
EXPIRED = "This button is used, too old, or not yours. Give the command again."
DOES = {
    "pause": "No new orders until you resume; positions stay as they are.",
    "resume": "New orders are allowed again. These halts are lifted, and no others:",
    "flatten": "Every position is closed and every waiting order cancelled; no new orders until you resume.",
}


def status(
    *, profile: str, account_id: str, alive: Sequence[str], counts: dict[str, int], halts: Sequence[Halt],
    unresolved: int, room: Room,
) -> Words:  # fmt: skip
    """Return how the pipeline and the account stand."""
    live = [f"{times} {name}" for name, times in counts.items() if name not in ("closed", "cancelled")]
    lines = [f"Running: {', '.join(alive) or 'nothing'}"]
    if room.balance_cents is not None and room.equity_cents is not None:
        money = f"Equity {amount(room.equity_cents)}, balance {amount(room.balance_cents)} {room.currency}"
        lines.append(f"{money} ({room.age_s} s ago)")
    lines += [
        f"Room {one.name}: {amount(one.room_cents)} {room.currency} of {amount(one.limit_cents)}, "
        f"{one.used_percent} % used, {one.level}"
        for one in room.limits
    ]
    lines += [f"Not known: {one}" for one in room.unknown]
    lines += [
        f"Requests left today: {room.budget.left} of {room.budget.per_day}",
        f"Intents: {', '.join(live) or 'none'}",
        f"Orders without a known outcome: {unresolved}",
        *(f"HALT {one.id} ({one.kind}): {one.reason}" for one in halts[:HALTS_MAX]),
    ]
    return Words(f"Status of {profile}, account {account_id}", _short(lines if halts else [*lines, "No halt stands"]))


def why(found: Why) -> Words:
    """Return why a pair or an intent was traded or not."""
    facts = [f"{one.name}: {one.value}" for one in found.facts]
    return Words(f"{found.symbol}: {found.verdict.replace('_', ' ')}", _short([found.said, *facts]))


def why_of_what(matching: int) -> Words:
    return Words(f"{matching} intents match. Give a pair or more of the id: /why EURUSD, /why 0123abcd")


def profit(found: Sequence[tuple[str, Result]], currency: str) -> Words:
    """Return what was earned in each span."""
    lines = []
    for name, one in found:
        rate = f", {one.wins} won ({100 * one.wins / one.trades:.0f} %)" if one.trades else ""
        worst = f", largest loss {amount(one.largest_loss_cents)} {currency}" if one.largest_loss_cents else ""
        lines.append(f"{name}: net {signed(one.net_profit_cents)} {currency}, {one.trades} closed{rate}{worst}")
    return Words("Closed positions", tuple(lines))


def orders(
    *, opened: Sequence[tuple[TradeIntent, Order]], unresolved: Sequence[Order], live: Sequence[TradeIntent],
    currency: str,
) -> Words:  # fmt: skip
    """Return what is open, unknown or on its way."""
    lines = [f"Open: {_plan(one.plan, currency)}; intent {intent.id}" for intent, one in opened]
    lines += [f"UNKNOWN: {_plan(one.plan, currency)}; intent {one.intent_id}" for one in unresolved]
    lines += [f"{one.status}: {one.suggested_side or ''} {one.symbol}; intent {one.id}" for one in live]
    more = [f"... and {len(lines) - ORDERS_MAX} more"] if len(lines) > ORDERS_MAX else []
    return Words(f"Positions open: {len(opened)}", _short([*lines[:ORDERS_MAX], *more] or ["Nothing is on its way"]))


def _plan(plan: OrderPlan, currency: str) -> str:
    target = f"TP {plan.tp_price}" if plan.tp_price else "no TP"
    risk = f"at risk {amount(plan.loss_cents)} {currency}"
    return f"{plan.side} {plan.volume} lots {plan.symbol} from {plan.entry_price}, SL {plan.sl_price}, {target}, {risk}"


def confirm(change: str, halts: Sequence[str], lifetime_s: float) -> Words:
    """Return the question before a change."""
    lines = [DOES[change], *(f"- {reason}" for reason in halts), f"The button is good for {lifetime_s:.0f} s, once."]
    return Words(f"{change.capitalize()}?", _short(lines))


def yes(change: str) -> str:
    return f"Yes, {change}"


def done(change: str, answers: Sequence[str]) -> Words:
    return Words(f"{change.capitalize()}: asked of the store", _short(list(answers)))


def answered(outcome: str, reason: str) -> str:
    """Return the store's answer as a sentence."""
    said = {"applied": "Done", "already": "It stood so already", "refused": "REFUSED", "stale": "REFUSED"}[outcome]
    return f"{said}: {reason}" if reason else f"{said}."


def not_answered(within_s: float) -> str:
    return f"The store did not answer within {within_s:.0f} s. It may have been done all the same: look at /status."


def left_alone(change: str) -> Words:
    return Words(f"{change.capitalize()}: left alone, nothing was changed.")


def nothing_to_resume() -> Words:
    return Words("No halt stands; there is nothing to resume.")


def too_old(command: str, age_s: float) -> Words:
    return Words(f"/{command} was not run: it is {age_s / 60:.0f} min old. Give it again if you still want it.")


def not_readable(problem: str) -> Words:
    return Words("The records cannot be read now.", _short([problem]))


def help_text(*, known: bool) -> Words:
    lines = (
        "/status, /profit, /orders: how things stand",
        "/why [pair or intent]: why it was traded or not; without either, the newest intent",
        "/pause, /resume, /flatten [reason]: after a button is pressed",
    )
    return Words("Commands" if known else "No such command. There are:", lines)


def _short(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(text.line(line, LINE_CHARS_MAX // 2) for line in lines)


# ── one function an event: figures in, heading and lines out ────────────────

Said = tuple[str, tuple[str, ...]]
Figures = dict[str, Any]


def _intent_created(data: Figures, currency: str) -> Said:
    score = f"score {float(data['score']):.4f}, {data['confidence']} confidence, {data['timeframe']}"
    return f"Intent created: {data['symbol']}", (f"Hint {data.get('side_hint', 'none')}, {score}",)


def _order(data: Figures) -> str:
    return f"{data['side']} {data['volume_lots']} lots {data['symbol']}" if "volume_lots" in data else data["symbol"]


def _distance(data: Figures, name: str) -> str:
    """Return a price with its distance from the fill in pips: `1.08010 (50.2 pips)`."""
    price, fill = data[name], data.get("fill_price") or data["planned_price"]
    if float(price) == 0:
        return "none"
    try:
        return f"{price} ({abs(float(price) - float(fill)) / pips.pip(data['symbol']):.1f} pips)"
    except BadBars:
        return str(price)


def _trade_executed(data: Figures, currency: str) -> Said:
    lots, fill = data.get("filled_lots") or data["volume_lots"], data.get("fill_price") or data["planned_price"]
    return f"Trade executed: {_order(data)}", (
        f"Filled {lots} lots at {fill}; SL {_distance(data, 'sl_price')}, TP {_distance(data, 'tp_price')}",
        f"At risk {amount(data['loss_cents'])} {currency}, target {amount(data['profit_cents'])} {currency}; "
        f"position {data.get('position_id', 'unknown')}",
    )


def _compliance_rejected(data: Figures, currency: str) -> Said:
    return f"Compliance rejected: {data.get('side', '')} {data['symbol']}".replace(":  ", ": "), (data["reason"],)


def _order_failed(data: Figures, currency: str) -> Said:
    return f"Order failed: {_order(data)}", (data["reason"], "No position came from it.")


def _order_unknown(data: Figures, currency: str) -> Said:
    wait = "It is being looked for and counts as open; no new order until it is settled (pilot resolve, if need be)."
    return f"Order's outcome unknown: {_order(data)}", (data["reason"], wait)


def _order_recovered(data: Figures, currency: str) -> Said:
    return f"Recovery: {_order(data)}", ("A new executor finds out what became of this order; it opens nothing twice.",)


def _intent_failed(data: Figures, currency: str) -> Said:
    return f"Intent failed: {data['symbol']}", (data["reason"],)


def _position_closed(data: Figures, currency: str) -> Said:
    why = str(data["reason"]).rpartition(", net ")[0] or data["reason"]
    return f"Position closed: {signed(data['net_profit_cents'])} {currency}, {data['symbol']}", (
        f"{_order(data)}: in at {data.get('fill_price') or data.get('planned_price', 'unknown')}, "
        f"out at {data['close_price']} by {why}; position {data.get('position_id', 'unknown')}",
    )


def _halt(data: Figures, currency: str) -> Said:
    until = f"Until {data['until']}" if data["until"] else "Until the operator resumes"
    title = "Halt: everything is closed, no new orders" if data["flatten"] else "Halt: no new orders"
    return f"{title} ({data['kind']})", (data["reason"], until)


def _level(data: Figures, currency: str) -> Said:
    loss, limit = int(data["loss_cents"]), int(data["limit_cents"])
    kind, _, reset = str(data["limit"]).partition(" ")
    room = max(0, int(data["value_cents"]) - int(data["floor_cents"]))
    back = "back to " * bool(data["is_back"] and data["level"] != "ok")
    return f"{kind.capitalize()} loss limit: {back}{LEVELS.get(data['level'], data['level'])}", (
        f"Lost {amount(loss)} of {amount(limit)} {currency} ({100 * loss // max(1, limit)} %), "
        f"room {amount(room)} {currency}, floor {amount(data['floor_cents'])} {currency}",
        f"Day from {reset}" if reset else "",
    )


def _recovered(data: Figures, currency: str) -> Said:
    return f"Started again (store epoch {data['epoch']})", (
        f"Found intents at work: {data['live_intents']}, open positions: {data['open_positions']}, "
        f"orders without a known outcome: {data['unresolved_orders']}, halts: {data['halts']}",
    )


def _daily_summary(data: Figures, currency: str) -> Said:
    trades, wins = int(data["trades"]), int(data["wins"])
    rate = f" ({100 * wins / trades:.0f} %)" if trades else ""
    lines = [
        f"Net {signed(data['net_profit_cents'])} {currency}",
        f"{data['opened']} opened, {trades} closed, {wins} won{rate}",
        f"Largest loss {amount(data['largest_loss_cents'])} {currency}",
        f"Requests {data['requests']}, of them {data['writes']} writes; language models "
        f"${dollars.text(int(data['llm_cost_micros']))} in {data['llm_calls']} calls (UTC day)",
    ]
    if "balance_cents" in data:
        balance = f"Balance {amount(data['balance_cents'])}, equity {amount(data['equity_cents'])} {currency}"
        lines.insert(0, f"{balance} at {str(data['sampled_at'])[11:16]} UTC")
    rooms = [
        f"{kind} {amount(data[f'{kind}_room_cents'])} {currency}"
        for kind in ("daily", "maximum")
        if f"{kind}_room_cents" in data
    ]
    if rooms:
        lines.append(f"Room to the loss limits at the end: {', '.join(rooms)}")
    return f"Day {data['day']} ({data['reset']})", tuple(lines)


def _alert_backlog(data: Figures, currency: str) -> Said:
    return "Alerts could not be delivered", (
        f"{data['waiting']} alerts have waited for {int(data['waited_s']) // 60} min; last problem: {data['problem']}",
    )


MADE: tuple[tuple[frozenset[str], Callable[[Figures, str], Said]], ...] = (
    (frozenset({"intent_created"}), _intent_created),
    (frozenset({"trade_executed"}), _trade_executed),
    (frozenset({"compliance_rejected"}), _compliance_rejected),
    (frozenset({"order_failed"}), _order_failed),
    (frozenset({"order_unknown"}), _order_unknown),
    (frozenset({"order_recovered"}), _order_recovered),
    (frozenset({"intent_failed"}), _intent_failed),
    (frozenset({"position_closed"}), _position_closed),
    (frozenset({"halt"}), _halt),
    (frozenset(f"{kind}_{level}" for kind in ("daily", "maximum") for level in LEVELS), _level),
    (frozenset({"recovered"}), _recovered),
    (frozenset({"daily_summary"}), _daily_summary),
    (frozenset({"alert_backlog"}), _alert_backlog),
)
