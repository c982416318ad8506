"""The scanner as a process, against a store that only takes and answers: killed around its proposals and its mark."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import codec, messages, sockets
from bus.vocabulary import Outcome, State
from config import load
from tests.kit import market

PROFILE = """
symbols = ["EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "USDCHF"]
[scanner]
sources = ["csv"]
csv_path = "{bars}"
top_k = 2
history_bars_min = 300
train_bars_max = 400
seeds = 1
bar_age_days_max = 3650
"""


class TinyStore:
    """Binds the store's mailbox, remembers proposals by their key and answers like a store that has committed."""

    def __init__(self, run_folder: Path) -> None:
        self.keys: list[str] = []  # every proposal that came with a new id
        self.rows: set[str] = set()
        self.beats: list[messages.Beat] = []
        self.requests: list[messages.GrantRequests | messages.ReturnRequests] = []
        self._ids: set[str] = set()
        self._folder = run_folder
        self._inbox = sockets.bind_pull(sockets.store_address(run_folder), 1_048_576)
        self._ways: dict[str, sockets.Socket] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._end.wait(0.002):
            while (frame := self._inbox.receive()) is not None:
                self._take(codec.decode_to_store(frame))

    def _take(self, envelope: messages.Envelope) -> None:
        if isinstance(envelope.body, messages.Beat):
            self.beats.append(envelope.body)
            return
        outcome = Outcome.APPLIED
        if isinstance(envelope.body, messages.GrantRequests | messages.ReturnRequests):
            self.requests += [envelope.body] if envelope.id not in self._ids else []
        if isinstance(envelope.body, messages.Propose):
            signal_ = envelope.body.signal
            key = f"{signal_.symbol}:{signal_.timeframe}:{signal_.bar_time}:{envelope.body.source}"
            if envelope.id not in self._ids:
                self.keys.append(key)
                outcome = Outcome.ALREADY if key in self.rows else Outcome.APPLIED
            self.rows.add(key)
        self._ids.add(envelope.id)
        peer = envelope.sender
        if peer.incarnation not in self._ways:
            self._ways[peer.incarnation] = sockets.connect_push(
                sockets.inbox_address(self._folder, peer), immediate=False
            )
        self._ways[peer.incarnation].send(codec.encode(messages.Ack(id=envelope.id, outcome=outcome)))

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        for way in self._ways.values():
            way.close()
        self._inbox.close()


class Bench:
    """A folder, a profile, a tiny store, and scanners that are started and killed."""

    def __init__(self, tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.data = tmp_path / "data"
        self.points = tmp_path / "points"
        self.points.mkdir()
        profile = tmp_path / "test.toml"
        profile.write_text(PROFILE.format(bars=market.csv_folder(tmp_path / "bars")))
        for name, value in (
            ("PILOT_DATA", self.data),
            ("PILOT_RUN", run),
            ("PILOT_PROFILE", profile),
            ("PILOT_FAILPOINTS", self.points),
        ):
            monkeypatch.setenv(name, str(value))
        self.store = TinyStore(load.run_folder())
        self.processes: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        self.processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "actors.scanner"],
                cwd=load.ROOT,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ,
            )
        )
        return self.processes[-1]

    def until_finished(self) -> None:
        """Wait until a beat says that the first scan is done."""
        seen = len(self.store.beats)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if any(beat.state is State.READY for beat in self.store.beats[seen:]):
                return
            time.sleep(0.01)
        raise AssertionError(f"no scan was finished within 20 s; proposals: {self.store.keys}")

    @property
    def mark(self) -> Path:
        return self.data / "models" / "last_scan.json"

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        self.store.close()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="ps", dir="/tmp") as run:
        found = Bench(tmp_path, Path(run), monkeypatch)
        yield found
        found.close()


@pytest.mark.parametrize(
    ("point", "proposed", "marked"),
    [
        ("scanner.before_propose", 2, False),
        ("scanner.after_propose", 3, False),  # one before the kill, answered "already" after it
        ("scanner.before_mark", 4, False),
        ("scanner.after_mark", 2, True),
        ("model.before_save", 2, False),
    ],
)
def test_a_scanner_killed_anywhere_proposes_each_pair_of_a_bar_once(
    bench: Bench, point: str, proposed: int, marked: bool
) -> None:
    (bench.points / point).write_text("kill")
    if point.startswith("model."):
        # The child dies, not the scanner: that is a transient failure and waits a minute, so end the scanner as well.
        first = bench.start()
        wait_for(bench.points / f"{point}.fired")
        first.kill()
    else:
        first = bench.start()
    assert first.wait(timeout=20) == -signal.SIGKILL
    assert bench.mark.exists() is marked
    second = bench.start()
    bench.until_finished()
    second.terminate()
    assert second.wait(timeout=10) == 0
    assert bench.mark.exists()
    assert len(bench.store.keys) == proposed
    assert len(bench.store.rows) == 2


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} was not reached within 20 s"
        time.sleep(0.01)


def test_a_stop_in_the_middle_of_a_scan_ends_in_order_and_leaves_no_child(bench: Bench) -> None:
    (bench.points / "model.before_save").write_text("sleep 60")
    process = bench.start()
    wait_for(bench.points / "model.before_save.fired")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.terminate()
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 0, output
    assert "Stopped during a scan; it will be done again" in output
    assert children
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    assert not bench.store.keys
    assert not bench.mark.exists()


def test_a_scanner_that_is_killed_takes_its_child_with_it(bench: Bench) -> None:
    (bench.points / "model.before_save").write_text("sleep 60")
    process = bench.start()
    wait_for(bench.points / "model.before_save.fired")
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[-1][:3]:
        assert time.monotonic() < deadline, "the child outlived the scanner by 5 s"
        time.sleep(0.01)


def test_a_scanner_killed_between_grant_and_fetch_gives_nothing_back_and_asks_anew(bench: Bench) -> None:
    profile = Path(os.environ["PILOT_PROFILE"])
    text = profile.read_text().replace('sources = ["csv"]', 'sources = ["broker", "csv"]')
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens here, and nobody else can
        profile.write_text(f'{text}[broker]\nbase_url = "http://127.0.0.1:{taken.getsockname()[1]}"\n')
        (bench.points / "scanner.before_scan").write_text("kill")
        assert bench.start().wait(timeout=20) == -signal.SIGKILL
        (granted,) = bench.store.requests
        assert isinstance(granted, messages.GrantRequests)
        second = bench.start()
        bench.until_finished()
        second.terminate()
        assert second.wait(timeout=10) == 0
    again, returned = bench.store.requests[1:]
    assert again == granted
    assert isinstance(returned, messages.ReturnRequests)
    assert returned.reads == granted.reads - 1, "one login was tried"
    assert len(bench.store.rows) == 2, "and the files took over"
