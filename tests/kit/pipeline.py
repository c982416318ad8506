"""The whole pipeline as real processes in folders and on a port of its own, to be started, hurt and looked at.

with pipeline.running(...) as run:
    run.start()
    run.eventually(lambda: run.counts().get("opened") == 3)
    run.kill("executor")
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx

from bus.records import TradeIntent
from config import load
from store.queries import NoDatabase, Reader
from tests.kit import asked, failpoints
from tests.kit.eventually import eventually

T = TypeVar("T")
BIN = Path(sys.executable).parent
STEP_S = 0.05  # between two looks: they cost what the pipeline could use
FOLDER_ENV = "PILOT_TEST_FOLDER"  # of a run that removes whatever its parts leave; paths of sockets must stay short
RULES = load.RULES / "e8-signature-50k.toml"
DEFAULTS: dict[str, dict[str, Any]] = {
    "scanner": {
        "seeds": 1,
        "bar_age_days_max": 3_650,
        "history_bars_min": 400,
        "train_bars_max": 500,
    },
    "store": {"retry_backoff_s": 0.2},
    "executor": {"random_delay_s_max": 0.0, "quiet_s": 1.5, "look_interval_s": 0.1},
    "monitor": {"equity_poll_s": 0.3, "equity_poll_flat_s": 0.3},
    "paper": {"tick_s": 0.1},
    "broker": {"request_timeout_s": 1.0, "connect_timeout_s": 1.0},
    "bus": {"beat_s": 0.2, "dead_s": 1.0, "resend_s": 0.2},
    "supervisor": {"watchdog_s": 1.5},
}


class Pipeline:
    """One pipeline in its own folders."""

    def __init__(self, folder: Path, changes: dict[str, dict[str, Any]]) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.points = folder / "points"
        self.points.mkdir()
        (folder / "run").mkdir(mode=0o700)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.has_dashboard = "dashboard" in changes
        self.has_alerts = "alerts" in changes
        self.dashboard_port = int(changes.get("dashboard", {}).get("port", 0))
        self.profile = self._write_profile(changes)
        self.env = os.environ | {
            "PILOT_DATA": str(self.data),
            "PILOT_RUN": str(folder / "run"),
            "PILOT_PROFILE": str(self.profile),
            "PILOT_FAILPOINTS": str(self.points),
            "PILOT_PAPER_FAULTS": "1",
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
        }
        self.root: subprocess.Popen[bytes] | None = None
        self._log = folder / "console.log"

    # ── starting and stopping ───────────────────────────────────────────────

    def start(self, *arguments: str, command: str = "supervisor") -> subprocess.Popen[bytes]:
        """Start `supervisor ...` or `honcho start ...` in the foreground of its own group.

        Without settings of their own the dashboard and the process of the alerts stay out: no order depends on them,
        they cost every start, and they have tests of their own.
        """
        out = {"alerts=0": self.has_alerts, "dashboard=0": self.has_dashboard}
        if without := ",".join(name for name, is_there in out.items() if not is_there):
            arguments += ("-c" if command == "honcho" else "--scale", without)
        with self._log.open("ab") as log:
            self.root = subprocess.Popen(
                [str(BIN / command), *arguments],
                cwd=load.ROOT, env=self.env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        return self.root

    def stop(self, how: int = signal.SIGINT, deadline_s: float = 15.0) -> int:
        """Signal the foreground process as Ctrl-C does, wait for its end, and return its exit code."""
        assert self.root is not None
        os.killpg(self.root.pid, how)
        try:
            return self.root.wait(deadline_s)
        finally:
            self.root.kill()
            self.root.wait()

    def run(
        self, *arguments: str, command: str = "supervisor", timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the project on this pipeline and return what it said."""
        return subprocess.run(
            [str(BIN / command), *arguments], cwd=load.ROOT, env=self.env, capture_output=True, text=True,
            timeout=timeout_s, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def status(self) -> dict[str, dict[str, Any]]:
        """Return what `supervisor status` tells, by name; empty when nothing runs."""
        return asked.status(self.folder / "run")

    def pid(self, name: str) -> int:
        """Return the pid of a ready process, `executor` or `llm.2`."""
        wanted = name if "." in name else f"{name}.1"

        def ready() -> int:
            one = self.status().get(wanted)
            return int(one["pid"]) if one and one["state"] == "ready" and one["pid"] else 0

        return self.eventually(ready)

    def kill(self, name: str, how: int = signal.SIGKILL) -> int:
        """Signal one actor and return the pid it had."""
        pid = self.pid(name)
        os.kill(pid, how)
        return pid

    def kill_pid(self, pid: int) -> None:
        """Kill a process that does not say that it is ready: one that was stopped."""
        os.kill(pid, signal.SIGKILL)

    def replaced(self, name: str, old_pid: int) -> int:
        """Return the pid of the ready process that took over from `old_pid`."""
        return self.eventually(lambda: (found := self.pid(name)) != old_pid and found, 20)

    def end(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self.root is not None and self.root.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop(signal.SIGTERM, 10)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> dict[int, str]:
        """Return the live processes that run on this pipeline's folders."""
        wanted = f"PILOT_DATA={self.data}".encode()
        found = {}
        for one in Path("/proc").iterdir():
            try:
                if one.name.isdigit() and wanted in (one / "environ").read_bytes().split(b"\0"):
                    found[int(one.name)] = (one / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:100]
            except OSError:
                continue
        return found

    # ── hurting ─────────────────────────────────────────────────────────────

    def arm(self, point: str, action: str = "kill", *, at_pass: int = 1) -> None:
        failpoints.arm(self.points, point, action, at_pass=at_pass)

    def fired(self, point: str) -> bool:
        return failpoints.has_fired(self.points, point)

    def broker(self, path: str, **body: Any) -> Any:
        """Use a test control of the paper broker, once it listens: `/paper/faults`, `/paper/price`, `/paper/close`."""

        def post() -> httpx.Response | None:
            try:
                return httpx.post(self.url + path, json=body, trust_env=False)
            except httpx.TransportError:
                return None

        answer = self.eventually(post)
        assert answer.status_code == 200, answer.text
        return answer.json() if answer.content else None

    # ── looking ─────────────────────────────────────────────────────────────

    def reader(self) -> contextlib.closing[Reader]:
        return contextlib.closing(Reader(self.data / "decisions.db"))

    def counts(self) -> dict[str, int]:
        """Return the intents by status; nothing while there is no database."""
        try:
            with self.reader() as reader:
                return reader.status_counts()
        except NoDatabase:
            return {}

    def intents(self, status: str | None = None) -> list[TradeIntent]:
        with self.reader() as reader:
            return reader.intents(status=status, limit=1_000)

    def positions(self) -> list[dict[str, Any]]:
        """Return what the paper broker's own ledger says it placed: the truth of every test."""
        ledger = self.data / "paper" / "ledger.jsonl"
        rows = [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []
        return [row for row in rows if row.get("kind") == "placed"]

    def console(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def eventually(self, check: Callable[[], T], deadline_s: float = 20.0) -> T:
        """Wait for `check`; on failure show the end of the console."""
        try:
            return eventually(check, deadline_s, step_s=STEP_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n--- console ---\n{self.console()[-6_000:]}") from None

    def all_settled(self) -> bool:
        """Return whether the first scan's three intents are there and each is opened or final."""
        counts = self.counts()
        return sum(counts.values()) >= 3 and not counts.keys() & {
            "pending",
            "claimed",
            "ready_for_exec",
            "executing",
            "timed_out",
        }

    def _write_profile(self, changes: dict[str, dict[str, Any]]) -> Path:
        rules = self.folder / "test-rules.toml"
        text = RULES.read_text()
        for old, new in (("e8-signature-50k", "test-rules"), ("per_day = 2_000", "per_day = 5_000_000")):
            assert old in text
            text = text.replace(old, new)
        rules.write_text(text)
        sections = {name: dict(values) for name, values in DEFAULTS.items()}
        for name, values in changes.items():
            sections.setdefault(name, {}).update(values)
        sections.setdefault("compliance", {}).setdefault("rules", str(rules))
        sections["paper"]["port"] = self.port
        sections["broker"]["base_url"] = self.url
        lines = [
            line
            for name, values in sections.items()
            for line in (f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()))
        ]
        path = self.folder / "test.toml"
        path.write_text("\n".join(lines) + "\n")
        return path


def new_folder(prefix: str) -> Path:
    """Return a new folder with a short path."""
    return Path(tempfile.mkdtemp(prefix=prefix, dir=os.environ.get(FOLDER_ENV, "/tmp")))


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(**changes: dict[str, Any]) -> Iterator[Pipeline]:
    """Make a pipeline whose settings differ from the test defaults by `changes`, by section. Leaves nothing behind."""
    folder = new_folder("pp-")
    found = Pipeline(folder, changes)
    try:
        yield found
    finally:
        found.end()
        shutil.rmtree(folder, ignore_errors=True)
