"""One pipeline under attack: fed with intents, hurt, tended as an operator would, and brought to rest to be checked.

Used by every part of the chaos run. The only thing it does for the pipeline is what a person or systemd does: it starts
a supervisor that was killed. Everything else must recover by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from bus import acklog, messages, runtime
from bus.clock import SystemClock
from bus.errors import NoAnswer
from bus.link import Link
from bus.records import Halt, Order, TradeIntent
from bus.vocabulary import OrderStatus, Role
from config import load
from config.settings import Bus
from store.queries import DatabaseRefused
from supervisor import pidfile
from tests.chaos import checker, histories, recovery
from tests.chaos.checker import Finding
from tests.chaos.figures import Tally
from tests.chaos.histories import Histories
from tests.kit import analysis, pipeline
from tests.kit.pipeline import Pipeline

Changes = dict[str, dict[str, Any]]
RULES = {
    "name": ('name = "e8-signature-50k"', 'name = "chaos-rules"'),
    "open": ("open_max = 3", "open_max = 900"),
    "lots": ('lots_max = "10"', 'lots_max = "900"'),
    "requests": ("per_day = 2_000", "per_day = 9_000_000"),  # and writes
    "reserve": ("\nreserve = 50 ", "\nreserve = 5_000 "),
    "writes' reserve": ("writes_reserve = 20", "writes_reserve = 5_000"),
    "daily": ('ratio = "0.05"', 'ratio = "0.6"'),
    "maximum and target": ('"0.08"', '"0.9"'),
    "trailing": ('mode = "static"', 'mode = "trailing_closed"'),
    "best day": ('ratio = "0.40"', 'ratio = "1"'),
    "hold": ("seconds_min = 60", "seconds_min = 0"),
    "share": ('short_share_max = "0.50"', 'short_share_max = "1"'),
}
SETTINGS: Changes = {
    "store": {"retry_backoff_s": 0.1, "attempts_max": 20},
    "scanner": {"seeds": 1, "bar_age_days_max": 3_650, "history_bars_min": 300, "train_bars_max": 300},
    "executor": {
        "random_delay_s_max": 0.0, "quiet_s": 1.0, "look_interval_s": 0.1, "risk_per_trade_ratio": 0.0002,
    },
    "monitor": {
        "equity_poll_s": 0.3, "equity_poll_flat_s": 0.3, "janitor_interval_s": 0.7, "backup_interval_s": 0.7,
        "backups_kept": 2,
    },
    "supervisor": {
        "watchdog_s": 1.2, "restarts_max": 100, "restarts_window_s": 1.0, "backoff_s": 0.05, "backoff_s_max": 0.2,
        "stable_s": 1.0,
    },
}  # fmt: skip
SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "USDCAD", "USDCHF", "NZDUSD")
FIRST_BAR = date(2026, 9, 30)  # of what is fed; from here backwards, older than any bar that the scanner has
REST_S = 30.0
ASK_S = 15.0
STOP_S = 20.0
STEP_S = 0.02
OWN_SLOT = 50
API_ENV = "CHAOS_API"
UNRESOLVED = (OrderStatus.RESERVED, OrderStatus.UNKNOWN)


class Stuck(Exception):
    """The pipeline did not come to rest in time."""


class Rig:
    """A running pipeline and what was done to it."""

    def __init__(self, run: Pipeline, tally: Tally) -> None:
        self.run = run
        self.tally = tally
        self.fed = 0
        self.acks = run.folder / "acks"
        self.supervised = False  # whether a supervisor should be running
        self.wanted = 6  # processes that must live
        self._arguments: tuple[str, ...] = ()
        self._bars = 0
        self._kills: list[recovery.Kill] = []  # whose recovery is not yet measured
        self._stopped: dict[int, float] = {}  # pid -> monotonic time at which it is woken
        run.env["PILOT_ACK_LOG"] = str(self.acks)
        run.env["SPT_NOENV"] = "1"  # a process title must not wipe the environment that `processes` looks at

    # ── the operator's part ─────────────────────────────────────────────────

    def start(self, *arguments: str) -> None:
        self.supervised = True
        self._arguments = arguments
        self.run.start(*arguments)

    def begin(self, *arguments: str) -> bool:
        """Start, and come to rest after the first scan; False, with the finding, when that fails."""
        self.start(*arguments)
        if not self.wait(self.run.all_settled, 60):
            self.report("the pipeline starts", f"no scan within 60 s: {self._state()}\n{self.run.console()[-3_000:]}")
            return False
        return self.come_to_rest("the first scan")

    def stop(self, armed: str = "") -> None:
        """Stop in order; only a point that is still `armed` may spoil it. A killed supervisor needs no stop."""
        self.supervised = False
        if self.run.root is not None and self.run.root.poll() is None:
            code = self.run.stop(signal.SIGINT, STOP_S)
            if code != 0 and not (armed and self.run.fired(armed)):
                self.report("an orderly stop", f"the supervisor ended with {code}\n{self.run.console()[-2_000:]}")

    def tend(self) -> None:
        """Start a supervisor that was killed, and wake whoever was stopped for long enough."""
        if self.supervised and self.run.root is not None and self.run.root.poll() is not None:
            code = self.run.root.returncode
            if code not in (-signal.SIGKILL, 1):  # 1: a failpoint's error
                self.report("the supervisor lives", f"it ended by itself with {code}\n{self.run.console()[-3_000:]}")
            self._kills.clear()
            self.run.start(*self._arguments)
        for pid, until in list(self._stopped.items()):
            if time.monotonic() >= until:
                del self._stopped[pid]
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def wait(self, check: Callable[[], Any], deadline_s: float) -> bool:
        """Tend until `check` holds; False after `deadline_s`."""
        end = time.monotonic() + deadline_s
        while True:
            self.tend()
            if check():
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(STEP_S)

    # ── work ────────────────────────────────────────────────────────────────

    def feed(self, count: int, deadline_s: float = ASK_S) -> None:
        """Propose new intents as a second scanner would: each acked, or given up with its fate unknown."""
        for _ in range(count):
            self._bars += 1
            signal_ = analysis.a_signal(
                symbol=SYMBOLS[self._bars % len(SYMBOLS)],
                bar_time=(FIRST_BAR - timedelta(days=self._bars // len(SYMBOLS))).isoformat(),
            )
            command = messages.Propose(signal=signal_, trade_date=datetime.now(UTC).date().isoformat())
            if self.ask(command, Role.SCANNER, deadline_s) is not None:
                self.fed += 1

    def ask(self, command: messages.Command, role: Role, deadline_s: float = ASK_S) -> messages.Ack | None:
        """Send a command as a process of that role in a slot of its own; None when it was not answered in time."""
        peer = messages.Peer(role, OWN_SLOT, runtime.new_incarnation())

        async def tended() -> None:
            while True:  # the store may be down with its supervisor
                self.tend()
                await asyncio.sleep(STEP_S)

        async def once(run_folder: Path) -> messages.Ack:
            end = Link(peer, Bus(), run_folder, SystemClock())
            end.open()
            tending = asyncio.create_task(tended())
            try:
                return await end.ask(command, deadline_s)
            finally:
                tending.cancel()
                end.close()

        os.environ[acklog.ENV] = str(self.acks)
        try:
            return asyncio.run(once(self.run_folder()))
        except NoAnswer:
            return None
        finally:
            del os.environ[acklog.ENV]

    def run_folder(self) -> Path:
        return next(path for path in (self.run.folder / "run").glob("pilot-*") if path.is_dir())

    def close_positions(self, keep: int) -> None:
        """Close the oldest positions at the broker, as their owner might by hand, until `keep` are left open."""
        open_ids = [one.position_id for one in self.histories().placed if one.is_open]
        for position_id in open_ids[: max(0, len(open_ids) - keep)]:
            self.broker("/paper/close", position_id=position_id)

    def operate(self) -> None:
        """Settle what halts the account as the operator does: by what the broker's own ledger says."""
        found = self.histories()
        owned = {order.position_id for order in found.orders}
        halted = " ".join(halt.reason for halt in found.halts if halt.kind == "hard")
        for order in found.orders:
            if order.status != OrderStatus.UNKNOWN or order.intent_id not in halted:
                continue
            plan = order.plan
            like = [
                line["position_id"]
                for line in found.placements
                if (line["symbol"], line["side"]) == (plan.broker_symbol, plan.side) and line["at"] >= order.reserved_at
            ]
            free = [position_id for position_id in like if position_id not in owned]
            said = messages.Resolve(
                intent_id=order.intent_id, operator="chaos", position_id=free[0] if free else None,
                reason="as the broker's ledger says",
            )  # fmt: skip
            self.ask(said, Role.PILOT)

    def broker(self, path: str, method: str = "POST", **body: Any) -> bool:
        """Use a test control of the paper broker once; False when it does not answer now."""
        try:
            url = self.run.url + path
            return httpx.request(method, url, json=body, trust_env=False, timeout=2.0).status_code == 200
        except httpx.HTTPError:
            return False

    def broker_forgets(self) -> bool:
        """Clear the paper broker's faults; False when it does not answer now."""
        return self.broker("/paper/faults", "DELETE")

    # ── hurting ─────────────────────────────────────────────────────────────

    def children(self) -> dict[str, int]:
        """Return the live processes of the supervisor that runs now, by name, as its pid files prove them."""
        return {
            entry.peer.name: entry.pid
            for folder in (self.run.folder / "run").glob("pilot-*")
            for entry in pidfile.children(folder)
            if entry.peer is not None and entry.lives and self.run.root and _parent(entry.pid) == self.run.root.pid
        }

    def kill(self, name: str) -> bool:
        """Kill one process, or `supervisor`; False when it does not run just now."""
        pid = self.run.root.pid if name == "supervisor" and self.run.root else self.children().get(name)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.tally.kills += 1
        if name != "supervisor":
            self._kills.append((time.time(), name))
        elif self.run.root is not None:
            self.run.root.wait()
        return True

    def kill_everything(self) -> None:
        """Kill every process of the pipeline at once, the supervisor first."""
        pids = list(self.run.processes())
        root = self.run.root.pid if self.run.root is not None else 0
        for pid in sorted(pids, key=lambda one: one != root):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.tally.kills += len(pids)
        self._kills.clear()
        if self.run.root is not None:
            self.run.root.wait()

    def freeze(self, name: str, seconds: float) -> bool:
        """Stop one process and wake it later, if it lives until then; False when it does not run just now."""
        pid = self.run.root.pid if name == "supervisor" and self.run.root else self.children().get(name)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        self._stopped[pid] = time.monotonic() + seconds
        self.tally.faults += 1
        return True

    def wake_all(self) -> None:
        """Wake everybody: a stopped process does not even take SIGTERM."""
        for pid in self.run.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def disarm(self) -> None:
        for path in self.run.points.iterdir():
            path.unlink(missing_ok=True)

    def note_kill_of(self, point: str) -> None:
        """Remember when the failpoint killed: its file was renamed in that instant."""
        process = point.partition(".")[0]
        who = "" if process == "broker" else f"{process}.1"
        self._kills.append(((self.run.points / f"{point}.fired").stat().st_ctime, who))

    # ── coming to rest and looking ──────────────────────────────────────────

    def at_rest(self) -> bool:
        """Return whether nothing is under way: every intent ended or opened, every close known, everybody alive."""
        return self.rest() is not None

    def rest(self) -> Histories | None:
        """Return the histories in which nothing is under way, None while something is.

        Who calls the pipeline at rest checks this very reading: by the next one, another scan may have begun something.
        """
        if len(self.children()) < self.wanted:
            return None
        try:
            with self.run.reader() as reader:  # cheap, and mostly enough to see that something is
                if _is_busy(reader.unresolved_orders(), reader.live_intents(), reader.halts()):
                    return None
            found = self.histories()
        except DatabaseRefused:
            return None
        unresolved = [order for order in found.orders if order.status in UNRESOLVED]
        live = [intent for intent in found.intents if intent.status not in checker.ENDED]
        if _is_busy(unresolved, live, found.halts) or any(checker.closed_at_the_broker_is_closed_here(found)):
            return None
        return found

    def come_to_rest(self, what: str, deadline_s: float = REST_S) -> bool:
        """Wait for rest, measure the recoveries, check everything. False, with the finding, when something is wrong."""
        before, rested = len(self.tally.findings), list[Histories]()

        def is_over() -> bool:
            rested.extend(filter(None, (self.rest(),)))
            return bool(rested)

        if not self.wait(is_over, deadline_s):
            self.report("the pipeline recovers", f"{what}: not at rest after {deadline_s:g} s: {self._state()}")
        self.measure()
        self.check(what, at_rest=True, found=rested[-1] if rested else None)
        return len(self.tally.findings) == before

    def check(self, what: str, *, at_rest: bool, found: Histories | None = None) -> None:
        """Hold the checker's verdict against the run: as it is now, or as it was `found`."""
        try:
            found = found or self.histories()
        except DatabaseRefused as error:
            self.report("the database can be read", f"{what}: {error}")
            return
        for finding in checker.check(found, at_rest=at_rest):
            self.tally.findings.append(Finding(finding.check, finding.category, f"{what}: {finding.text}"))

    def histories(self) -> Histories:
        return histories.read(self.run.data, self.acks)

    def report(self, name: str, text: str) -> None:
        """Note a violation that no history shows: something that should have happened did not."""
        self.tally.findings.append(Finding(name, "lost", text))

    def measure(self) -> None:
        """Take down how long the kills took that are recovered from by now."""
        done, self._kills = recovery.measured(self.run.console(), self._kills, time.time())
        self.tally.recovery_ms += done

    def _state(self) -> str:
        with contextlib.suppress(DatabaseRefused):
            with self.run.reader() as reader:
                unresolved = len(reader.unresolved_orders())
                halts = [halt.reason for halt in reader.halts()]
            return f"{self.run.counts()}, {unresolved} unresolved, halts {halts}, alive {sorted(self.children())}"
        return f"no database, alive {sorted(self.children())}"


