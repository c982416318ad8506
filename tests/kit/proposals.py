"""Propose many intents at once, as a second scanner would, to a pipeline that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from bus import messages, runtime
from bus.clock import SystemClock
from bus.link import Link
from bus.records import Signal
from bus.vocabulary import Outcome, Role
from config.settings import Bus
from tests.kit import analysis
from tests.kit.eventually import eventually
from tests.kit.pipeline import Pipeline

OWN_SLOT = 60
SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "USDCAD", "USDCHF", "NZDUSD")
FIRST_BAR = date(2026, 9, 30)  # from here backwards, older than any bar that a scanner has
DEADLINE_S = 30.0


def propose(run: Pipeline, count: int, *, first: int = 0, make: Callable[[int], Signal] | None = None) -> list[str]:
    """Propose `count` intents on bars of their own, the `first`-th and those after it; return their ids, in order.

    `make` returns the signal of a number; without it all are clear BUYs.
    """
    signals = [(make or _clear_buy)(number) for number in range(first, first + count)]
    ways: list[Path] = []

    def is_there() -> bool:
        ways[:] = (run.folder / "run").glob("pilot-*/store.in")
        return bool(ways)

    eventually(is_there, DEADLINE_S)
    return asyncio.run(_propose(ways[0].parent, signals))


def bar_of(number: int) -> str:
    """Return the bar that the intent of a number is about: with its symbol no two have the same."""
    return (FIRST_BAR - timedelta(days=number // len(SYMBOLS))).isoformat()


def _clear_buy(number: int) -> Signal:
    return analysis.a_signal(symbol=SYMBOLS[number % len(SYMBOLS)], bar_time=bar_of(number))


async def _propose(run_folder: Path, signals: list[Signal]) -> list[str]:
    link = Link(messages.Peer(Role.SCANNER, OWN_SLOT, runtime.new_incarnation()), Bus(), run_folder, SystemClock())
    link.open()
    try:
        acks = await asyncio.gather(*(link.ask(_command(signal), DEADLINE_S) for signal in signals))
    finally:
        link.close()
    assert all(ack.outcome is Outcome.APPLIED for ack in acks), acks
    return [ack.intent_id for ack in acks if ack.intent_id]


def _command(signal: Signal) -> messages.Propose:
    return messages.Propose(signal=signal, trade_date=datetime.now(UTC).date().isoformat())
