"""What the whole pipeline costs while it has nothing to do: processor time and memory of each process, from /proc.

python -m tests.bench.idle [--seconds 60] [--json]

As `make start` starts it: every process with the settings of the paper profile, the first scan done, its positions
open, the scanner waiting for the next bar, alerts without a channel, nobody looking at the page. "Without paper" is the
sum that a live account pays: the paper broker makes prices and is a test server.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec

from bus.clock import SystemClock
from config import load
from store import backup, connection
from store.queries import NoDatabase, Reader
from tests.bench import processes
from tests.kit import pipeline
from tests.kit.pipeline import Pipeline, free_port

START_S = 180.0  # a model is trained
SETTLE_S = 12.0
GOAL_PERCENT = 2.0
PAGE_S_MAX = 120.0
SCRAPES_MAX = 200
ALL = frozenset({"supervisor", "store", "scanner", "llm", "executor", "monitor", "dashboard", "alerts", "paper"})


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process: processor time in percent of one core, wake-ups a second, and what it holds in the end.

    `proportional_mb` counts a page that several share once, divided among them; `resident_mb` counts it for each.
    """

    name: str
    cpu_percent: float
    wakes_per_s: float
    resident_mb: float
    proportional_mb: float


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """All of them, over so many seconds."""

    seconds: float
    processes: tuple[Process, ...]
    with_paper_percent: float
    without_paper_percent: float
    page_ms: float = 0.0  # the dashboard's first page, asked for the second time
    scrape_ms: float = 0.0  # and what Prometheus reads

    def held_mb(self) -> float:
        """Return what all of them hold together, without the paper broker."""
        return sum(one.proportional_mb for one in self.processes if one.name != "paper")


def measure(seconds: float, database: Path | None = None) -> Idle:
    """Start everything, let it settle, and look twice. With `database` over that one, which stays."""
    changes = _as_started()
    if database is not None:
        changes["store"]["db_path"] = str(database)
    with pipeline.running(**changes) as run:
        run.env.pop("PILOT_FAILPOINTS")  # looking for armed points is no work of the product
        if database is not None:
            _keep_young_backup(run)
        run.start()
        path = database or run.data / "decisions.db"
        run.eventually(lambda: _is_ready(run) and _is_settled(path), START_S)
        _asked(run, "/")  # once, so that what it holds is there
        for _ in range(SCRAPES_MAX):  # each counts a part of the journal, until all of it was counted
            if "pilot_transitions_total" in _asked(run, "/metrics"):
                break
        run.eventually(lambda: not processes.children(run.pid("scanner")), START_S)  # neither scan nor training
        time.sleep(SETTLE_S)
        assert run.root is not None
        pids = {"supervisor": run.root.pid}
        pids |= {name.removesuffix(".1"): int(one["pid"]) for name, one in run.status().items()}
        before, began_s = {name: _look(pid) for name, pid in pids.items()}, time.monotonic()
        time.sleep(seconds)
        passed_s = time.monotonic() - began_s
        after = {name: _look(pid) for name, pid in pids.items()}
        held = {name: processes.memory(pid) for name, pid in pids.items()}
        page_ms, scrape_ms = (_asked_ms(run, page) for page in ("/", "/metrics"))
        run.stop()
    assert pids.keys() == ALL, pids
    rows = tuple(
        Process(
            name=name,
            cpu_percent=round(100 * (after[name][0] - before[name][0]) / passed_s, 3),
            wakes_per_s=round((after[name][1] - before[name][1]) / passed_s, 1),
            resident_mb=round(held[name].resident_mb, 1),
            proportional_mb=round(held[name].proportional_mb, 1),
        )
        for name in pids
    )
    total = sum(one.cpu_percent for one in rows)
    paper = sum(one.cpu_percent for one in rows if one.name == "paper")
    return Idle(
        seconds=round(passed_s, 1), processes=rows, with_paper_percent=round(total, 2),
        without_paper_percent=round(total - paper, 2), page_ms=round(page_ms, 1), scrape_ms=round(scrape_ms, 1),
    )  # fmt: skip


def _keep_young_backup(run: Pipeline) -> None:
    """Let a backup lie where the monitor looks: making one of a large database and checking it is no idleness."""
    small = run.folder / "small.db"
    connection.open_writer(small).close()
    backup.backup(small, run.data / "backups", 1, SystemClock())


def _asked(run: Pipeline, page: str) -> str:
    url = f"http://127.0.0.1:{run.dashboard_port}{page}"
    return httpx.get(url, trust_env=False, timeout=PAGE_S_MAX).raise_for_status().text


def _asked_ms(run: Pipeline, page: str) -> float:
    began_s = time.perf_counter()
    _asked(run, page)
    return 1_000 * (time.perf_counter() - began_s)


def _as_started() -> dict[str, dict[str, Any]]:
    """Return the paper profile over the product's own values, in place of what the tests make faster."""
    usual, raw = load.settings("paper"), load.read_toml(load.profile_file("paper"))
    written = {name: values for name, values in raw.items() if isinstance(values, dict)}
    changes: dict[str, dict[str, Any]] = {
        section: {name: getattr(getattr(usual, section), name) for name in (*faster, *written.get(section, {}))}
        for section, faster in (written | pipeline.DEFAULTS).items()
    }
    return changes | {
        "compliance": {"rules": usual.compliance.rules}, "dashboard": {"port": free_port()}, "alerts": {},
    }  # fmt: skip


def _is_ready(run: Pipeline) -> bool:
    ready = {name.partition(".")[0] for name, one in run.status().items() if one.get("state") == "ready"}
    return ready | {"supervisor"} >= ALL


def _is_settled(path: Path) -> bool:
    """Return whether no intent waits for anybody."""
    try:
        reader = Reader(path)
    except NoDatabase:
        return False
    try:
        return not reader.live_intents()
    finally:
        reader.close()


def _look(pid: int) -> tuple[float, int]:
    return processes.cpu_s(pid), processes.wakes(pid)


def markdown(found: Idle) -> str:
    """Return the table for docs/performance.md."""
    lines = [
        "| process | CPU, % of one core | wake-ups a second | resident MB | proportional MB |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.name} | {one.cpu_percent:.2f} | {one.wakes_per_s:.1f} | {one.resident_mb:.0f} | "
        f"{one.proportional_mb:.0f} |"
        for one in found.processes
    ]
    said = (
        f"All together {found.with_paper_percent:.2f} %, without the paper broker {found.without_paper_percent:.2f} %"
    )
    asked = f"The page takes {found.page_ms:.0f} ms, a scrape {found.scrape_ms:.0f} ms."
    return "\n".join([*lines, "", f"{said} of one core, over {found.seconds:.0f} s. {asked}"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.idle")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    asked = parser.parse_args()
    found = measure(asked.seconds)
    if not asked.json:
        sys.stdout.write(markdown(found) + "\n")
        if found.without_paper_percent >= GOAL_PERCENT:
            sys.stdout.write(f"over the goal of {GOAL_PERCENT} % of one core\n")
    sys.stdout.write(msgspec.json.encode({"bench": "idle", **msgspec.to_builtins(found)}).decode() + "\n")


if __name__ == "__main__":
    main()
