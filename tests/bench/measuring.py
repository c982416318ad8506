"""What measuring costs: one measurement, a beat with and without totals, and a tick of the store with and without them.

.venv/bin/python -m tests.bench.measuring
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from loguru import logger

from bus import codec
from bus.messages import Envelope, Peer
from bus.tallies import Name, Tallies
from bus.vocabulary import Role
from store import connection
from tests.kit.builders import a_beat, a_peer
from tests.kit.store import StoreHarness

ROUNDS = 9
TICKS = 60
PROCESSES = (*(a_peer(Role.LLM, slot) for slot in (1, 2, 3)), a_peer(Role.EXECUTOR), a_peer(Role.MONITOR))


def each_us(act: Callable[[], object], times: int) -> float:
    """Return the median over some rounds of one call's time on this processor, in microseconds."""
    spent = []
    for _ in range(ROUNDS):
        begun = time.thread_time_ns()
        for _ in range(times):
            act()
        spent.append((time.thread_time_ns() - begun) / 1_000 / times)
    return statistics.median(spent)


def some(peer: Peer, count: int) -> Tallies:
    """Return what a busy process of that role has counted."""
    found = Tallies()
    names = [one for one in Name if one.startswith("llm" if peer.role is Role.LLM else "broker")]
    for number in range(count):
        found.observe(names[number % len(names)], 0.01 * number)
    return found


def tick_us(store: StoreHarness, *, is_counting: bool) -> float:
    """Return one second of the store: a beat of each process, each with a changed total or none, and the tick."""
    spent, counted = [], {peer: some(peer, 6) for peer in PROCESSES}
    for number in range(TICKS):
        for found in counted.values():
            found.observe(Name.LLM_OK, 0.01 * number)
        beats = [
            Envelope(sender=peer, body=a_beat(tallies=found.told() if is_counting else (), seen_store_epoch=1))
            for peer, found in counted.items()
        ]
        store.clock.advance(1.0)
        begun = time.thread_time_ns()
        store.step(*beats, tick=True)
        spent.append((time.thread_time_ns() - begun) / 1_000)
    return statistics.median(spent)


def main() -> None:
    logger.remove()
    counted, peer = some(PROCESSES[3], 100), PROCESSES[3]
    observe_ns = 1_000 * each_us(lambda: counted.observe(Name.BROKER_READ_OK, 0.03), 20_000)
    bare = each_us(lambda: codec.encode(Envelope(sender=peer, body=a_beat())), 1_000)
    full = each_us(lambda: codec.encode(Envelope(sender=peer, body=a_beat(tallies=counted.told()))), 1_000)
    ticks: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(5):  # in turn, so that what else the machine does falls on both
        for is_counting in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                store = StoreHarness(connection.open_writer(Path(folder) / "decisions.db"))
                ticks[is_counting].append(tick_us(store, is_counting=is_counting))
                store.db.close()
    without, with_them = statistics.median(ticks[False]), statistics.median(ticks[True])
    sys.stdout.write(
        f"one measurement            {observe_ns:5.0f} ns\n"
        f"a beat made and encoded    {bare:5.1f} us, with 6 totals {full:5.1f} us\n"
        f"a second of the store      {without:5.0f} us, with changed totals of 5 processes {with_them:5.0f} us "
        f"(x {with_them / without:.2f}; {100 * (with_them - without) / 1_000_000:.3f} % of a processor)\n"
    )


if __name__ == "__main__":
    main()
