"""What happens to a whole machine: the disk, the clock, the supervisor, everything at once. Parts (d), (e) and (f)."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bus.clock import OFFSET_ENV
from config import load
from store import connection, verify
from store.connection import DatabaseRefused
from store.queries import Reader
from tests.chaos.checker import Finding
from tests.chaos.figures import Tally
from tests.chaos.rig import Rig, rigged
from tests.kit.eventually import eventually

HOUR_S = 3_600
JUMPS_S = (5 * HOUR_S, 0, -5 * HOUR_S, 30 * HOUR_S, 0)
FULL_S = 1.5
SKEWED_S = 8.0
FRAME_BYTES = 4_096 + 24


class NotWhole(Exception):
    """A database that was opened without complaint is not what it was."""


# ── the store and its disk ──────────────────────────────────────────────────


def kill_the_store(warm: Path, seed: int, times: int) -> Tally:
    """Kill the store at random instants while it is fed: in the middle of commits, too."""
    tally, dice = Tally(), random.Random(seed)
    with rigged(tally, warm=warm) as rig:
        if rig.begin():
            for number in range(times):
                rig.feed(2)
                time.sleep(dice.uniform(0, 0.03))
                rig.kill("store.1")
                rig.feed(1)
                if not rig.come_to_rest(f"store killed at a random instant, the {number + 1}. time"):
                    break
            rig.stop()
    tally.notes.append(f"Store: killed {times} times at random instants under load")
    return tally


def tear_the_log(warm: Path, seed: int, times: int) -> Tally:
    """Cut and garble the write-ahead log: what is left is a whole prefix, or it is refused with the reason.

    Refused where a checkpoint had moved later pages into the database already: no crash tears those off again.
    """
    tally, dice = Tally(), random.Random(seed)
    with rigged(tally, warm=warm) as rig:
        if not rig.begin():
            return tally
        rig.feed(3)
        rig.supervised = False
        rig.kill_everything()
        log = rig.run.data / "decisions.db-wal"
        if not log.stat().st_size:
            tally.notes.append("Store: the log was empty at the kill, nothing to tear")
            return tally
        before = _journal(rig.run.data / "decisions.db", rig.run.folder / "copy")
        refused = 0
        for number in range(times):
            damage = ("cut", "garble", "append")[number % 3]
            tally.faults += 1
            try:
                text = _torn(rig, log.read_bytes(), damage, dice, before)
            except NotWhole as error:
                text = f"{damage}: {error}"
            except DatabaseRefused as error:
                refused += 1
                text = f"{damage}: {error}" if damage == "append" else ""
            if text:
                tally.findings.append(Finding("a torn log leaves a prefix", "illegal", text))
        # What lies beyond the last commit was never acked: with garbage there, nothing at all may be missing.
        log.write_bytes(log.read_bytes() + dice.randbytes(3 * FRAME_BYTES))
        rig.start()
        rig.come_to_rest("a log with garbage behind its end")
        rig.stop()
    tally.notes.append(f"Store: log torn {times} times at random offsets; {refused} times refused as damaged")
    return tally


def fill_the_disk(warm: Path) -> Tally:
    """Fill the disk under the store, in earnest where a small tmpfs may be mounted, else by a limit on file size."""
    tally = Tally()
    with rigged(tally, warm=warm) as rig, _small_disk(rig) as disk:
        if not rig.begin():
            return tally
        if disk is None:
            pid = rig.children()["store.1"]
            size = (rig.run.data / "decisions.db-wal").stat().st_size
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, size))
        else:
            _fill(disk / "ballast")
        tally.faults += 1
        rig.feed(3, deadline_s=FULL_S)
        rig.check("disk full", at_rest=False)
        if disk is not None and "Disk full" not in rig.run.console():
            rig.report("a full disk is said", f"disk full: {rig.run.console()[-2_000:]}")
        if disk is not None:
            (disk / "ballast").unlink()
        rig.feed(1)
        rig.come_to_rest("there is room again")
        rig.stop()
        how = "by a limit on file size; no mount allowed" if disk is None else "a full tmpfs"
    tally.notes.append(f"Store: disk full ({how})")
    return tally


def forbid_writing(warm: Path) -> Tally:
    """Make the database read-only before a start: it is refused with a reason, and works again afterwards."""
    tally = Tally()
    with rigged(tally, warm=warm) as rig, _small_disk(rig) as disk:
        if not rig.begin():
            return tally
        rig.stop()
        with _read_only(rig.run.data / "decisions.db", disk) as how:
            if how:
                code = rig.run.run(timeout_s=60).returncode
                tally.faults += 1
                if code == 0:
                    rig.report("a read-only database is refused", f"the supervisor ended with {code}")
        rig.start()
        rig.feed(1)
        rig.come_to_rest("the database is writable again")
        rig.stop()
    tally.notes.append(f"Store: database read-only ({how or 'not possible here'})")
    return tally


def jump_the_clock(warm: Path) -> Tally:
    """Let our clock jump by hours both ways, while the broker's does not."""
    tally = Tally()
    with rigged(tally, warm=warm) as rig:
        offset = rig.run.folder / "offset"
        env = rig.run.env | {"PILOT_SLOT": "1"}
        rig.run.env[OFFSET_ENV] = str(offset)
        rig.wanted = 5
        with (rig.run.folder / "console.log").open("ab") as log:
            broker = subprocess.Popen(
                [sys.executable, "-m", "actors.paper"], cwd=load.ROOT, env=env, stdout=log, stderr=log
            )
        try:
            if rig.begin("--scale", "paper=0"):
                for seconds in JUMPS_S:
                    rig.feed(1)
                    _write(offset, str(seconds))
                    tally.faults += 1
                    rig.feed(2)
                    rig.kill("executor.1")
                    rig.close_positions(keep=1)
                    what = f"clock at {seconds / HOUR_S:+.0f} h"
                    if seconds:  # hours apart from the broker's, its history is not found: that waits for the clock
                        rig.wait(rig.at_rest, SKEWED_S)
                        rig.check(what, at_rest=False)
                    else:
                        rig.come_to_rest(what)
            rig.stop()
        finally:
            broker.kill()
            broker.wait()
    tally.notes.append(f"Clock: jumped to {', '.join(f'{jump / HOUR_S:+.0f} h' for jump in JUMPS_S)}")
    return tally


