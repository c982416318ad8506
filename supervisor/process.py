"""Start one child, signal it, wait for it. Its pid file proves later, together with its start time, that it is ours.

Used by every supervisor. Children are exec'd in a session of their own, inherit standard output, and hold the reading
end of a pipe, the lifeline: when this process dies, however it dies, they read end of file and stop. Decides nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bus import failpoints, standby
from bus.messages import Peer
from bus.vocabulary import Role
from config import load

Commands = Callable[[Role], Sequence[str]]


def command_of(role: Role) -> list[str]:
    """Return the command line of a role: the one place that says which program a name stands for."""
    module = "store" if role is Role.STORE else f"actors.{role}"
    return [sys.executable, "-m", module]


class Lifeline:
    """The pipe whose writing end only this process holds."""

    def __init__(self) -> None:
        self.reading, self._writing = os.pipe2(os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.reading)
        os.close(self._writing)


class Process:
    """One living process, from its start until it was waited for."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self.pidfd = os.pidfd_open(process.pid)
        self._process = process

    def send(self, number: signal.Signals) -> None:
        """Signal the process. By pidfd: it cannot reach another one that got the same number later."""
        failpoints.reach("supervisor.before_signal")  # one signal to one child or spare
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return  # it ended just now; the pidfd says so, too
        failpoints.reach("supervisor.after_signal")

    def kill(self) -> None:
        """End the process and all that it started in its session. Works on stopped ones as well."""
        failpoints.reach("supervisor.before_kill")  # SIGKILL to a child or spare and to its group
        self.send(signal.SIGKILL)
        self._kill_group()
        failpoints.reach("supervisor.after_kill")

    def reap(self) -> int | None:
        """Return how the process ended (negative: the signal), or None while it lives. Never waits.

        The pidfd stays open until `close`, so that a poller can let go of it first.
        """
        if os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        failpoints.reach("supervisor.before_reap")  # taking the exit status of a process that has ended
        # Before the wait: until then nobody else can get this number.
        self._kill_group()
        return self._process.wait()

    def close(self) -> None:
        os.close(self.pidfd)

    def _kill_group(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return  # the group is empty


class Child(Process):
    """A process that is one incarnation of a slot."""

    def __init__(self, peer: Peer, process: subprocess.Popen[bytes]) -> None:
        super().__init__(process)
        self.peer = peer


class Spare(Process):
    """A process that waits to become a child. It reads its turn from a pipe whose writing end only we hold."""

    def __init__(self, process: subprocess.Popen[bytes], turn: int) -> None:
        super().__init__(process)
        self.ended_by_us = False
        self._turn = turn

    def hand_over(self, peer: Peer) -> Child | None:
        """Tell it who it is from now on. None: it is dead. The caller lets go of this object afterwards."""
        try:
            os.write(self._turn, standby.line_of(standby.Turn(peer.slot, peer.incarnation)))
        except BrokenPipeError:
            return None
        return Child(peer, self._process)

    def end(self) -> None:
        """Kill it: it holds nothing that would want an orderly end."""
        self.ended_by_us = True
        self.kill()

    def wait(self, timeout_s: float) -> None:
        """Wait for the end of a killed one; one that the kernel does not let go within `timeout_s` is left to it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)

    def close(self) -> None:
        super().close()
        os.close(self._turn)


def spawn(command: Sequence[str], peer: Peer, lifeline: Lifeline, extra: Mapping[str, str | None]) -> Child:
    """Start a child. `extra`: its environment beside ours; None takes one away. Raises OSError when it cannot be."""
    own = {"PILOT_SLOT": str(peer.slot), "PILOT_INCARNATION": peer.incarnation}
    return Child(peer, _popen(command, lifeline, {**extra, **own}))


def spawn_spare(command: Sequence[str], lifeline: Lifeline, extra: Mapping[str, str | None]) -> Spare:
    """Start a spare. `extra`: its environment beside ours; None takes one away. Raises OSError when it cannot be."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        process = _popen(command, lifeline, {**extra, standby.ENV: str(reading)}, reading)
    except OSError:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    return Spare(process, writing)


def _popen(
    command: Sequence[str], lifeline: Lifeline, extra: Mapping[str, str | None], *descriptors: int
) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    for name in ("WATCHDOG_PID", "PILOT_SLOT", "PILOT_INCARNATION", standby.ENV):
        environment.pop(name, None)  # they would speak of us: a child that reads our pid there would not beat
    for name, value in extra.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    environment |= {"PILOT_LIFELINE_FD": str(lifeline.reading), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        env=environment,
        cwd=load.ROOT,
        close_fds=True,
        pass_fds=(lifeline.reading, *descriptors),
        start_new_session=True,
    )


def start_time(pid: int) -> str | None:
    """Return what no other process with this number has: boot id and start in ticks. None: there is no such process.

    Source: proc(5), field 22 of /proc/PID/stat. A zombie counts as gone.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
    # The second field, the command in brackets, may hold blanks and brackets itself.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        return None
    return f"{boot}:{fields[19]}"
