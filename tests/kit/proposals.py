"""Propose many intents at once, as a second scanner would, to a pipeline that runs."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from bus import messages, runtime
from bus.clock import SystemClock
from bus.link import Link
from bus.vocabulary import Outcome, Role
from config.settings import Bus
from tests.kit import analysis
from tests.kit.eventually import eventually
from tests.kit.pipeline import Pipeline

OWN_SLOT = 60
SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "USDCAD", "USDCHF", "NZDUSD")
FIRST_BAR = date(2026, 9, 30)  # from here backwards, older than any bar that a scanner has
DEADLINE_S = 30.0


def propose(run: Pipeline, count: int, *, first: int = 0, ttl_minutes: int = 240) -> list[str]:
    """Propose `count` intents on bars of their own, the `first`-th and those after it; return their ids, in order."""
    ways: list[Path] = []

    def is_there() -> bool:
        ways[:] = (run.folder / "run").glob("pilot-*/store.in")
        return bool(ways)

    eventually(is_there, DEADLINE_S)
    return asyncio.run(_propose(ways[0].parent, range(first, first + count), ttl_minutes))


async def _propose(run_folder: Path, numbers: range, ttl_minutes: int) -> list[str]:
    link = Link(messages.Peer(Role.SCANNER, OWN_SLOT, runtime.new_incarnation()), Bus(), run_folder, SystemClock())
    link.open()
    try:
        acks = await asyncio.gather(*(link.ask(_command(number, ttl_minutes), DEADLINE_S) for number in numbers))
    finally:
        link.close()
    assert all(ack.outcome is Outcome.APPLIED for ack in acks), acks
    return [ack.intent_id for ack in acks if ack.intent_id]


def _command(number: int, ttl_minutes: int) -> messages.Propose:
    bar = FIRST_BAR - timedelta(days=number // len(SYMBOLS))
    signal = analysis.a_signal(symbol=SYMBOLS[number % len(SYMBOLS)], bar_time=bar.isoformat())
    return messages.Propose(signal=signal, trade_date=datetime.now(UTC).date().isoformat(), ttl_minutes=ttl_minutes)
