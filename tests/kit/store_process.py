"""`python -m store` as a real process in short folders of its own, to be killed at will; and bare ends of mailboxes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from bus import codec, messages, sockets
from bus.clock import SystemClock
from bus.link import Link
from bus.messages import Envelope, FromStore, Peer
from config.settings import Bus
from store.queries import Reader
from tests.kit import failpoints
from tests.kit.eventually import eventually

BYTES_MAX = 65_536
BUS = Bus(beat_s=0.1, dead_s=1.0, resend_s=0.1, message_bytes_max=BYTES_MAX)
PROFILE = f"""
[bus]
beat_s = {BUS.beat_s}
dead_s = {BUS.dead_s}
resend_s = {BUS.resend_s}
message_bytes_max = {BYTES_MAX}
"""
ROOT = Path(__file__).parent.parent.parent


class StoreProcess:
    """One store after the other over the same folders."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.data = base / "data"
        self.db = self.data / "decisions.db"
        self.points = base / "points"
        self._run = base / "run"
        self._run.mkdir(mode=0o700)
        (base / "test.toml").write_text(PROFILE)
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *descriptors: int, **environment: str) -> subprocess.Popen[str]:
        """Start one, which inherits `descriptors`. Returns at once; whoever asks it waits until it answers."""
        own = {
            "PILOT_DATA": str(self.data), "PILOT_RUN": str(self._run), "PILOT_PROFILE": str(self.base / "test.toml"),
            "PILOT_FAILPOINTS": str(self.points),
        }  # fmt: skip
        with self.log().open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "store"], env=os.environ | own | environment, cwd=ROOT, text=True,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True, pass_fds=descriptors,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def log(self) -> Path:
        return self.base / "store.log"

    def said(self, text: str) -> bool:
        """Return whether the log holds `text`."""
        return self.log().exists() and text in self.log().read_text()

    def serving(self, epoch: int) -> None:
        """Wait until a store serves this epoch."""
        eventually(lambda: self.said(f"Serving epoch {epoch} "))

    def arm(self, name: str, action: str = "kill", *, at_pass: int = 1) -> None:
        failpoints.arm(self.points, name, action, at_pass=at_pass)

    def run_folder(self) -> Path:
        return eventually(lambda: next(self._run.glob("pilot-*"), None))  # type: ignore[return-value]

    def read(self) -> Reader:
        return Reader(self.db)

    def kill(self) -> None:
        """End the newest one as the kernel would."""
        self.processes[-1].kill()
        self.processes[-1].wait()

    def end(self, wanted: signal.Signals = signal.SIGTERM) -> int:
        """Ask the newest one to end; return its exit code."""
        self.processes[-1].send_signal(wanted)
        return self.processes[-1].wait(10)

    @asynccontextmanager
    async def link(self, peer: Peer) -> AsyncIterator[Link]:
        """Open the real link of an actor in the running loop."""
        link = Link(peer, BUS, self.run_folder(), SystemClock())
        link.open()
        try:
            yield link
        finally:
            link.close()

    @contextmanager
    def wire(self, peer: Peer) -> Iterator[Wire]:
        """Open a way to the store that carries any bytes."""
        found = Wire(peer, self.run_folder())
        try:
            yield found
        finally:
            found.close()


class Wire:
    """Bare sockets of one incarnation: sends what it is told, resends nothing, hides nothing."""

    def __init__(self, peer: Peer, run_folder: Path) -> None:
        self._inbox = sockets.bind_pull(sockets.inbox_address(run_folder, peer), BYTES_MAX)
        self._store = sockets.connect_push(sockets.store_address(run_folder), immediate=True, bytes_max=10_000_000)
        self.got: list[FromStore] = []

    def send(self, frame: bytes | Envelope) -> None:
        """Hand over one frame; waits for a store that takes it."""
        raw = frame if isinstance(frame, bytes) else codec.encode(frame)
        eventually(lambda: self._store.send(raw))

    def acks(self, count: int) -> list[messages.Ack]:
        """Wait for this many acks in all and return them."""
        return eventually(lambda: found if len(found := self._acks()) >= count else None)  # type: ignore[return-value]

    def _acks(self) -> list[messages.Ack]:
        while (frame := self._inbox.receive()) is not None:
            self.got.append(codec.decode_from_store(frame))
        return [one for one in self.got if isinstance(one, messages.Ack)]

    def close(self) -> None:
        self._inbox.close()
        self._store.close()


@contextmanager
def store_process() -> Iterator[StoreProcess]:
    """Give a store that is not started yet; leave no process and no folder behind."""
    base = Path(tempfile.mkdtemp(prefix="ps", dir="/tmp"))  # short: socket paths end at 107 bytes
    found = StoreProcess(base)
    try:
        yield found
    finally:
        for process in found.processes:
            process.kill()  # also ends one that is stopped
            process.wait()
        shutil.rmtree(base)
