"""What the service manager hears from a real supervisor over real datagram sockets, and what process 1 must do."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.vocabulary import Role
from supervisor import client, control, manager
from supervisor.slots import Phase, Slot, is_start_over
from tests.kit.eventually import eventually
from tests.kit.toys import ROOT, Toys, toys

WATCHDOG_S = 1.0


class Systemd:
    """A datagram socket in the abstract namespace, and all that came over it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.name = f"pilot-test-{os.getpid()}-{time.monotonic_ns()}"
        self._socket.bind("\0" + self.name)
        self.heard: list[str] = []

    def listen(self) -> list[str]:
        """Return all that was said so far."""
        while True:
            try:
                self.heard.append(self._socket.recv(4_096).decode())
            except BlockingIOError:
                return self.heard

    def forget(self) -> None:
        self.listen()
        self.heard.clear()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    found = Systemd()
    yield found
    found.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Toys]:
    with toys(tmp_path, watchdog_s=WATCHDOG_S, stop_s=4.0) as found:
        yield found


def a_slot(role: Role, phase: Phase = Phase.READY, *, beat_at: float | None = 10.0) -> Slot:
    return Slot(role=role, number=1, phase=phase, due_at=0.0, beat_at=beat_at)


def test_systemd_hears_of_readiness_once_all_are_ready_and_nothing_of_life_from_a_frozen_loop(
    house: Toys, systemd: Systemd
) -> None:
    house.behave("monitor", "slow_ready")
    process = house.start("--scale", "llm=2", NOTIFY_SOCKET=f"@{systemd.name}")
    eventually(lambda: "READY=1" in systemd.listen(), 20)
    said = systemd.heard
    unready = [line for line in said[: said.index("READY=1")] if line.startswith("STATUS=")]
    assert any("monitor.1 starting" in line for line in unready), said
    eventually(lambda: any(line == "STATUS=9 of 9 processes ready" for line in systemd.listen()))
    assert said.count("READY=1") == 1
    eventually(lambda: "WATCHDOG=1" in systemd.listen())

    process.send_signal(signal.SIGSTOP)
    time.sleep(0.2)
    systemd.forget()
    time.sleep(4 * manager.PING_S)
    assert "WATCHDOG=1" not in systemd.listen()
    process.send_signal(signal.SIGCONT)
    eventually(lambda: "WATCHDOG=1" in systemd.listen())

    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert systemd.listen().count("STOPPING=1") == 1
    assert any(line.startswith("STATUS=Stopping: ") for line in systemd.heard)
    assert [line for line in systemd.heard if line.startswith("READY")] == []


def test_store_that_is_mute_gets_no_sign_of_life_and_the_next_one_does(house: Toys, systemd: Systemd) -> None:
    house.behave("store", "mute")
    house.start("run", "store", NOTIFY_SOCKET=f"@{systemd.name}")
    eventually(lambda: any("store.1 hung" in line or "store.1 waiting" in line for line in systemd.listen()), 20)
    died = next(at for at, line in enumerate(systemd.heard) if "hung" in line or "waiting" in line)
    ready_again = next((at for at, line in enumerate(systemd.heard) if at > died and "1 of 1" in line), None)
    assert "WATCHDOG=1" not in systemd.heard[died:ready_again]
    house.behave("store", "normal")
    systemd.forget()
    eventually(lambda: systemd.listen().count("WATCHDOG=1") > 2, 20)


@pytest.mark.parametrize(
    ("slots", "answers"),
    [
        ([a_slot(Role.STORE), a_slot(Role.LLM, Phase.STARTING)], True),
        ([a_slot(Role.STORE, beat_at=8.9), a_slot(Role.LLM)], False),
        ([a_slot(Role.STORE, beat_at=None), a_slot(Role.LLM)], False),
        ([a_slot(Role.STORE, Phase.HUNG), a_slot(Role.LLM)], False),
        ([a_slot(Role.STORE, Phase.WAITING), a_slot(Role.LLM)], False),
        ([a_slot(Role.LLM)], True),
    ],
)
def test_sign_of_life_needs_a_store_that_turns(slots: list[Slot], answers: bool) -> None:
    assert manager.store_answers(slots, 10.0, WATCHDOG_S) is answers


