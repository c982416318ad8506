"""Tokens and money of the analysts' calls: reserved before a call, settled after it, counted for the UTC day.

Part of the store process; called by the writer inside a savepoint. Believes no analyst: the limits of the day are the
store's own settings. A reservation that nobody settles counts for ever, so that no kill makes the count too low.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from bus import messages
from bus.messages import Peer
from bus.records import LlmDay
from bus.vocabulary import Outcome
from config import dollars
from config.settings import Llm
from store import halts
from store.decisions import Refused
from store.halts import Answer

if TYPE_CHECKING:
    from store.writer import Writer

SKEW = timedelta(seconds=60)  # between the clocks of two machines, around midnight


def reserve_tokens(writer: Writer, sender: Peer, body: messages.ReserveTokens) -> Answer:
    """Count what a call may cost at most, before it is made; all of it or nothing.

    A refusal by a limit is no error of the sender: it is recorded, and the first one of a day is told to people.

    Raises:
        Refused: the day is not today's.
    """
    days = sorted({(writer.now + skew).date().isoformat() for skew in (-SKEW, timedelta(), SKEW)})
    if body.day not in days:
        raise Refused(f"day {body.day} is not the day in UTC; it is {' or '.join(days)}", tuple(days))
    spent = writer.read.llm_day(body.day)
    if over := _over(spent, body, writer.llm):
        if not spent.refusals:
            halts.alert(
                writer, sender, "error", "llm_budget", f"Language models: {over}; no trades until tomorrow (UTC)"
            )
        _add(writer, sender, body, refusals=1)
        return Outcome.REFUSED, over, None
    _add(writer, sender, body, calls=1, reserved_tokens=body.tokens, reserved_micros=body.cost_micros)
    return Outcome.APPLIED, "", None


def settle_tokens(writer: Writer, sender: Peer, body: messages.SettleTokens) -> Answer:
    """Put what a call did cost in the place of what was reserved for it, by this very process.

    Raises:
        Refused: more than this process has reserved and not settled.
    """
    row = writer.db.execute(
        "SELECT reserved_tokens, reserved_micros FROM llm_usage WHERE day = ? AND endpoint = ? AND actor = ?",
        (body.day, body.endpoint, _name(sender)),
    ).fetchone()
    tokens, micros = (int(str(row[0])), int(str(row[1]))) if row else (0, 0)
    if body.reserved_tokens > tokens or body.reserved_micros > micros:
        raise Refused(
            f"{body.reserved_tokens} tokens and {body.reserved_micros} millionths of a dollar of {body.endpoint} were "
            f"settled for day {body.day}; {sender.name} has {tokens} and {micros} reserved"
        )
    _add(
        writer, sender, body, tokens=body.tokens, cost_micros=body.cost_micros,
        reserved_tokens=-body.reserved_tokens, reserved_micros=-body.reserved_micros,
    )  # fmt: skip
    return Outcome.APPLIED, "", None


def _over(spent: LlmDay, asked: messages.ReserveTokens, limits: Llm) -> str:
    """Return which limit of the day the call would pass, or nothing. None is no limit; 0 lets nothing through."""
    tokens, micros = spent.tokens + spent.reserved_tokens, spent.cost_micros + spent.reserved_micros
    if limits.day_tokens_max is not None and tokens + asked.tokens > limits.day_tokens_max:
        return (
            f"the day's budget of {limits.day_tokens_max} tokens is used up: {tokens} of {asked.day} are counted, "
            f"the call needs up to {asked.tokens}"
        )
    if limits.day_cost_max is not None and micros + asked.cost_micros > dollars.micros(limits.day_cost_max):
        return (
            f"the day's budget of ${limits.day_cost_max} is used up: ${dollars.text(micros)} of {asked.day} are "
            f"counted, the call needs up to ${dollars.text(asked.cost_micros)}"
        )
    return ""


def _name(sender: Peer) -> str:
    return f"{sender.name} {sender.incarnation}"


def _add(
    writer: Writer, sender: Peer, body: messages.ReserveTokens | messages.SettleTokens, **amounts: int
) -> None:  # fmt: skip
    key = (body.day, body.endpoint, _name(sender))
    writer.db.execute("INSERT OR IGNORE INTO llm_usage (day, endpoint, actor) VALUES (?, ?, ?)", key)
    changed = ", ".join(f"{name} = {name} + ?" for name in amounts)
    writer.db.execute(
        f"UPDATE llm_usage SET {changed} WHERE day = ? AND endpoint = ? AND actor = ?", (*amounts.values(), *key)
    )
