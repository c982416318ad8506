"""The four answers at the top of the page, and the words for statuses, processes and limits. Pure.

Library of the dashboard. Each answer is a sentence that stands alone; what it rests on follows in a second one.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from actors.compliance.money import amount
from actors.console.room import LimitRoom
from actors.web.picture import Picture
from bus.vocabulary import Status
from store.board import Holding, Line

Tone = Literal["good", "warn", "bad", "calm"]

STATUSES = {
    Status.PENDING: "waiting",
    Status.CLAIMED: "with an analyst",
    Status.READY_FOR_EXEC: "ready to trade",
    Status.EXECUTING: "being executed",
    Status.OPENED: "open",
    Status.CLOSED: "closed",
    Status.REJECTED: "rejected",
    Status.FAILED: "failed",
    Status.CANCELLED: "cancelled",
    Status.TIMED_OUT: "timed out",
}
TONES: dict[str, Tone] = {
    Status.OPENED: "good", Status.CLOSED: "calm", Status.REJECTED: "warn", Status.FAILED: "bad",
    Status.TIMED_OUT: "warn", "ready": "good", "silent": "bad", "stopped": "calm", "info": "calm", "warning": "warn",
    "error": "bad",
}  # fmt: skip
HEALTHY = "Is it healthy?"
OPEN = "What is open?"
WHY_NOT = "Why was the last signal not traded?"
ROOM = "How much may still be lost today?"
SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£"}
SIGNS: dict[Tone, str] = {"good": "✓", "warn": "!", "bad": "✕", "calm": "·"}
EVENTS = {
    "propose": "Proposed", "claim": "Given to an analyst", "decide_trade": "Judged: trade",
    "decide_hold": "Judged: hold",
    "retry": "Put back", "release": "Handed back", "exhaust": "Given up", "lose_lease": "Its analyst fell silent",
    "recycle": "Put back", "give_up": "Given up", "expire": "Expired", "cancel": "Taken back",
    "invalidate": "Taken back by the scanner", "take": "Taken by the executor", "return": "Returned, nothing was sent",
    "reject": "Refused by the gate", "reserve": "Order reserved", "hand_over": "Handed to a new executor",
    "lose_answer": "Answer lost", "fail": "Failed", "open": "Opened", "adopt": "Adopted", "close": "Closed",
}  # fmt: skip
LEVELS = {
    "ok": "within limits",
    "warn_50": "half used",
    "warn_80": "80% used",
    "stop": "no new orders",
    "flatten": "closing everything",
    "breach": "breached",
}
BEYOND_STOP = ("stop", "flatten", "breach")


class Answer(Struct, frozen=True, kw_only=True):
    """One question of an operator, and its answer. `about` is the intent that it speaks of."""

    question: str
    short: str
    long: str
    tone: Tone
    about: str | None = None


def answers(found: Picture) -> tuple[Answer, ...]:
    """Return the four answers: healthy, open, not traded, room."""
    return (healthy(found), holding(found), why_not(found), room(found))


def unknown(reason: str) -> tuple[Answer, ...]:
    """Return the four answers of a page that has no database to read."""
    questions = (HEALTHY, OPEN, WHY_NOT, ROOM)
    return tuple(
        Answer(question=question, short="Not known", long=reason, tone="bad" if question == HEALTHY else "calm")
        for question in questions
    )


def healthy(found: Picture) -> Answer:
    question = HEALTHY
    if found.is_store_silent:
        last = "nothing has been written for too long" if found.last_beat_at else "no process has ever been heard"
        return Answer(
            question=question, short="No: it is not running", tone="bad",
            long=f"The store is silent: {last}. What you see is the last that was known.",
        )  # fmt: skip
    if found.unresolved and any(held.order_status == "unknown" for held in found.unresolved):
        return Answer(
            question=question, short="An order is in doubt", tone="bad",
            long="Its answer was lost; the executor is looking for it at the broker. Nothing new is sent meanwhile.",
        )  # fmt: skip
    if found.missing:
        names = _and([str(role) for role in found.missing])
        verb = "does" if len(found.missing) == 1 else "do"
        return Answer(
            question=question, short=f"No: {names} {verb} not run", tone="bad",
            long="Without them signals are not made, judged, traded or watched. See Processes below.",
        )  # fmt: skip
    if found.halts:
        closing = any(halt.flatten for halt in found.halts)
        return Answer(
            question=question,
            short="Running, but halted",
            tone="warn",
            long=f"No new orders{', and every position is being closed' if closing else ''}: {found.halts[0].reason}",
        )
    if found.silent:
        names = _and([one.worker.name for one in found.silent])
        return Answer(
            question=question, short=f"Mostly: {names} silent", tone="warn", long="The others beat and do their work."
        )
    if found.account is None:
        return Answer(
            question=question, short="Starting", tone="warn", long="The account has not been looked at yet."
        )  # fmt: skip
    if not found.account.is_fresh:
        return Answer(
            question=question, short="No: the account is not watched", tone="bad",
            long="The monitor runs, but its last look at the account is too old. See Alerts below.",
        )  # fmt: skip
    well = sum(1 for one in found.processes if one.is_well)
    return Answer(
        question=question, short="Yes, trading", tone="good",
        long=f"{well} processes beat, the account is watched, nothing is halted.",
    )  # fmt: skip


def holding(found: Picture) -> Answer:
    question = OPEN
    opened = [held for held in found.holdings if held.order_status == "opened"]
    doubt = f" {len(found.unresolved)} more may exist: not settled yet." if found.unresolved else ""
    if not opened:
        return Answer(
            question=question, short="Nothing" + (" for certain" if doubt else ""), tone="warn" if doubt else "calm",
            long="No position of ours is open." + doubt,
        )  # fmt: skip
    risk_cents = sum(held.plan.loss_cents for held in opened)
    names = ", ".join(short_of(held) for held in opened[:4]) + (" …" if len(opened) > 4 else "")
    floating = f" Now they stand at {signed(found.account.floating_cents, found.currency)}." if found.account else ""
    return Answer(
        question=question, short=_count(len(opened), "position"), tone="warn" if doubt else "good",
        long=f"{names}. At their stops they lose {money(risk_cents, found.currency)} in all.{floating}{doubt}",
    )  # fmt: skip


def why_not(found: Picture) -> Answer:
    question = WHY_NOT
    line = found.not_traded
    if found.newest is None:
        return Answer(question=question, short="There was none yet", tone="calm", long="No signal has been ranked yet.")
    if line is None:
        return Answer(
            question=question, short="None was turned down", tone="good",
            long=f"The newest signal, {found.newest.symbol}, is {STATUSES[found.newest.status]}.",
        )  # fmt: skip
    return Answer(
        question=question, short=f"{line.symbol}: {because(line)}", tone="calm",
        long=line.reason or "No reason was recorded.", about=line.id,
    )  # fmt: skip


def room(found: Picture) -> Answer:
    narrowest = found.room.narrowest
    if narrowest is None:
        return Answer(
            question=ROOM, short="Not known", tone="warn",
            long=f"{sentence(found.room.unknown[0])} Nothing is traded until it is." if found.room.unknown else "",
        )  # fmt: skip
    left = money(narrowest.room_cents, found.currency)
    to_stop = money(max(0, narrowest.value_cents - narrowest.stop_cents), found.currency)
    to_flat = money(max(0, narrowest.value_cents - narrowest.flatten_cents), found.currency)
    long = (
        f"Then the {name_of(narrowest)} is reached. No new order after a loss of {to_stop} more, "
        f"everything is closed after {to_flat}."
    )
    unknown = [one for one in found.room.unknown if "started with" in one]
    if unknown:
        return Answer(question=ROOM, short=f"At most {left}", long=f"{sentence(unknown[0])} {long}", tone="warn")
    return Answer(question=ROOM, short=left, long=long, tone=tone_of_level(narrowest.level))


# ── words ───────────────────────────────────────────────────────────────────


def because(line: Line) -> str:
    """Return in two or three words what ended an intent."""
    words = {
        "decide_hold": "the analyst said hold", "expire": "it expired", "cancel": "the operator took it back",
        "invalidate": "the scanner took it back", "give_up": "no analyst finished it", "reject": "the gate refused it",
        "exhaust": "it failed too often", "fail": "the broker did not take it",
    }  # fmt: skip
    return words.get(line.event, STATUSES[line.status])


def name_of(limit: LimitRoom) -> str:
    """Return a limit's name for people: `daily floor (17:00 America/New_York)`, `maximum floor`."""
    kind, _, reading = limit.name.partition(" ")
    return f"{kind} floor ({reading})" if reading else f"{kind} floor"


def tone_of_level(level: str) -> Tone:
    return "bad" if level in BEYOND_STOP else "good" if level == "ok" else "warn"


def sentence(said: str) -> str:
    """Return some words as a sentence."""
    return said[:1].upper() + said[1:].rstrip(".") + "."


def short_of(held: Holding) -> str:
    return f"{held.plan.side} {held.plan.volume} {held.plan.symbol}"


def money(cents: int, currency: str) -> str:
    """Return an amount with its currency: `$1,234.50`, `−€4.00`."""
    return f"{'−' if cents < 0 else ''}{SYMBOLS.get(currency, currency + ' ')}{amount(abs(cents))}"


def signed(cents: int, currency: str) -> str:
    """Return an amount with its sign in front: `+$12.30`, `−$4.00`, `$0.00`."""
    return f"{'+' if cents > 0 else ''}{money(cents, currency)}"


def tone_of(word: str) -> Tone:
    """Return the tone of a status, a process's state or an alert's level."""
    return TONES.get(word, "calm")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
