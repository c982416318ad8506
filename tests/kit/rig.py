"""A store, a paper broker and intents that are ready, as real processes and files: what else runs, a test starts.

with rig.rig("EURUSD") as found:
    executor = found.start()
    found.until("opened")
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from actors.compliance import day as days
from actors.compliance import rulebook
from config import load
from tests.kit import pipeline
from tests.kit.desk import Shifted
from tests.kit.execution import TradingStore
from tests.kit.pipeline import Pipeline

LICENCE_S = 0.3
BROKER = {"connect_timeout_s": 0.3, "request_timeout_s": 0.3}


class Rig:
    """One pipeline's folders, with intents that are ready to be executed, and its processes, started one by one."""

    def __init__(self, run: Pipeline, *symbols: str, limits: tuple[int, int] | None = None) -> None:
        self.run = run
        self.rules = run.folder / "test-rules.toml"
        run.data.mkdir(mode=0o700)
        if limits is not None:
            self._limit(*limits)
        store = TradingStore(run.data / "decisions.db", Shifted())
        try:
            self.ids = [store.ready(symbol) for symbol in symbols]
        finally:
            store.close()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.start("store")
        self.start("actors.paper")
        run.broker("/paper/faults", fault="slow", on="login", seconds=0.0)  # it listens

    def _limit(self, per_day: int, reserve: int) -> None:
        text = self.rules.read_text()
        for old, new in (
            ("per_day = 5_000_000", f"per_day = {per_day}"),
            ("\nreserve = 50 ", f"\nreserve = {reserve} "),
        ):
            assert old in text
            text = text.replace(old, new)
        self.rules.write_text(text)

    def start(self, module: str = "actors.executor", **env: str) -> subprocess.Popen[bytes]:
        with self.run._log.open("ab") as log:
            found = subprocess.Popen(
                [sys.executable, "-m", module], cwd=load.ROOT, env=self.run.env | env, stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.processes.append(found)
        return found

    def end(self) -> None:
        for process in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            process.kill()
            process.wait()

    def status(self, number: int = 0) -> str:
        with self.run.reader() as reader:
            intent = reader.intent(self.ids[number])
        return str(intent.status) if intent else "none"

    def until(self, status: str, number: int = 0) -> None:
        self.run.eventually(lambda: self.status(number) == status)

    def reason(self, number: int = 0) -> str:
        with self.run.reader() as reader:
            return reader.transitions(self.ids[number])[-1].reason

    def read(self, what: str) -> Any:
        with self.run.reader() as reader:
            return getattr(reader, what)()

    def requests(self) -> tuple[int, int]:
        """Return the requests, reads and writes together, that the broker received and that the store counts."""
        answer = httpx.get(self.run.url + "/paper/requests", trust_env=False).json()
        today = days.firm_days(rulebook.load(str(self.rules)), datetime.now(UTC))[0]
        with self.run.reader() as reader:  # read after the broker: what it received then was counted before
            return answer["reads"] + answer["writes"], sum(reader.requests(today.day))

    def received(self) -> int:
        """Return how many orders reached the broker."""
        ledger = self.run.data / "paper" / "ledger.jsonl"
        return ledger.read_text().count('"kind":"received"') if ledger.exists() else 0


@contextlib.contextmanager
def rig(*symbols: str, limits: tuple[int, int] | None = None, **executor: Any) -> Iterator[Rig]:
    """Make a rig; `limits` are the requests of a day and those kept for closing, `executor` its settings."""
    usual = {"licence_s": LICENCE_S, "quiet_s": 0.6, "look_interval_s": 0.05}
    with pipeline.running(executor=usual | executor, broker=BROKER) as run:
        found = Rig(run, *symbols or ("EURUSD",), limits=limits)
        try:
            yield found
        finally:
            found.end()


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
