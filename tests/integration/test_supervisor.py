"""The supervisor of all names over real processes: deaths, silences, orphans, refusals, stops."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import codec, messages, sockets
from bus.vocabulary import ExitCode, Outcome, Role
from supervisor import control, pidfile
from tests.kit.eventually import eventually
from tests.kit.toys import Toys, alive, toys

NAMES = ("store.1", "scanner.1", "llm.1", "executor.1", "monitor.1", "alerts.1", "dashboard.1", "paper.1")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Toys]:
    with toys(tmp_path) as found:
        yield found


def started(house: Toys, name: str) -> list[int]:
    """Return the pids of all lives of `name`."""
    return [int(line.split()[2]) for line in house.lives(f"{name} started")]


def second_life(house: Toys, name: str) -> int:
    return eventually(lambda: started(house, name)[1:])[0]


# ── refusals ──


def test_second_supervisor_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    with toys(tmp_path, watchdog_s=60.0) as house:  # however long the machine stands still, nothing else is started
        process = house.start()
        house.ready()
        done = house.call()
        assert done.returncode == ExitCode.LOCKED
        assert done.stderr.startswith(
            f"supervisor: formation.lock is held by supervisor (pid {process.pid}); it serves"
        )
        single = house.call("run", "llm")
        assert single.returncode == ExitCode.LOCKED
        assert single.stderr.startswith(f"supervisor: formation.lock is held by supervisor (pid {process.pid}). To end")
        assert len(house.pids()) == len(NAMES)


def test_lock_of_a_child_held_by_another_process_ends_everything_with_75(house: Toys) -> None:
    house.behave("executor", "exit 75")
    assert house.start().wait(10) == ExitCode.LOCKED
    assert not any(alive(pid) for pid in house.pids())


def test_wrong_configuration_is_not_tried_again_and_ends_everything_with_78(house: Toys) -> None:
    house.behave("llm", "exit 78")
    assert house.start().wait(10) == ExitCode.CONFIG
    assert len(started(house, "llm.1")) == 1
    assert "wrong configuration" in house.output()
    assert not any(alive(pid) for pid in house.pids())


@pytest.mark.parametrize("name", ["store", "executor"])
def test_one_that_cannot_live_drains_everything_and_exits_70(house: Toys, name: str) -> None:
    house.behave(name, "exit 1")
    assert house.start().wait(10) == ExitCode.GAVE_UP
    assert len(started(house, f"{name}.1")) == 5
    assert f"{name}.1 ended with code 1" in house.output()
    assert not any(alive(pid) for pid in house.pids())


def test_nothing_is_ended_by_a_pid_file_that_proves_nothing(house: Toys) -> None:
    house.call("status")  # makes the run folder
    bystander = subprocess.Popen(["sleep", "30"])
    try:
        peer = messages.Peer(Role.LLM, 1, "0123456789ab")
        path = pidfile.path_of(house.run_folder, peer)
        pidfile.write(path, bystander.pid, peer)
        entry = pidfile.read(path)
        assert entry is not None
        other_start = entry.started.rpartition(":")[0] + ":1"
        path.write_text(path.read_text().replace(entry.started, other_start))
        house.start()
        house.ready()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


# ── deaths and silences ──


def test_killed_child_is_replaced_in_half_a_second_and_the_store_is_told_until_it_acks(house: Toys) -> None:
    house.start()
    before = house.ready()["executor.1"]["pid"]
    inbox = sockets.bind_pull(sockets.store_address(house.run_folder), 1_048_576)
    try:
        killed_at = time.monotonic()
        os.kill(before, signal.SIGKILL)
        second_life(house, "executor.1")
        assert time.monotonic() - killed_at < 0.5
        first = codec.decode_to_store(eventually(inbox.receive))
        again = codec.decode_to_store(eventually(inbox.receive))
        assert isinstance(first.body, messages.ChildExited)
        assert first.body.peer.name == "executor.1"
        assert first.body.status == "was killed by SIGKILL"
        assert first.body.peer.incarnation in house.lives("executor.1 started")[0]
        assert again == first
        back = sockets.connect_push(sockets.inbox_address(house.run_folder, first.sender), immediate=True)
        assert back.send(codec.encode(messages.Ack(id=first.id, outcome=Outcome.APPLIED)), 2.0)
        time.sleep(0.3)
        while inbox.receive() is not None:
            pass
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            assert inbox.receive() is None
            time.sleep(0.05)
        back.close()
    finally:
        inbox.close()


def test_stopped_child_is_noticed_killed_and_replaced(house: Toys) -> None:
    house.start()
    before = house.ready()["llm.1"]["pid"]
    os.kill(before, signal.SIGSTOP)
    second_life(house, "llm.1")
    assert not alive(before)
    status = house.ready()
    assert status["llm.1"]["restarts"] == 1
    assert "llm.1 did not beat for 1." in house.output()


def test_child_that_is_alive_but_silent_shows_its_stacks_before_it_is_killed(house: Toys) -> None:
    house.behave("monitor", "mute")
    house.start()
    second_life(house, "monitor.1")
    assert house.lives("monitor.1 dumped")


def test_child_that_is_never_ready_is_killed_and_replaced(tmp_path: Path) -> None:
    with toys(tmp_path, start_s=0.5) as house:
        house.behave("llm", "never_ready")
        house.start()
        second_life(house, "llm.1")
        assert "llm.1 was not ready within" in house.output()


def test_analyst_that_dies_again_and_again_is_given_up_and_the_rest_runs_on(house: Toys) -> None:
    house.behave("llm.2", "crash_ready")
    process = house.start("--scale", "llm=3")
    eventually(lambda: house.status().get("llm.2", {}).get("state") == "given_up")
    status = house.ready(*NAMES, "llm.3")
    assert status["llm.2"]["pid"] is None
    assert status["llm.2"]["uptime_s"] is None
    assert "llm.2 ended with code 1" in house.output()
    assert "given up. The rest runs on" in house.output()
    house.behave("llm.2", "normal")
    assert house.call("restart", "llm.2").returncode == 0
    assert house.status()["llm.2"]["state"] == "ready"
    assert process.poll() is None


def test_what_a_child_started_dies_with_it(house: Toys) -> None:
    house.behave("llm", "grandchild")
    house.start()
    pid = house.ready()["llm.1"]["pid"]
    grandchild = int(eventually(lambda: house.lives("llm.1 grandchild"))[0].split()[2])
    house.behave("llm", "normal")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(grandchild))


def test_supervisor_that_was_frozen_itself_does_not_kill_its_children(house: Toys) -> None:
    """The whole machine stands still and the supervisor is the first to go on."""
    process = house.start()
    pids = [child["pid"] for child in house.ready().values()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(0.2)  # until their last beats are read
    process.send_signal(signal.SIGSTOP)
    time.sleep(2.2)  # longer than the watchdog (1 s) and than the gap that counts as frozen (2 s)
    process.send_signal(signal.SIGCONT)
    time.sleep(0.3)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    status = house.ready()
    assert [child["pid"] for child in status.values()] == pids
    assert "stood still" in house.output()


# ── the death of the supervisor ──


def test_killing_the_supervisor_leaves_no_orphan_and_the_next_one_starts_clean(house: Toys) -> None:
    process = house.start("--scale", "llm=2")
    house.ready()
    first_lives = house.pids()
    process.kill()
    process.wait()
    house.wait_gone(first_lives)
    assert house.call("status").returncode == 3
    house.start()
    assert set(house.ready()) == set(NAMES)


def test_supervisor_killed_between_start_and_pid_file_leaves_no_orphan(house: Toys, tmp_path: Path) -> None:
    points = tmp_path / "points"
    points.mkdir()
    (points / "supervisor.after_spawn").write_text("kill@3")
    process = house.start(PILOT_FAILPOINTS=str(points))
    assert process.wait(10) == -signal.SIGKILL
    house.wait_gone()


def test_child_that_outlived_a_killed_supervisor_is_ended_by_the_next_one(house: Toys) -> None:
    house.behave("executor", "deaf")
    process = house.start()
    left_over = house.ready()["executor.1"]["pid"]
    os.kill(left_over, signal.SIGSTOP)  # not even SIGTERM reaches it
    process.kill()
    process.wait()
    house.behave("executor", "normal")
    house.start()
    house.ready()
    assert not alive(left_over)
    assert f"executor.1 (pid {left_over}) is left over" in house.output(1)


def test_deaths_that_a_killed_supervisor_could_not_tell_are_told_by_the_next_one(house: Toys) -> None:
    process = house.start()
    house.ready()
    process.kill()
    process.wait()
    house.wait_gone()
    gone = {line.split()[0]: line.split()[3] for line in house.lives() if " started " in line}
    del gone["store.1"]  # it knows by its own start
    inbox = sockets.bind_pull(sockets.store_address(house.run_folder), 1_048_576)
    told: dict[str, str] = {}
    try:
        house.start()

        def all_told() -> bool:
            while (frame := inbox.receive()) is not None:
                body = codec.decode_to_store(frame).body
                assert isinstance(body, messages.ChildExited)
                told[body.peer.name] = body.peer.incarnation
            return told == gone

        eventually(all_told)
    finally:
        inbox.close()


def test_real_children_of_the_bus_end_with_their_supervisor(house: Toys) -> None:
    """The child's side of the lifeline, as every actor has it."""
    child = (
        "import os, select; from bus import runtime; line = runtime.die_with_parent(); "
        "os.write(1, b'up'); select.select([line], [], []); os.write(1, b'end')"
    )
    parent = (
        "import sys, time; from bus.messages import Peer; from bus.vocabulary import Role\n"
        "from supervisor import process\n"
        f"c = process.spawn([sys.executable, '-c', {child!r}], Peer(Role.LLM, 1, '0' * 12), process.Lifeline(), {{}})\n"
        "print(c.pid, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert process.stdout.read(2) == "up"
    process.kill()
    process.wait()
    eventually(lambda: not alive(pid))
    process.stdout.close()


# ── stops ──


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_first_signal_stops_everything_in_order_the_store_last(house: Toys, number: signal.Signals) -> None:
    house.behave("executor", "slow_stop")
    process = house.start()
    house.ready()
    process.send_signal(number)
    assert process.wait(10) == 0
    stopped = [line.split()[0] for line in house.lives() if line.endswith(" stopped")]
    assert set(stopped) == set(NAMES)
    assert stopped[-2:] == ["executor.1", "store.1"]
    left = [path.name for path in house.run_folder.iterdir() if path.suffix == ".in" or path.name.startswith("notify")]
    assert left == []


def test_child_that_ignores_the_stop_is_killed_after_its_time(tmp_path: Path) -> None:
    with toys(tmp_path, stop_s=0.5) as house:
        house.behave("llm", "ignore_term")
        process = house.start()
        house.ready()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert "llm.1 did not stop in time: killing it" in house.output()
        assert not any(alive(pid) for pid in house.pids())


def test_second_signal_skips_the_drain(tmp_path: Path) -> None:
    with toys(tmp_path, stop_s=30.0) as house:
        house.behave("llm", "ignore_term")
        process = house.start()
        house.ready()
        process.send_signal(signal.SIGINT)
        eventually(lambda: "SIGINT received: stopping" in house.output())
        process.send_signal(signal.SIGINT)
        process.wait(5)
        assert not any(alive(pid) for pid in house.pids())


def test_signal_while_the_operators_stop_is_under_way_does_not_skip_the_drain(tmp_path: Path) -> None:
    with toys(tmp_path, stop_s=5.0) as house:
        house.behave("executor", "slow_stop")
        process = house.start()
        house.ready()
        request = control.Stop(reply_to=control.new_reply_name())
        assert isinstance(control.ask(house.run_folder, "all", request, 5.0), control.Report)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert "executor.1 stopped" in house.lives()


# ── the operator ──


def test_formation_of_the_running_one_changes_and_the_call_returns_when_it_is_reached(house: Toys) -> None:
    house.behave("llm.3", "slow_ready")
    process = house.start("--scale", "llm=2,paper=0")
    assert set(house.ready()) == {*NAMES, "llm.2"} - {"paper.1"}
    assert house.call("--scale", "llm=3").returncode == 0
    assert house.status()["llm.3"]["state"] == "ready"
    assert house.call("scale", "llm=1", "paper=1").returncode == 0
    assert set(house.status()) == set(NAMES)
    assert len(started(house, "executor.1")) == 1
    restarted = house.call("restart", "executor")
    assert restarted.returncode == 0
    status = house.status()["executor.1"]
    assert status == {**status, "state": "ready", "restarts": 1, "pid": started(house, "executor.1")[1]}
    assert house.call("stop").returncode == 0
    assert process.wait(5) == 0
    assert not any(alive(pid) for pid in house.pids())


def test_status_says_per_process_what_was_promised(house: Toys) -> None:
    house.start()
    house.ready()
    child = {child["name"]: child for child in json.loads(house.call("status", "--json").stdout)}["scanner.1"]
    assert set(child) == {"name", "pid", "state", "restarts", "uptime_s", "last_beat_age_s"}
    assert child["pid"] == started(house, "scanner.1")[0]
    assert 0 <= child["last_beat_age_s"] < 1 < 60 > child["uptime_s"] > 0
    table = house.call("status").stdout.splitlines()
    assert table[0].split()[:3] == ["NAME", "PID", "STATE"]
    assert [line.split()[0] for line in table[1:]] == list(NAMES)


def test_scale_that_ends_in_a_given_up_analyst_says_so_with_70(house: Toys) -> None:
    house.behave("llm.2", "exit 1")
    house.start()
    house.ready()
    done = house.call("scale", "llm=2")
    assert done.returncode == ExitCode.GAVE_UP
    assert "llm.2 died again and again" in done.stderr
    assert house.status()["llm.2"]["state"] == "given_up"


def test_refusals_of_the_running_supervisor_change_nothing(house: Toys) -> None:
    house.start()
    house.ready()
    for arguments, why in (
        (("scale", "executor=2"), "place an order twice"),
        (("--scale", "store=2"), "only writer"),
        (("scale", "dashboard=2"), "one page listens on one port"),
        (("restart", "llm.7"), "not running here"),
    ):
        done = house.call(*arguments)
        assert (done.returncode, why in done.stderr) == (ExitCode.USAGE, True), done
    other = house.call("--profile", "paper", "--scale", "llm=2")
    assert other.returncode == ExitCode.USAGE
    assert "has profile toys, not paper" in other.stderr
    assert len(house.pids()) == len(NAMES)


def test_monitor_only_runs_without_all_that_trades(house: Toys) -> None:
    house.start("--monitor-only")
    assert set(house.ready()) == {"store.1", "monitor.1", "alerts.1", "dashboard.1", "paper.1"}


@pytest.mark.parametrize("verb", [("status",), ("status", "--json"), ("scale", "llm=2"), ("restart", "llm")])
def test_verbs_say_that_nothing_runs(house: Toys, verb: tuple[str, ...]) -> None:
    done = house.call(*verb)
    assert done.returncode == 3
    assert "not running" in done.stderr


def test_bytes_that_are_no_request_are_dropped_and_the_supervisor_goes_on(house: Toys) -> None:
    house.start()
    house.ready()
    push = sockets.connect_push(control.mailbox_path(house.run_folder, "all"), immediate=True)
    try:
        for frame in (
            b"",
            b"\xff" * 100,
            b"\x91" * 5_000,
            b"\x82\xa4kind\xa4Stop\xa8reply_to\xac../../evil.in",
            b"\x00" * 70_000,
        ):
            assert push.send(frame, 2.0)
            assert house.status()["store.1"]["state"] == "ready"
    finally:
        push.close()


def test_notices_of_strangers_change_nothing(house: Toys) -> None:
    house.behave("llm", "mute")
    house.start()
    eventually(lambda: house.lives("llm.1 started"))
    path = eventually(lambda: next(house.run_folder.glob("notify.all"), None))
    deadline = time.monotonic() + 10
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.setblocking(False)
        while not started(house, "llm.1")[1:]:  # our beats do not keep the mute one alive
            assert time.monotonic() < deadline
            with contextlib.suppress(BlockingIOError):
                stranger.sendto(b"READY=1\nWATCHDOG=1", str(path))
            time.sleep(0.05)
