"""The real store as a process of its own in a folder of its own, for tests of what talks to it. Synchronous."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from actors.console import asking
from actors.pilot import main
from bus import link, messages
from bus.records import Signal
from bus.vocabulary import Outcome, Role


class RealStore:
    """Starts and stops processes of the pipeline on the folders that the environment names."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, module: str) -> None:
        """Start `python -m module`."""
        self._processes[module] = subprocess.Popen([sys.executable, "-m", module], stdout=subprocess.DEVNULL)

    def stop(self, module: str) -> int:
        """Ask a process to end and return its exit code."""
        process = self._processes.pop(module)
        process.terminate()
        try:
            return process.wait(10)
        finally:
            process.kill()
            process.wait()

    def stop_all(self) -> None:
        for module in reversed(tuple(self._processes)):
            self.stop(module)

    def propose(self, signal: Signal) -> str:
        """Propose an intent as the scanner would; return its id."""
        command = messages.Propose(signal=signal, trade_date="2026-11-02")
        ack = link.ask_once(command, role=Role.SCANNER, deadline_s=20)
        assert ack.outcome is Outcome.APPLIED, ack
        assert ack.intent_id is not None
        return ack.intent_id


@contextmanager
def real_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[RealStore]:
    """Run a store on fresh, short folders; leave no process and no file behind."""
    folder = Path(tempfile.mkdtemp(prefix="pt"))
    (folder / "run").mkdir(mode=0o700)
    monkeypatch.setenv("PILOT_DATA", str(folder / "data"))
    monkeypatch.setenv("PILOT_RUN", str(folder / "run"))
    monkeypatch.setenv("PILOT_PROFILE", "paper")
    for name in ("NOTIFY_SOCKET", "PILOT_SLOT", "PILOT_INCARNATION", "PILOT_LIFELINE_FD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(asking, "ANSWER_S", 60.0)  # a store that starts on a busy machine is no store that is away
    found = RealStore()
    try:
        found.start("store")
        yield found
    finally:
        found.stop_all()
        shutil.rmtree(folder)


class Ended(NamedTuple):
    """How a command line ended."""

    returncode: int
    stdout: str
    stderr: str


def pilot(*arguments: str, given: str = "") -> Ended:
    """Run the operator's command line in this process, at 80 columns, with `given` as input."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        patch.setattr(sys, "argv", ["pilot", *arguments])
        patch.setattr(sys, "stdin", io.StringIO(given))
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            with pytest.raises(SystemExit) as end:
                main()
    return Ended(int(end.value.code or 0), out.getvalue(), err.getvalue())
