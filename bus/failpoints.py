"""Named places where a test may make this process die, stop, wait, fail, or lose a message. Imported by every process.

`reach` does nothing unless `PILOT_FAILPOINTS` names a folder that holds a file of the point's name. The file's text is
the action, with `@n` for the n-th pass since it was armed (each process counts its own passes):

    kill            SIGKILL to this process
    stop            SIGSTOP until somebody sends SIGCONT
    stop SECONDS    SIGSTOP, and the kernel sends SIGCONT when the time is over
    sleep SECONDS   block the whole thread: a slow disk, a slow network
    error           raise FailpointError
    drop            `reach` returns True: the caller loses the message it was about to send or take

A point fires once: its file is renamed to NAME.fired first, so that a restarted process passes. Names are
`process.point`; docs/testing.md lists them all. The comment behind each call says what stands between the two sides.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import signal
import time
from pathlib import Path

SECONDS_MAX = 3_600.0
ACTION = re.compile(r"(?P<action>kill|stop|sleep|error|drop)( (?P<seconds>[0-9]+(\.[0-9]+)?))?(@(?P<nth>[1-9][0-9]*))?")

_folder = os.environ.get("PILOT_FAILPOINTS", "")
_passes: dict[str, tuple[tuple[int, int], int]] = {}  # by point: which arming, passes since


class FailpointError(Exception):
    """Raised by a point armed with `error`, or with something that is no action."""


def reach(name: str) -> bool:
    """Pass the point `name`. Returns True when the caller must drop its message; False always in production."""
    return bool(_folder) and _fire(Path(_folder) / name, name)


def step_of(message: object) -> str:
    """Return a message's kind as it stands in the name of a point: `ReserveOrder` is `reserve_order`."""
    return _step_of(type(message).__name__)


@functools.cache  # as many as there are kinds of message
def _step_of(kind: str) -> str:
    return re.sub(r"(?<=.)([A-Z])", r"_\1", kind).lower()


def _fire(armed: Path, name: str) -> bool:
    try:
        with armed.open(encoding="ascii") as file:
            text = file.read(100).strip()
            made = os.fstat(file.fileno())
    except OSError:
        return False
    matched = ACTION.fullmatch(text)
    if matched is None:
        raise FailpointError(f"failpoint {name} was armed with {text!r}; allowed: see bus/failpoints.py")
    arming = (made.st_ino, made.st_mtime_ns)
    before, count = _passes.get(name, (arming, 0))
    count = count + 1 if before == arming else 1
    _passes[name] = (arming, count)
    if count < int(matched["nth"] or 1):
        return False
    try:
        armed.rename(armed.with_name(f"{armed.name}.fired"))
    except OSError:
        return False  # another process took it
    return _do(name, matched["action"], min(float(matched["seconds"] or 0), SECONDS_MAX))


def _do(name: str, action: str, seconds: float) -> bool:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        if seconds:
            _wake_after(seconds)
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "sleep":
        time.sleep(seconds)
    elif action == "error":
        raise FailpointError(f"failpoint {name}: {action}")
    return action == "drop"


# ── waking a stopped process: a timer of the kernel runs on while the process does not ──────────────────────────────


class _SigEvent(ctypes.Structure):
    """`struct sigevent` of glibc and musl on 64 bits: value, signal, kind, padding to 64 bytes."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("padding", ctypes.c_int * 12),
    )


def _wake_after(seconds: float) -> None:
    """Let the kernel send this process SIGCONT once, `seconds` from now. Source: timer_create(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    event = _SigEvent(signo=signal.SIGCONT, notify=0)  # SIGEV_SIGNAL
    timer = ctypes.c_void_p()
    whole, rest_ns = int(seconds), int(seconds % 1 * 1e9)
    when = (ctypes.c_long * 4)(0, 0, whole, rest_ns)  # struct itimerspec: no interval, first after this long
    made = libc.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer))
    if made != 0 or libc.timer_settime(timer, 0, ctypes.byref(when), None) != 0:
        raise FailpointError(f"no timer to wake up by: {os.strerror(ctypes.get_errno())}")
