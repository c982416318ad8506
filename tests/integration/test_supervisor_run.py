"""`supervisor run NAME`, alone, beside others, and as the lines of a Procfile under honcho."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from bus import runtime
from bus.vocabulary import ExitCode, Role
from config import load
from supervisor import cli, client, pidfile, procfile
from tests.kit.eventually import eventually
from tests.kit.toys import ROOT, Toys, alive, toys

Here = Callable[..., tuple[int, str]]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Toys]:
    with toys(tmp_path) as found:
        yield found


@pytest.fixture
def here(house: Toys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """Give the command line inside this process, for what ends before anything is started."""
    for name, value in house.environment.items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str) -> tuple[int, str]:
        try:
            code = cli.main(arguments)
        except SystemExit as ended:
            code = int(str(ended.code))
        return code, capsys.readouterr().err

    return call


def names(house: Toys) -> set[str]:
    """Return who is ready now."""
    return {name for name, child in house.status().items() if child["state"] == "ready"}


# ── refusals ──


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("run", "analyst"), "known: store, scanner, llm"),
        (("run", "executor", "--slot", "2"), "place an order twice"),
        (("run", "llm", "--slot", "33"), "allowed: llm.1..llm.32"),
        (("run", "llm", "--slot", "0"), "allowed: llm.1..llm.32"),
        (("--scale", "llm=2", "run", "llm"), "--scale does not go with"),
        (("--once", "stop"), "--once does not go with"),
        (("run",), "NAME"),
        (("sacle", "llm=2"), "invalid choice"),
        (("scale", "llm=2=3"), "NAME=COUNT"),
        (("--once", "--monitor-only"), "contradict"),
        (("--once", "--scale", "executor=0"), "--once needs at least one each"),
    ],
)
def test_command_line_that_cannot_be_is_refused_with_64(here: Here, arguments: tuple[str, ...], why: str) -> None:
    code, text = here(*arguments)
    assert (code, why in text) == (ExitCode.USAGE, True), text


def test_honcho_asking_for_two_executors_is_refused(house: Toys) -> None:
    done = house.call("run", "executor", HONCHO_PROCESS_NAME="executor.2")
    assert done.returncode == ExitCode.USAGE
    assert "place an order twice" in done.stderr


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("llm: exec supervisor run llm\n", "has no store"),
        ("store: supervisor run store\n", "allowed: 'exec supervisor run store'"),
        ("store: exec supervisor run executor\n", "allowed: 'exec supervisor run store'"),
        ("store: exec supervisor run store\nstore: exec supervisor run store\n", "twice"),
        ("store: exec supervisor run store\nmonitor exec supervisor run monitor\n", "is not NAME: COMMAND"),
        ("store: exec supervisor run store\ntunnel: exec ssh host\n", "known: store"),
        ("store: exec supervisor run store --profile live\n", "Procfile:1: profile 'live': there is no file"),
        (
            "store: exec supervisor run store --profile e8-signature-50k\n",
            "into every line, or start with --profile e8-signature-50k",
        ),
        ("store: exec supervisor run store --slot 3\n", "allowed: --profile NAME"),
        ("store: exec supervisor 'run store\n", "No closing quotation"),
    ],
)
def test_procfile_that_cannot_be_is_refused_with_78(here: Here, tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "Procfile"
    path.write_text(text)
    code, said = here("--procfile", str(path))
    assert (code, why in said) == (ExitCode.CONFIG, True), said
    assert not (tmp_path / "toys" / "lives").exists()


def test_a_procfile_may_name_its_profile_in_any_way_and_the_command_line_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine.toml"
    mine.write_text("")
    path = tmp_path / "Procfile"
    for line in ("mine.toml", "./mine.toml", str(mine)):
        path.write_text(f"store: exec supervisor run store --profile {line}\n")
        for given in ("mine.toml", "./mine.toml", str(mine)):
            assert procfile.roles(path, load.profile_file(given)) == (Role.STORE,)
    path.write_text("store: exec supervisor run store --profile paper\n")
    paper = load.profile_file("paper")
    assert procfile.roles(path, paper) == procfile.roles(path, load.profile_file(str(paper))) == (Role.STORE,)
    with pytest.raises(load.ConfigError, match=r"put --profile \S*mine\.toml into every line"):
        procfile.roles(path, mine)


def test_supervisor_of_all_names_is_refused_beside_one_of_a_single_name(house: Toys) -> None:
    process = house.start("run", "llm")
    house.ready("llm.1")
    assert house.call().returncode == ExitCode.LOCKED
    scaled = house.call("--scale", "llm=2")
    assert scaled.returncode == ExitCode.USAGE
    assert "honcho start -c llm=3" in scaled.stderr
    taken = house.call("run", "llm", "--slot", "1")
    assert taken.returncode == ExitCode.LOCKED
    assert taken.stderr.startswith("supervisor: supervisor.llm.1.lock is held by supervisor run llm (pid ")
    assert f"pid {process.pid}" in taken.stderr


def test_second_executor_is_refused_with_75(house: Toys) -> None:
    house.start("run", "executor")
    house.ready("executor.1")
    assert house.call("run", "executor").returncode == ExitCode.LOCKED
    assert len(house.lives("executor.1 started")) == 1


def test_version_is_told_whatever_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--profile", "none-of-these", "--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"supervisor {metadata.version('prop-firm-pilot')}\n")


# ── slots and deaths ──


def test_slots_are_the_one_asked_for_then_honchos_then_the_lowest_free(house: Toys) -> None:
    house.start("run", "llm", "--slot", "2", HONCHO_PROCESS_NAME="llm.9")
    house.start("run", "llm", HONCHO_PROCESS_NAME="llm.4")
    house.start("run", "llm", HONCHO_PROCESS_NAME="web.7")
    eventually(lambda: names(house) == {"llm.1", "llm.2", "llm.4"})


def test_analyst_that_is_given_up_does_not_end_its_supervisor(house: Toys) -> None:
    house.behave("llm", "exit 1")
    process = house.start("run", "llm")
    eventually(lambda: "given up" in house.output())
    assert house.status()["llm.1"]["state"] == "given_up"
    house.behave("llm", "normal")
    assert house.call("restart", "llm").returncode == 0
    assert process.poll() is None


def test_executor_that_cannot_live_ends_its_supervisor_with_70(house: Toys) -> None:
    house.behave("executor", "exit 1")
    assert house.start("run", "executor").wait(10) == ExitCode.GAVE_UP


@pytest.mark.parametrize(("word", "code"), [("exit 0", 70), ("exit 3", 3), ("exit 78", 78)])
def test_without_restarts_the_code_of_the_child_is_passed_on(house: Toys, word: str, code: int) -> None:
    house.behave("monitor", word)
    assert house.start("run", "monitor", "--no-restart").wait(10) == code
    assert len(house.lives("monitor.1 started")) == 1


def test_systemd_is_told_when_the_child_is_ready_and_that_the_loop_lives(house: Toys, tmp_path: Path) -> None:
    import socket

    path = house.base / "systemd"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(5)
        process = house.start("run", "monitor", NOTIFY_SOCKET=str(path), WATCHDOG_PID="1")
        heard = set()
        while not {b"READY=1", b"WATCHDOG=1"} <= heard:
            heard.add(systemd.recv(100))
        process.send_signal(signal.SIGTERM)
        while b"STOPPING=1" not in heard:
            heard.add(systemd.recv(100))
        assert process.wait(5) == 0


def test_store_goes_on_until_the_supervisors_beside_it_have_stopped(tmp_path: Path) -> None:
    with toys(tmp_path, stop_s=4.0) as house:
        house.behave("llm", "slow_stop")
        store, llm = house.start("run", "store"), house.start("run", "llm")
        eventually(lambda: names(house) == {"store.1", "llm.1"})
        for process in (store, llm):
            process.send_signal(signal.SIGTERM)
        assert (store.wait(5), llm.wait(5)) == (0, 0)
        assert [line for line in house.lives() if line.endswith("stopped")] == ["llm.1 stopped", "store.1 stopped"]


# ── honcho ──


def honcho(house: Toys, *arguments: str) -> subprocess.Popen[str]:
    """Start honcho itself over a Procfile with the lines of ours, the command being the toys' supervisor."""
    lines = (
        (ROOT / "Procfile").read_text().replace("exec supervisor run", f"exec {sys.executable} -m tests.kit.toys run")
    )
    (house.folder / "Procfile").write_text(lines)
    with (house.folder / "honcho").open("w") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("honcho"), "start", "-f", house.folder / "Procfile", *arguments],
            cwd=ROOT,
            env=house.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    house.started.append(process)
    return process


