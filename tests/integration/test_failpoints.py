"""What an armed point does to a real process, and what the link loses at one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import codec, failpoints, messages, sockets
from bus.clock import SystemClock
from bus.failpoints import FailpointError
from bus.link import Link
from bus.messages import Peer
from bus.vocabulary import Outcome, Role
from config.settings import Bus
from tests.kit import failpoints as kit
from tests.kit.eventually import eventually, eventually_async

PASSER = """
import sys
from bus.failpoints import reach
print("started", flush=True)
for line in sys.stdin:
    print(line.strip(), reach("test.before_step"), flush=True)
"""
BYTES_MAX = 1_048_576


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "points").mkdir()
    return tmp_path / "points"


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Arm the points of this very process."""
    monkeypatch.setattr(failpoints, "_folder", str(folder))
    monkeypatch.setattr(failpoints, "_passes", {})
    return folder


@pytest.fixture
def passer(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that passes `test.before_step` once for each line it is given."""
    process = subprocess.Popen(
        [sys.executable, "-c", PASSER], env=os.environ | {"PILOT_FAILPOINTS": str(folder)}, text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent.parent,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    yield process
    process.kill()
    process.communicate()


def pass_once(process: subprocess.Popen[str], word: str = "go") -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


# ── refusals ────────────────────────────────────────────────────────────────


def test_a_point_does_nothing_without_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.arm(folder, "test.before_step", "error")
    monkeypatch.setattr(failpoints, "_folder", "")
    assert failpoints.reach("test.before_step") is False
    assert not kit.has_fired(folder, "test.before_step")


def test_a_point_that_nobody_armed_is_passed(here: Path) -> None:
    kit.arm(here, "test.before_another", "error")
    assert failpoints.reach("test.before_step") is False


@pytest.mark.parametrize("text", ["", "explode", "kill@0", "kill@-1", "sleep x", "stop 1 2", "error@one"])
def test_what_is_no_action_is_an_error_and_names_the_point(here: Path, text: str) -> None:
    (here / "test.before_step").write_text(text)
    with pytest.raises(FailpointError, match=r"test\.before_step"):
        failpoints.reach("test.before_step")


# ── passes ──────────────────────────────────────────────────────────────────


def test_a_point_fires_once_at_its_nth_pass(here: Path) -> None:
    kit.arm(here, "test.before_step", "drop", at_pass=3)
    assert [failpoints.reach("test.before_step") for _ in range(6)] == [False, False, True, False, False, False]
    assert kit.has_fired(here, "test.before_step")


def test_passes_are_counted_anew_when_a_point_is_armed_again(here: Path) -> None:
    for _ in range(3):
        kit.arm(here, "test.before_step", "drop", at_pass=2)
        assert [failpoints.reach("test.before_step") for _ in range(3)] == [False, True, False]


def test_passes_of_a_disarmed_point_do_not_count_for_the_next_one(here: Path) -> None:
    armed = kit.arm(here, "test.before_step", "drop", at_pass=3)
    failpoints.reach("test.before_step")
    failpoints.reach("test.before_step")
    armed.unlink()
    kit.arm(here, "test.before_step", "drop", at_pass=2)
    assert [failpoints.reach("test.before_step") for _ in range(2)] == [False, True]


# ── actions ─────────────────────────────────────────────────────────────────


def test_error_raises_and_names_the_point(here: Path) -> None:
    kit.arm(here, "test.before_step", "error")
    with pytest.raises(FailpointError, match=r"test\.before_step"):
        failpoints.reach("test.before_step")
    assert failpoints.reach("test.before_step") is False


def test_sleep_blocks_for_its_time_and_no_longer(here: Path) -> None:
    kit.arm(here, "test.before_step", "sleep 0.1")
    began = time.monotonic()
    assert failpoints.reach("test.before_step") is False
    assert 0.1 <= time.monotonic() - began < 2


def test_kill_ends_the_process_and_its_successor_passes(folder: Path, passer: subprocess.Popen[str]) -> None:
    kit.arm(folder, "test.before_step", "kill", at_pass=2)
    assert pass_once(passer, "first") == "first False"
    assert pass_once(passer) == ""
    assert passer.wait(5) == -signal.SIGKILL
    assert kit.has_fired(folder, "test.before_step")
    successor = subprocess.run(
        [sys.executable, "-c", PASSER], env=os.environ | {"PILOT_FAILPOINTS": str(folder)}, text=True,
        input="again\n", capture_output=True, cwd=Path(__file__).parent.parent.parent, timeout=20, check=True,
    )  # fmt: skip
    assert successor.stdout == "started\nagain False\n"


def test_stop_stands_still_until_somebody_wakes_it(folder: Path, passer: subprocess.Popen[str]) -> None:
    kit.arm(folder, "test.before_step", "stop")
    assert passer.stdin is not None
    assert passer.stdout is not None
    passer.stdin.write("go\n")
    passer.stdin.flush()
    eventually(lambda: state_of(passer.pid) == "T")
    os.kill(passer.pid, signal.SIGCONT)
    assert passer.stdout.readline() == "go False\n"


def test_stop_with_a_time_wakes_by_itself(folder: Path, passer: subprocess.Popen[str]) -> None:
    kit.arm(folder, "test.before_step", "stop 0.4")
    began = time.monotonic()
    assert passer.stdin is not None
    assert passer.stdout is not None
    passer.stdin.write("go\n")
    passer.stdin.flush()
    eventually(lambda: state_of(passer.pid) == "T")
    assert passer.stdout.readline() == "go False\n"
    assert 0.4 <= time.monotonic() - began < 5
    assert pass_once(passer, "after") == "after False"


# ── messages that are lost ──────────────────────────────────────────────────


class Store:
    """The other end of one link: takes what comes, and answers each command once told to."""

    def __init__(self, run_folder: Path, peer: Peer) -> None:
        self.inbox = sockets.bind_pull(sockets.store_address(run_folder), BYTES_MAX)
        self.answers = sockets.connect_push(sockets.inbox_address(run_folder, peer), immediate=False)

    def take(self) -> messages.Envelope | None:
        frame = self.inbox.receive()
        return None if frame is None else codec.decode_to_store(frame)

    def close(self) -> None:
        self.inbox.close()
        self.answers.close()


@pytest.mark.parametrize("point", ["scanner.before_send_report", "scanner.before_take_ack"])
async def test_a_message_that_is_lost_is_made_good_by_the_resend(here: Path, tmp_path: Path, point: str) -> None:
    peer = Peer(Role.SCANNER, 1, "0123456789ab")
    link = Link(peer, Bus(resend_s=0.05), tmp_path, SystemClock())
    link.open()
    store = Store(tmp_path, peer)
    kit.arm(here, point, "drop")
    taken: list[messages.Envelope] = []

    def answer() -> bool:
        if (found := store.take()) is not None:
            taken.append(found)
            store.answers.send(codec.encode(messages.Ack(id=found.id, outcome=Outcome.APPLIED)))
        return asked.done()

    try:
        asked = asyncio.create_task(link.ask(messages.Report(level="info", event="test", text="lost once"), 10))
        await eventually_async(answer)
        assert asked.result().outcome is Outcome.APPLIED
        assert kit.has_fired(here, point)
        assert {one.id for one in taken} == {asked.result().id}
        assert len(taken) == (1 if "send" in point else 2)
    finally:
        link.close()
        store.close()
