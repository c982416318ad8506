"""Spares: warm processes that hold nothing until the supervisor hands them the place of one that died."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bus import runtime, standby
from bus.errors import LockHeld
from bus.vocabulary import ExitCode
from config import load
from tests.kit.eventually import eventually
from tests.kit.toys import Toys, alive, toys

SPARES = ("store.spare", "llm.spare", "executor.spare", "monitor.spare")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Toys]:
    with toys(tmp_path) as found:
        yield found


def spares(house: Toys) -> dict[str, int]:
    """Return the pids of the spares that stand by."""
    return {name: child["pid"] for name, child in house.status().items() if child["state"] == "spare"}


def all_spares(house: Toys) -> dict[str, int]:
    """Wait until every spare stands by and return their pids."""
    return eventually(lambda: found if (found := spares(house)).keys() == set(SPARES) else {}, 10)


# ── refusals ──


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--spares", "--no-restart"), "contradict"),
        (("run", "llm", "--spares", "--no-restart"), "contradict"),
        (("--spares", "status"), "--spares does not go with"),
    ],
)
def test_spares_that_make_no_sense_are_refused_with_64(house: Toys, arguments: tuple[str, ...], why: str) -> None:
    done = house.call(*arguments)
    assert (done.returncode, why in done.stderr) == (ExitCode.USAGE, True), done.stderr


def test_running_pipeline_does_not_get_spares_by_a_change_of_scale(house: Toys) -> None:
    house.start()
    house.ready()
    assert house.call("--spares", "--scale", "llm=2").returncode == ExitCode.LOCKED
    assert house.call("restart", "llm.spare").returncode == ExitCode.USAGE
    assert not spares(house)


def test_spare_that_is_not_warm_is_not_used(house: Toys) -> None:
    house.behave("llm.spare", "never_warm")
    house.start("--spares")
    house.ready("llm.1")
    spare = eventually(lambda: house.lives("llm.spare started"))[0].split()[2]
    os.kill(house.status()["llm.1"]["pid"], signal.SIGKILL)
    eventually(lambda: house.lives("llm.1 started")[1:])
    assert house.lives("llm.1 started")[1].split()[2] != spare


# ── taking over ──


def test_spare_takes_the_place_of_a_killed_one_and_is_replaced_itself(house: Toys) -> None:
    house.start("--spares", "--scale", "llm=2")
    waiting = all_spares(house)
    old = house.status()["llm.2"]
    os.kill(old["pid"], signal.SIGKILL)
    eventually(lambda: house.status().get("llm.2", {}).get("pid") == waiting["llm.spare"])
    house.ready("llm.2")
    assert house.status()["llm.2"]["restarts"] == 1
    first, second = house.lives("llm.2 started")
    assert first.split()[3] != second.split()[3]
    again = all_spares(house)
    assert again["llm.spare"] != waiting["llm.spare"]
    assert {name: pid for name, pid in again.items() if name != "llm.spare"} == {
        name: pid for name, pid in waiting.items() if name != "llm.spare"
    }


def test_store_killed_twice_in_a_row_is_replaced_both_times(house: Toys) -> None:
    house.start("--spares")
    pids = {house.ready("store.1")["store.1"]["pid"]}
    for _ in range(2):
        all_spares(house)
        os.kill(house.status()["store.1"]["pid"], signal.SIGKILL)
        pids.add(eventually(lambda: (pid := house.ready("store.1")["store.1"]["pid"]) not in pids and pid))
    assert len(pids) == 3


def test_spare_stopped_by_somebody_is_found_out_when_it_is_needed(house: Toys) -> None:
    house.start("--spares")
    waiting = all_spares(house)
    os.kill(waiting["executor.spare"], signal.SIGSTOP)
    os.kill(house.status()["executor.1"]["pid"], signal.SIGKILL)
    eventually(lambda: house.lives("executor.1 started")[1:])
    house.ready("executor.1")
    assert house.status()["executor.1"]["pid"] != waiting["executor.spare"]
    assert not alive(waiting["executor.spare"])


def test_killed_spare_is_replaced_and_counts_as_nobodys_death(house: Toys) -> None:
    house.start("--spares")
    for _ in range(6):
        before = all_spares(house)
        os.kill(before["store.spare"], signal.SIGKILL)
        eventually(lambda gone=before["store.spare"]: spares(house).get("store.spare", gone) != gone)  # type: ignore[misc]
    assert house.ready("store.1")["store.1"]["restarts"] == 0


def test_spare_that_cannot_live_does_not_end_the_pipeline(house: Toys) -> None:
    house.behave("llm.spare", "exit 78")
    house.start("--spares")
    house.ready("llm.1")
    eventually(lambda: len(house.lives("llm.spare started")) >= 6, 10)
    assert house.status()["llm.1"]["state"] == "ready"
    assert house.status()["llm.1"]["restarts"] == 0


def test_asked_restart_takes_a_fresh_process_and_renews_the_spare(house: Toys) -> None:
    house.start("--spares")
    waiting = all_spares(house)
    assert house.call("restart", "executor").returncode == 0
    assert house.status()["executor.1"]["pid"] != waiting["executor.spare"]
    assert all_spares(house)["executor.spare"] != waiting["executor.spare"]


def test_name_that_is_scaled_away_keeps_no_spare(house: Toys) -> None:
    house.start("--spares")
    waiting = all_spares(house)
    assert house.call("scale", "llm=0").returncode == 0
    eventually(lambda: "llm.spare" not in house.status())
    assert not alive(waiting["llm.spare"])


def test_spares_can_be_a_setting_and_one_name_alone_has_its_own(house: Toys) -> None:
    house.profile.write_text(house.profile.read_text() + "spares = true\n")
    house.start("run", "monitor")
    eventually(lambda: spares(house).keys() == {"monitor.spare"})


# ── the end ──


def test_stop_ends_the_spares_and_leaves_nothing_behind(house: Toys) -> None:
    process = house.start("--spares")
    all_spares(house)
    assert house.call("stop").returncode == 0
    assert process.wait(5) == 0
    house.wait_gone()
    assert not [line for line in house.lives() if "spare saw" in line]  # ended first, not left to the end of its pipe
    assert not list(house.run_folder.glob("spare.*.pid"))


def test_killed_supervisor_leaves_no_spare_and_a_stopped_one_is_ended_by_the_next(house: Toys) -> None:
    process = house.start("--spares")
    waiting = all_spares(house)
    os.kill(waiting["llm.spare"], signal.SIGSTOP)
    process.kill()
    process.wait()
    house.wait_gone([pid for pid in house.pids() if pid != waiting["llm.spare"]])
    assert alive(waiting["llm.spare"])
    house.start()
    house.ready()
    assert not alive(waiting["llm.spare"])


# ── the real processes ──


class Waiting:
    """A real process that was started as a spare, and the writing end of its pipe."""

    def __init__(self, role: str, data: Path, run: Path) -> None:
        self.data, self.run = data, run
        reading, self.turn = os.pipe()
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.bind(str(run / "notify"))
        self.notices.settimeout(10)
        module = "store" if role == "store" else f"actors.{role}"
        environment = {
            "PILOT_DATA": str(data), "PILOT_RUN": str(run), "PILOT_PROFILE": "paper",
            "NOTIFY_SOCKET": str(run / "notify"), standby.ENV: str(reading),
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", module], cwd=load.ROOT, env={**os.environ, **environment}, pass_fds=(reading,),
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(reading)

    def hear(self, wanted: bytes) -> None:
        while wanted not in self.notices.recv(4_096):
            pass

    def files(self) -> set[str]:
        """Return what it has made in both folders."""
        return {path.name for base in (self.data, self.run) for path in base.rglob("*") if not path.is_dir()}

    def open_files(self) -> str:
        folder = Path(f"/proc/{self.process.pid}/fd")
        return " ".join(os.readlink(path) for path in folder.iterdir())


@contextmanager
def waiting(role: str, folder: Path) -> Iterator[Waiting]:
    with tempfile.TemporaryDirectory(prefix="ps", dir="/tmp") as run:
        found = Waiting(role, folder / "data", Path(run))
        try:
            found.hear(standby.STANDS_BY.encode())
            yield found
        finally:
            found.process.kill()
            found.process.wait()
            found.notices.close()


@pytest.mark.parametrize("role", ["store", "llm", "executor", "monitor"])
def test_spare_takes_no_lock_no_socket_and_no_database_before_its_turn(role: str, tmp_path: Path) -> None:
    with waiting(role, tmp_path) as spare:
        assert spare.files() == {"notify"}
        assert "decisions.db" not in spare.open_files()
        sockets = Path(f"/proc/{spare.process.pid}/net/tcp").read_text()
        assert f":{8765:04X} " not in " ".join(line.split()[2] + " " for line in sockets.splitlines()[1:])
        os.close(spare.turn)
        assert spare.process.wait(5) == 0
        assert spare.files() == {"notify"}


@pytest.mark.parametrize(("role", "ready"), [("store", b"READY=1"), ("llm", b"READY=1"), ("executor", b"READY=1")])
def test_spare_becomes_the_slot_and_incarnation_it_is_given(role: str, ready: bytes, tmp_path: Path) -> None:
    with waiting(role, tmp_path) as spare:
        os.write(spare.turn, standby.line_of(standby.Turn(1, "0123456789ab")))
        spare.hear(ready)
        assert f"{role}.1.lock" in spare.files()
        if role != "store":
            assert f"{role}.1.0123456789ab.in" in spare.files()
        os.close(spare.turn)


@pytest.mark.parametrize("line", [b"{}\n", b"not a turn\n", b'{"slot": 1}\n'])
def test_spare_that_is_told_nonsense_ends_instead_of_guessing_who_it_is(line: bytes, tmp_path: Path) -> None:
    with waiting("llm", tmp_path) as spare:
        os.write(spare.turn, line)
        assert spare.process.wait(5) == 0
        assert spare.files() == {"notify"}
        os.close(spare.turn)


def test_spare_waits_a_moment_for_the_lock_and_then_says_who_holds_it(tmp_path: Path) -> None:
    with waiting("executor", tmp_path) as spare:
        folder = next(spare.run.glob("pilot-*"))
        lock = runtime.acquire_lock(folder / "executor.1.lock", "the one before")
        os.write(spare.turn, json.dumps({"slot": 1, "incarnation": "0123456789ab"}).encode())
        assert spare.process.wait(5) == ExitCode.LOCKED
        lock.release()
        os.close(spare.turn)


def test_lock_that_is_let_go_in_time_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"
    program = "import fcntl,sys,time; f=open(sys.argv[1],'w'); fcntl.flock(f,2); print(flush=True); time.sleep(0.1)"
    holder = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(LockHeld):
        runtime.acquire_lock(path, "impatient")
    runtime.acquire_lock(path, "patient", wait_s=5.0).release()
    holder.communicate()