ALL = {
    "store.1", "scanner.1", "llm.1", "llm.2", "llm.3", "executor.1", "monitor.1", "alerts.1", "dashboard.1", "paper.1",
}  # fmt: skip


def test_honcho_runs_three_analysts_replaces_in_place_and_stops_everything(house: Toys) -> None:
    process = honcho(house, "-c", "llm=3")
    eventually(lambda: names(house) == ALL, 20.0)
    os.kill(house.status()["executor.1"]["pid"], signal.SIGKILL)
    os.kill(house.status()["llm.2"]["pid"], signal.SIGSTOP)
    for name in ("executor.1", "llm.2"):
        eventually(lambda name=name: house.status()[name]["restarts"] == 1)
    eventually(lambda: names(house) == ALL)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert not any(alive(pid) for pid in house.pids())
    stopped = [line.split()[0] for line in house.lives() if line.endswith(" stopped")]
    assert stopped[-1] == "store.1"
    assert pidfile.supervisors(house.run_folder) == {}


def test_honcho_ends_with_the_code_of_a_role_that_cannot_live(house: Toys) -> None:
    house.behave("executor", "exit 78")
    process = honcho(house)
    assert process.wait(20) == ExitCode.CONFIG
    assert not any(alive(pid) for pid in house.pids())


def test_supervisor_stop_ends_what_honcho_started(house: Toys) -> None:
    process = honcho(house)
    eventually(lambda: names(house) == ALL - {"llm.2", "llm.3"}, 20.0)
    assert house.call("stop").returncode == 0
    process.wait(10)
    assert not any(alive(pid) for pid in house.pids())


# ── verbs ──


@pytest.mark.parametrize("verb", [("status",), ("scale", "llm=2"), ("restart", "llm"), ("stop",), ("--scale", "llm=2")])
def test_a_verb_waits_as_long_as_the_profile_that_is_given_says(
    house: Toys, here: Here, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    slow = house.folder / "slow.toml"
    slow.write_text("[supervisor]\nstart_s = 300.0\nstop_s = 50.0\n")
    waits: list[float] = []

    class Client:
        def __init__(self, _: Path, wait_s: float) -> None:
            waits.append(wait_s)
            raise client.NotRunning

    monkeypatch.setattr(client, "Client", Client)
    lock = runtime.acquire_lock(load.run_folder() / "formation.lock", "another supervisor")
    try:
        assert here("--profile", str(slow), *verb)[0] == client.NOT_RUNNING
    finally:
        lock.release()
    assert waits == [300.0 + 2 * 50.0 + cli.MARGIN_S]
