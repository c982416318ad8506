"""How long a backup and its restore take with a long past: `python -m tests.bench.restoring [intents]`.

The past is written fast, then hashed as the store does, so that `pilot restore` can prove it. Beside it: how long the
store's commits take while the backup is being made.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from bus.clock import SystemClock
from store import backup, connection
from store.journal import GENESIS, chain_hash
from tests.kit import past

BIN = Path(sys.executable).parent
COMMITS_PER_S = 50


def main() -> None:
    intents = int(sys.argv[1]) if sys.argv[1:] else 100_000
    with tempfile.TemporaryDirectory(prefix="pb", dir="/tmp") as name:
        data = Path(name) / "data"
        data.mkdir(mode=0o700)
        (Path(name) / "run").mkdir(mode=0o700)
        path = data / "decisions.db"
        past.write(path, intents)
        _hash(path)
        connection.open_writer(path).close()
        print_line(f"{intents:,} intents: {path.stat().st_size / 1e6:.0f} MB, load average {os.getloadavg()[0]:.1f}")
        alone_ms = _commits(path, lambda: time.sleep(2.0))
        made: list[Path] = []
        began_s = time.monotonic()
        during_ms = _commits(path, lambda: made.append(backup.backup(path, data / "backups", 2, SystemClock())))
        print_line(f"backup, checked, beside {COMMITS_PER_S} commits a second: {time.monotonic() - began_s:.1f} s")
        print_line(f"a commit alone: {_said(alone_ms)}; during the backup: {_said(during_ms)}")
        for what in ("", "-wal", "-shm"):
            path.with_name(path.name + what).unlink(missing_ok=True)
        env = os.environ | {"PILOT_DATA": str(data), "PILOT_RUN": str(Path(name) / "run"), "PILOT_PROFILE": "paper"}
        began_s = time.monotonic()
        command = [str(BIN / "pilot"), "restore", "--yes", "--reason", "bench"]
        subprocess.run(command, env=env, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        print_line(f"pilot restore, every hash, state and order proved: {time.monotonic() - began_s:.1f} s")


def _commits(path: Path, act: object) -> list[float]:
    """Return in milliseconds how long small durable commits took while something was done."""
    assert callable(act)
    db, found, over = connection.open_writer(path), list[float](), threading.Event()
    doing = threading.Thread(target=lambda: (act(), over.set()))
    doing.start()
    while not over.wait(1 / COMMITS_PER_S):
        began_s = time.monotonic()
        db.execute("INSERT INTO meta VALUES ('bench', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1", (str(began_s),))
        found.append(1_000 * (time.monotonic() - began_s))
    doing.join()
    db.close()
    return found


def _said(ms: list[float]) -> str:
    ordered = sorted(ms)
    return (
        f"p50 {ordered[len(ordered) // 2]:.1f} ms, p99 {ordered[int(len(ordered) * 0.99)]:.1f}, worst {ordered[-1]:.1f}"
    )


def _hash(path: Path) -> None:
    """Chain the journal as the store does."""
    db = connection.open_writer(path)
    for name, _ in db.execute("SELECT name, 1 FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        db.execute(f'DROP TRIGGER "{name}"')
    head = GENESIS
    rows = db.execute("SELECT * FROM transitions ORDER BY seq").fetchall()
    with db:
        for row in rows:
            linked = (*row[:-2], head)
            digest = chain_hash(linked)
            db.execute("UPDATE transitions SET prev_hash = ?, hash = ? WHERE seq = ?", (head, digest, row[0]))
            head = digest
    db.close()


def print_line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
