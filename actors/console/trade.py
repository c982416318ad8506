"""`pilot submit|cancel|close|resolve`: the operator's hand on one trade. Part of the operator's command line.

Asks the store and sends nothing to a broker: a submitted trade passes the same gate as every other, and closing is the
monitor's work.
Exit codes: those of pilot.
"""

from __future__ import annotations

from typing import Annotated

import typer
import uuid_utils

from actors.console import asking, finding, tables, text
from actors.console.options import Reason, Yes
from bus import messages
from bus.vocabulary import ExitCode, Side, Status

PIPS_MAX = 10_000.0
POSITION_ID_CHARS_MAX = 64
DOUBT_CHARS_MAX = 300

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog='Example: pilot submit EURUSD BUY --sl 40 --tp 80 --reason "breakout on the daily"')
def submit(
    symbol: Annotated[str, typer.Argument(help="A pair of the settings' symbols, such as EURUSD.")],
    side: Annotated[str, typer.Argument(metavar="BUY|SELL", help="BUY or SELL.")],
    sl: Annotated[float, typer.Option(metavar="PIPS", help="Distance of the stop.")],
    tp: Annotated[float, typer.Option(metavar="PIPS", help="Distance of the target.")],
    reason: Reason,
    ttl_minutes: Annotated[int, typer.Option(min=1, max=1_440, help="Given up when not opened within these.")] = 60,
    yes: Yes = False,
) -> None:
    """Propose and decide a trade yourself. Size, limits, halts and expiry are the gate's, as for every trade."""
    why = asking.need(reason, "--reason")
    settings = asking.settings()
    pair, wanted = symbol.upper(), _side(side)
    if pair not in settings.symbols:
        asking.fail(f"{pair} is not traded here; allowed: {', '.join(settings.symbols)}", ExitCode.USAGE)
    for option, pips in (("--sl", sl), ("--tp", tp)):
        if not 0 < pips <= PIPS_MAX:
            asking.fail(f"{option} was {pips:g}; allowed: above 0 to {PIPS_MAX:g} pips", ExitCode.USAGE)
    what = f"{wanted} {pair}, stop {sl:g} pips, target {tp:g} pips"
    asking.consent(f"Submit {what}, given up after {ttl_minutes} minutes?", yes=yes, otherwise="nothing was submitted")
    command = messages.Submit(
        key=str(uuid_utils.uuid7()), operator=asking.operator(), reason=why, symbol=pair, side=wanted, sl_pips=sl,
        tp_pips=tp, ttl_minutes=ttl_minutes,
    )  # fmt: skip
    ack = asking.ask(command)
    asking.tell(ack, f"{ack.intent_id or ''} {what}", f"follow it: pilot show {(ack.intent_id or '')[:8]}")


@app.command(epilog='Example: pilot close 3f2a --reason "before the payrolls"')
def close(intent_id: finding.IntentId, reason: Reason, yes: Yes = False) -> None:
    """Have the open position of one intent closed at the market. Trading goes on; all of them: pilot flatten."""
    why = asking.need(reason, "--reason")
    with asking.database() as (_, reader):
        full_id = finding.full_id(reader, intent_id)
        intent = finding.intent(reader, full_id)
    if intent.status == Status.OPENED:  # anything else the store refuses, and says why
        what = f"position {intent.position_id}, {intent.suggested_side} {intent.symbol}"
        asking.consent(f"Close {what}, at the market?", yes=yes, otherwise="nothing was closed")
    ack = asking.ask(messages.Close(intent_id=full_id, operator=asking.operator(), reason=why))
    asking.tell(ack, f"{full_id} {intent.symbol}", f"the monitor closes it, see pilot show {full_id[:8]}")


@app.command(epilog='Example: pilot cancel 3f2a --reason "news at noon"')
def cancel(
    intent_id: finding.IntentId,
    reason: Reason,
    yes: Yes = False,
) -> None:
    """Take back an intent that no order was reserved for."""
    why = asking.need(reason, "--reason")
    with asking.database() as (_, reader):
        full_id = finding.full_id(reader, intent_id)
        intent = finding.story(reader, full_id).intent
    what = f"{full_id} {intent.symbol} {intent.suggested_side or '-'} ({intent.status})"
    asking.consent(f"Cancel {what}?", yes=yes, otherwise="nothing was cancelled")
    ack = asking.ask(messages.Cancel(intent_id=full_id, operator=asking.operator(), reason=why))
    asking.tell(ack, f"{full_id} {intent.symbol}")


@app.command(
    epilog='Examples: pilot resolve 3f2a --position W1234 --reason "seen on the page"; '
    'pilot resolve 3f2a --absent --reason "neither open nor in the history"'
)
def resolve(
    intent_id: finding.IntentId,
    reason: Annotated[str, typer.Option(help="How you know. It stands in the journal for good.")],
    position: Annotated[str | None, typer.Option(metavar="ID", help="The order became this position.")] = None,
    absent: Annotated[bool, typer.Option("--absent", help="The order is nowhere at the broker.")] = False,
    yes: Yes = False,
) -> None:
    """Say what became of an order that the executor cannot tell. Look at the broker first: nothing checks your word."""
    wanted = position.strip() if position is not None else None
    if (wanted is not None) == absent:
        asking.fail("give either --position ID or --absent", ExitCode.USAGE)
    if wanted is not None and not 0 < len(wanted) <= POSITION_ID_CHARS_MAX:
        asking.fail(f"--position was {wanted!r}; allowed: 1 to {POSITION_ID_CHARS_MAX} characters", ExitCode.USAGE)
    why = asking.need(reason, "--reason")
    with asking.database() as (_, reader):
        full_id = finding.full_id(reader, intent_id)
        story = finding.story(reader, full_id)
    what = f"position {wanted}" if wanted else "no position at the broker"
    asking.consent(f"{_order_text(story)} is {what}?", yes=yes, otherwise="nothing was changed")
    ack = asking.ask(
        messages.Resolve(intent_id=full_id, operator=asking.operator(), position_id=wanted, reason=why)
    )  # fmt: skip
    asking.tell(ack, f"{full_id} {story.intent.symbol}")


def _order_text(story: tables.Story) -> str:
    """Return an intent's order in one line, with what is open about it."""
    intent, order = story.intent, story.order
    if order is None:
        return f"{intent.id} {intent.symbol} ({intent.status}, no order)"
    plan = order.plan
    doubt = f": {text.line(order.reason, DOUBT_CHARS_MAX)}" if order.reason else ""
    return (
        f"{intent.id} {plan.side} {plan.volume} {plan.symbol} SL {plan.sl_price} TP {plan.tp_price}, "
        f"reserved {order.reserved_at} ({order.status}{doubt})"
    )


def _side(given: str) -> Side:
    sides: dict[str, Side] = {"BUY": "BUY", "SELL": "SELL"}
    if given.upper() not in sides:
        asking.fail(f"side was {given!r}; allowed: {' or '.join(sides)}", ExitCode.USAGE)
    return sides[given.upper()]
