"""Time from `kill -9` to ready and to useful work. Run: `python -m tests.bench.recovery [KILLS] [--ours]`.

Each role of a running pipeline is killed KILLS times (8), under `supervisor` and under `supervisor --spares`. A life
counts as stable after 0.01 s instead of a minute, and 100 restarts are allowed: what is measured is the replacement of
a process that had worked, not the pause before the next try of one that dies again and again. `--ours` leaves out the
other process managers.

ready     the supervisor's line that says so
work      store: the last of 20 commands that were sent while it was dead is acked. llm: it begins an analysis that was
          proposed when it died. executor: it is given an intent, after its complete look at the account. monitor: it
          has polled the account.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

from msgspec import structs

from actors.analysts import verdict
from bus import messages, runtime
from bus.clock import SystemClock, iso
from bus.link import Link
from bus.records import Signal
from bus.vocabulary import Role
from config.settings import Bus
from supervisor import client, control
from tests.bench import others
from tests.kit import console, pipeline
from tests.kit.pipeline import Pipeline

ROLES = ("store", "llm", "executor", "monitor")
KILLS = 8
UNACKED = 20
REST_S = 0.3
DEADLINE_S = 20.0
SETTINGS = {"stable_s": 0.01, "restarts_max": 100, "restarts_window_s": 1.0}
T = TypeVar("T")
Times = dict[str, list[tuple[float, float]]]


class Bench:
    """One running pipeline and a link of our own to its store, as a second scanner and as an operator."""

    def __init__(self, run: Pipeline, *, spares: bool) -> None:
        self._run = run
        self._spares = spares
        self._console = ""
        self._offset = 0
        self._proposed = 0
        self._links: list[Link] = []
        self._signal: Signal | None = None

    async def measure(self, kills: int) -> Times:
        """Kill every role `kills` times; return milliseconds to ready and to work."""
        self._run.start(*(["--spares"] if self._spares else []))
        await self._until(self._run.all_settled)
        self._folder = next((self._run.folder / "run").glob("pilot-*"))
        for role in (Role.SCANNER, Role.PILOT):
            self._links.append(
                Link(messages.Peer(role, 2, runtime.new_incarnation()), Bus(resend_s=0.2), self._folder, SystemClock())
            )
            self._links[-1].open()
        found = verdict.signal_of(next(one for one in self._run.intents() if one.status == "opened"))
        assert isinstance(found, Signal)
        self._signal = found
        times: Times = {name: [] for name in ROLES}
        for name in ROLES:
            for _ in range(kills):
                await self._at_rest()
                times[name].append(await self._kill(name))
        for link in self._links:
            link.close()
        return times

    async def _kill(self, role: str) -> tuple[float, float]:
        pid = self._status()[f"{role}.1"].pid
        assert pid
        self._read()
        begin = len(self._console)
        killed_at = time.time()
        os.kill(pid, signal.SIGKILL)
        done_at = await getattr(self, f"_work_of_{role}")(begin, killed_at)
        ready_at = await self._line(rf"{role}\.1 is ready after", begin)
        return (ready_at - killed_at) * 1_000, (done_at - killed_at) * 1_000

    async def _work_of_store(self, begin: int, killed_at: float) -> float:
        command = messages.Cancel(intent_id="0" * 16, operator="bench", reason="a measurement")
        await asyncio.gather(*(self._links[1].ask(command, DEADLINE_S) for _ in range(UNACKED)))
        return time.time()

    async def _work_of_llm(self, begin: int, killed_at: float) -> float:
        await self._propose()
        return await self._line(r"llm\.1 +Analysing", begin)

    async def _work_of_executor(self, begin: int, killed_at: float) -> float:
        await self._propose()
        looked_at = await self._line(r"executor\.1 +Looked at the account", begin)
        return await self._line(r"\(take\) by executor\.1", begin, looked_at)

    async def _work_of_monitor(self, begin: int, killed_at: float) -> float:
        since = iso(datetime.fromtimestamp(killed_at, UTC))
        with self._run.reader() as reader:
            await self._until(lambda: (found := reader.last_equity()) is not None and found.at > since)
            found = reader.last_equity()
        assert found is not None
        return datetime.fromisoformat(found.at).timestamp()

    async def _propose(self) -> None:
        """Propose a pair that was traded before, on a bar of its own."""
        assert self._signal is not None
        self._proposed += 1
        bar = date(2020, 1, 1) + timedelta(days=self._proposed)
        signal_now = structs.replace(self._signal, bar_time=bar.isoformat())
        await self._links[0].ask(messages.Propose(signal=signal_now, trade_date=bar.isoformat()), DEADLINE_S)

    async def _at_rest(self) -> None:
        def calm() -> bool:
            found = self._status()
            spares = sum(child.state == "spare" for child in found.values())
            slots = [child for child in found.values() if not child.name.endswith(".spare")]
            ready = len(slots) == 6 and all(child.state == "ready" for child in slots)
            return ready and spares == (4 if self._spares else 0) and self._run.all_settled()

        await self._until(calm)
        await asyncio.sleep(REST_S)
        await self._until(self._run.all_settled)

    def _status(self) -> dict[str, control.ChildStatus]:
        return {child.name: child for child in client.children_of(client.Client(self._folder, 5.0).status())}

    async def _line(self, pattern: str, begin: int, after: float = 0.0) -> float:
        """Wait for a line of the console after `begin`, of a later moment than `after`; return its time.

        A line about an arrow carries the arrow's moment, and may stand behind lines about what came after it.
        """
        wanted = re.compile(rf"^{console.STAMP} .*{pattern}", re.MULTILINE)

        def look() -> float | None:
            self._read()
            found = (console.moment(stamp) for stamp in wanted.findall(self._console, begin))
            return next((at for at in found if at > after), None)

        at = await self._until(look)
        assert at is not None
        return at

    def _read(self) -> None:
        with (self._run.folder / "console.log").open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        self._offset += len(added)
        self._console += added.decode(errors="replace")

    async def _until(self, check: Callable[[], T]) -> T:
        deadline = time.monotonic() + DEADLINE_S
        while not (found := check()):
            if time.monotonic() > deadline:
                raise TimeoutError(self._run.console()[-4_000:])
            await asyncio.sleep(0.005)
        return found


def report(title: str, times: Times) -> None:
    """Write one table to standard output."""
    sys.stdout.write(f"\n{title}\n{'':<10}{'kill to ready, ms':>30}{'kill to work, ms':>30}\n")
    sys.stdout.write(f"{'':<10}" + 2 * "".join(f"{name:>10}" for name in ("p50", "p99", "worst")) + "\n")
    for role, found in times.items():
        cells = [value for column in zip(*found, strict=True) for value in summary(column)]
        sys.stdout.write(f"{role:<10}" + "".join(f"{value:>10.0f}" for value in cells) + "\n")


def summary(values: tuple[float, ...] | list[float]) -> tuple[float, float, float]:
    """Return median, 99th percentile (of the sample: the worst below 100 values) and worst."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[max(0, -(-len(ordered) * 99 // 100) - 1)], ordered[-1]


def main() -> None:
    arguments = [one for one in sys.argv[1:] if one != "--ours"]
    kills = int(arguments[0]) if arguments else KILLS
    sys.stdout.write(f"{kills} kills of each; every life counts as stable, 100 restarts are allowed: neither enters\n")
    for title, spares in (("supervisor", False), ("supervisor --spares", True)):
        with pipeline.running(supervisor={"watchdog_s": 1.5, **SETTINGS}) as run:
            report(title, asyncio.run(Bench(run, spares=spares).measure(kills)))
            run.stop()
    if "--ours" in sys.argv:
        return
    sys.stdout.write("\na process that imports zmq, msgspec, loguru and httpx: kill to imported, ms\n")
    for name, found in others.rows(min(kills, 5)):
        said = found if isinstance(found, str) else "".join(f"{value:>10.0f}" for value in summary(found))
        sys.stdout.write(f"{name:<26}{said}\n")


if __name__ == "__main__":
    main()
