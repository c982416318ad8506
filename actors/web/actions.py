"""What an operator can order from the page: each action with its consequence in words, and the command it becomes.

Library of the dashboard. Asks the store for every change, as `pilot` does; never talks to the broker.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from actors.web import words
from bus import messages
from bus.vocabulary import Status
from store.board import Board

REASON_CHARS_MAX = 300
HALTS_MAX = 20
CANCELLABLE = (Status.PENDING, Status.CLAIMED, Status.READY_FOR_EXEC)


class Question(Struct, frozen=True, kw_only=True):
    """What is asked before an action is done. `about` is what it would be done to, exactly as it was shown."""

    action: str
    about: str
    heading: str
    consequences: tuple[str, ...]
    button: str
    is_possible: bool = True


Ask = Callable[[Board, str, str], Question]  # by the moment (ISO) and what it is about


def ask(board: Board, action: str, about: str, now: str) -> Question | None:
    """Return the question of an action, or None when there is no such action."""
    return QUESTIONS[action](board, now, about) if action in QUESTIONS else None


def commands(action: str, about: str, operator: str, reason: str) -> tuple[messages.Command, ...]:
    """Return what to ask of the store. Only halts that the operator has seen are lifted, one by one."""
    if action == "pause":
        return (messages.Pause(operator=operator, reason=reason),)
    if action == "flatten":
        return (messages.Flatten(operator=operator, reason=reason),)
    if action == "cancel":
        return (messages.Cancel(intent_id=about, operator=operator, reason=reason),)
    if action == "close":
        return (messages.Close(intent_id=about, operator=operator, reason=reason),)
    ids = [int(one) for one in about.split(",") if one.isdigit()]
    return tuple(messages.Resume(operator=operator, reason=reason, halt_id=one) for one in ids)


def _pause(board: Board, now: str, about: str) -> Question:
    opened = board.count(status=str(Status.OPENED))
    return Question(
        action="pause",
        about="",
        heading="Stop new orders?",
        consequences=(
            "No new order is sent until an operator resumes.",
            f"What is open stays open and is watched: {opened} now.",
            "Signals are still made and judged; they wait, and expire in their time.",
        ),
        button="Stop new orders",
    )


def _resume(board: Board, now: str, about: str) -> Question:
    standing = [halt for halt in board.halts(now) if about in ("", str(halt.id)) or str(halt.id) in about.split(",")]
    shown = standing[:HALTS_MAX]
    lines = [f"Halt {halt.id} ({halt.kind}, by {halt.raised_by}): {halt.reason}" for halt in shown]
    return Question(
        action="resume",
        about=",".join(str(halt.id) for halt in shown),
        heading="Lift these halts?" if lines else "No halt stands",
        consequences=(*lines, "New orders are possible again as soon as no halt is left.") if lines else (),
        button="Lift and trade again",
        is_possible=bool(lines),
    )


def _flatten(board: Board, now: str, about: str) -> Question:
    held = [words.short_of(one) for one in board.holdings()]
    return Question(
        action="flatten",
        about="",
        heading="Close every position?",
        consequences=(
            "The monitor closes every position of the account and cancels every waiting order, ours or not.",
            f"Of ours there are now: {', '.join(held) or 'none'}.",
            "Results are taken at the market's price, whatever it is. This cannot be undone.",
            "No new order is sent until an operator resumes.",
        ),
        button="Close everything",
    )


def _cancel(board: Board, now: str, about: str) -> Question:
    line = board.line(about)
    if line is None:
        return Question(
            action="cancel", about=about, heading="There is no such intent", consequences=(), button="",
            is_possible=False,
        )  # fmt: skip
    may = line.status in CANCELLABLE
    return Question(
        action="cancel",
        about=about,
        heading=f"Take {line.symbol} back?" if may else f"{line.symbol} cannot be taken back",
        consequences=(
            f"{line.symbol} of {line.trade_date}, {words.STATUSES[line.status]}, ends as cancelled and is never traded."
            if may
            else f"It is {words.STATUSES[line.status]}; only what no order was made for can be taken back.",
        ),
        button="Take it back",
        is_possible=may,
    )


def _close(board: Board, now: str, about: str) -> Question:
    line, order = board.line(about), board.order(about)
    if line is None or order is None or line.status != Status.OPENED:
        return Question(
            action="close", about=about, heading="There is no open position of that intent", consequences=(),
            button="", is_possible=False,
        )  # fmt: skip
    plan = order.plan
    what = f"{plan.side} {plan.volume} {plan.symbol}, position {line.position_id}"
    return Question(
        action="close",
        about=about,
        heading=f"Close {plan.symbol}?",
        consequences=(
            f"The monitor closes {what}, at the market's price, whatever it is. This cannot be undone.",
            "Everything else goes on: other positions stay open, and new orders are sent as before.",
        ),
        button="Close this position",
    )


QUESTIONS: dict[str, Ask] = {
    "pause": _pause, "resume": _resume, "flatten": _flatten, "cancel": _cancel, "close": _close,
}  # fmt: skip