# ── the supervisor, and everything ──────────────────────────────────────────


def kill_the_supervisor(warm: Path, seed: int, times: int) -> Tally:
    """Kill the supervisor itself at random instants; the next one takes over."""
    tally, dice = Tally(), random.Random(seed)
    with rigged(tally, warm=warm) as rig:
        if rig.begin():
            for number in range(times):
                rig.feed(2)
                time.sleep(dice.uniform(0, 0.3))
                rig.kill("supervisor")
                if not rig.come_to_rest(f"supervisor killed, the {number + 1}. time"):
                    break
            rig.stop()
    tally.notes.append(f"Supervisor: killed {times} times")
    return tally


def kill_everything(warm: Path, seed: int, times: int, budget_s: float) -> Tally:
    """Kill every process at once, again and again, while work is under way; at most for `budget_s`."""
    tally, dice = Tally(), random.Random(seed)
    end, done = time.monotonic() + budget_s, 0
    with rigged(tally, warm=warm) as rig:
        if rig.begin():
            while done < times and time.monotonic() < end:
                rig.feed(2)
                time.sleep(dice.uniform(0, 0.2))
                rig.kill_everything()
                done += 1
                if not rig.come_to_rest(f"everything killed, the {done}. time"):
                    break
                if done % 10 == 0:
                    rig.close_positions(keep=3)
                    rig.come_to_rest("positions closed")
            rig.stop()
    tally.notes.append(f"Everything at once: killed {done} times in a row{'' if done == times else f' (of {times})'}")
    return tally


# ── inside ──────────────────────────────────────────────────────────────────


def _journal(database: Path, copy: Path) -> list[str]:
    """Return the hashes of a copy's journal, opened as the store opens it."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for path in database.parent.glob("decisions.db*"):
        shutil.copy(path, copy / path.name)
    db = connection.open_writer(copy / database.name)
    try:
        reader = Reader.over(db)
        if faults := verify.verify_chain(reader):
            raise NotWhole(f"the journal is not whole: {faults[0]}")
        return [move.hash for move in reader.journal()]
    finally:
        db.close()


def _torn(rig: Rig, log: bytes, damage: str, dice: random.Random, before: list[str]) -> str:
    """Damage the log of a copy at a random offset; return what is wrong then, or nothing. Raises DatabaseRefused."""
    folder = rig.run.folder / "torn"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(rig.run.data / "decisions.db", folder / "decisions.db")
    at = dice.randrange(len(log))
    if damage == "cut":
        log = log[:at]
    elif damage == "garble":
        log = log[:at] + dice.randbytes(min(64, len(log) - at)) + log[at + 64 :]
    else:
        log += dice.randbytes(dice.randrange(1, 2 * FRAME_BYTES))
    (folder / "decisions.db-wal").write_bytes(log)
    after = _journal(folder / "decisions.db", rig.run.folder / "copy")
    if after != before[: len(after)] or (damage == "append" and after != before):
        return f"{damage} at {at}: {len(after)} arrows, no prefix of the {len(before)} before"
    return ""


@contextlib.contextmanager
def _small_disk(rig: Rig) -> Iterator[Path | None]:
    """Put the data folder on a small tmpfs of its own; None where mounting is not allowed."""
    rig.run.data.mkdir(mode=0o700, exist_ok=True)
    models = rig.run.folder / "models"
    (rig.run.data / "models").rename(models)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "none", str(rig.run.data)],
        check=False, capture_output=True,
    ).returncode == 0  # fmt: skip
    shutil.copytree(models, rig.run.data / "models")
    try:
        yield rig.run.data if mounted else None
    finally:
        rig.run.end()
        if mounted:
            eventually(lambda: subprocess.run(["umount", str(rig.run.data)], check=False).returncode == 0, 10)


@contextlib.contextmanager
def _read_only(database: Path, disk: Path | None) -> Iterator[str]:
    """Make the database read-only, also for root where the disk is our own; an empty string where we cannot."""
    if disk is not None:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, capture_output=True)
        try:
            yield "disk mounted read-only"
        finally:
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True, capture_output=True)
    elif os.getuid() == 0:
        yield ""
    else:
        mode = database.stat().st_mode
        database.chmod(0o400)
        try:
            yield "file mode 0400"
        finally:
            database.chmod(mode)


def _fill(path: Path) -> None:
    """Write until nothing fits any more; others write meanwhile."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4_096))


def _write(path: Path, text: str) -> None:
    """Write whole or not at all: every process reads this at any moment."""
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.rename(path)