def test_start_is_over_when_what_is_left_of_it_is_given_up() -> None:
    store, alerts = a_slot(Role.STORE), a_slot(Role.ALERTS, Phase.GIVEN_UP)
    assert is_start_over([store, alerts])
    assert not is_start_over([store, a_slot(Role.LLM, Phase.WAITING)])
    assert not is_start_over([alerts])
    assert not is_start_over([])
    assert manager.status_of([store, alerts], is_stopping=False) == "1 of 2 processes ready; alerts.1 given_up"


@pytest.mark.parametrize(
    ("states", "stopping", "ready"),
    [
        ({"store.1": "ready", "llm.1": "ready", "llm.spare": "starting"}, False, True),
        ({"store.1": "ready", "llm.1": "starting"}, False, False),
        ({"store.1": "ready", "llm.1": "given_up"}, False, False),
        ({"store.1": "ready"}, True, False),
        ({}, False, False),
    ],
)
def test_health_check_wants_every_process_ready_and_none_being_stopped(
    states: dict[str, str], stopping: bool, ready: bool
) -> None:
    children = tuple(
        control.ChildStatus(name=name, pid=1, state=state, restarts=0, uptime_s=1.0, last_beat_age_s=0.1)
        for name, state in states.items()
    )
    report = control.Report(scope="all", pid=1, profile="paper", stopping=stopping, children=children)
    assert client.are_ready([report]) is ready


def test_readiness_that_could_not_be_delivered_is_told_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "systemd"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    told = manager.Manager()
    told.turn([a_slot(Role.STORE)], 10.0, is_stopping=False, watchdog_s=WATCHDOG_S)
    assert not told.knows_ready
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as late:
        late.bind(str(path))
        told.turn([a_slot(Role.STORE)], 10.5, is_stopping=False, watchdog_s=WATCHDOG_S)
        assert [late.recv(100) for _ in range(3)] == [b"READY=1", b"STATUS=1 of 1 processes ready", b"WATCHDOG=1"]


STRAYS = """
import os, subprocess, sys, time
from supervisor import init
assert os.getpid() == 1
ours = subprocess.Popen(["sh", "-c", "exit 7"])
os.waitid(os.P_PID, ours.pid, os.WEXITED | os.WNOWAIT)
assert init.reap_strays({ours.pid}) == 0
assert ours.wait() == 7
subprocess.run(["sh", "-c", "sleep 0 & sleep 0 & sleep 0 & exit"])
deadline = time.monotonic() + 30
reaped = 0
while reaped < 3 and time.monotonic() < deadline:
    reaped += init.reap_strays(set())
    time.sleep(0.01)
assert reaped == 3 and init.reap_strays(set()) == 0
"""


def may_unshare() -> bool:
    tool = shutil.which("unshare")
    return bool(tool) and subprocess.run([tool, "--pid", "--fork", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not may_unshare(), reason="needs unshare --pid: util-linux, and root")
def test_process_1_waits_for_strays_and_leaves_its_own_to_whoever_waits_for_them() -> None:
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", STRAYS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not may_unshare(), reason="needs unshare --pid: util-linux, and root")
def test_supervisor_as_process_1_reaps_what_a_killed_child_leaves_and_stops_at_sigterm(house: Toys) -> None:
    house.behave("llm", "grandchild")
    process = house.start("run", "llm", under=("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"))
    eventually(lambda: house.lives("llm.1 grandchild"), 20)
    (supervisor,) = eventually(lambda: children(process.pid))
    (toy,) = eventually(lambda: [pid for pid in children(supervisor) if len(children(pid)) == 1])
    house.behave("llm", "normal")
    os.kill(toy, signal.SIGKILL)  # its group goes with it: the grandchild is left to process 1
    eventually(lambda: len(house.lives("llm.1 started")) == 2, 20)
    eventually(lambda: len(found := children(supervisor)) == 1 and toy not in found, 20)
    os.kill(supervisor, signal.SIGTERM)
    assert process.wait(20) == 0


def children(pid: int) -> list[int]:
    """Return the children of a process, those that have ended and were not waited for, too."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