def _is_busy(unresolved: Collection[Order], live: Collection[TradeIntent], halts: Iterable[Halt]) -> bool:
    """Return whether something is under way. Behind a hard halt intents may wait; no order may."""
    return bool(unresolved) or (bool(live) and not any(halt.kind == "hard" for halt in halts))


def _parent(pid: int) -> int:
    """Return the parent of a process, 0 when it has just ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


@contextlib.contextmanager
def rigged(
    tally: Tally, *, warm: Path | None = None, strict: bool = False, changes: Changes | None = None
) -> Iterator[Rig]:
    """Make a pipeline of short waits, not started yet: with generous limits, or a firm's where `strict`.

    `warm` holds trained models to begin with; `changes` are settings by section. The broker is spoken to over the API
    that `API_ENV` names, the Platform API without it.
    """
    sections = {name: dict(values) for name, values in SETTINGS.items()}
    sections["broker"] = {"paper_api": os.environ.get(API_ENV, "platform")}
    for name, values in (changes or {}).items():
        sections.setdefault(name, {}).update(values)
    folder = pipeline.new_folder("pr-")
    sections["monitor"].setdefault("backup_second_folder", str(folder))
    try:
        if not strict:
            sections["compliance"] = {"rules": str(write_rules(folder / "chaos-rules.toml", RULES))}
        with pipeline.running(**sections) as run:
            if warm is not None:
                run.data.mkdir(mode=0o700)
                shutil.copytree(warm, run.data / "models")
            rig = Rig(run, tally)
            try:
                yield rig
            finally:
                rig.supervised = False
                rig.wake_all()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_rules(path: Path, changes: dict[str, tuple[str, str]]) -> Path:
    """Write the default rule set to `path` with some lines replaced, each named for what it is about; return `path`."""
    text = (load.RULES / "e8-signature-50k.toml").read_text()
    for what, (old, new) in changes.items():
        if old not in text:
            raise AssertionError(f"{what}: the rule set no longer has {old!r}")
        text = text.replace(old, new)
    path.write_text(text)
    return path


def warm_models(folder: Path) -> Path:
    """Let one pipeline train its model, and keep that under `folder` for the others. Returns the models' folder."""
    models = folder / "models"
    with rigged(Tally()) as rig:
        if not rig.begin():
            raise Stuck(f"the first pipeline did not come to rest: {rig.tally.findings}")
        rig.stop()
        shutil.copytree(rig.run.data / "models", models)
    (models / "last_scan.json").unlink(missing_ok=True)
    return models
