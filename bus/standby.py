"""A spare: a process that has imported and read everything, holds nothing, and waits for its supervisor to name it.

Used at the start of every process that may be a spare. Until it is named it takes no lock, binds no socket, opens no
database and asks no broker; from then on it starts as any other process does, settings read again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import msgspec
from msgspec import Struct
from setproctitle import setproctitle

from bus import codec, garbage, logs, runtime, sockets
from bus.vocabulary import Role
from config import entitled, load
from config.settings import Settings

ENV = "PILOT_STANDBY_FD"
STANDS_BY = "X_STANDBY=1"  # the private field of a notice that says: warm, and waiting
TURN_BYTES_MAX = 200
LOCK_WAIT_S = 0.5  # a helper of the dead one, killed with it, may hold its lock for a moment longer


class Turn(Struct, frozen=True, forbid_unknown_fields=True):
    """The supervisor's word: be this slot, in this incarnation. One line of JSON."""

    slot: int
    incarnation: str


def wait_for_turn(role: Role, warm_up: Callable[[Settings], object]) -> bool:
    """Return False at once unless this process was started as a spare; then warm up, wait for the turn, return True.

    `warm_up` loads what the first work would load, and must take, bind, write and ask nothing. Ends the process with 0
    when the supervisor is gone.

    Raises:
        config.load.ConfigError: the settings cannot be: better now than when they are needed.
    """
    given = os.environ.pop(ENV, "")
    if not given.isdigit():
        garbage.settle()
        return False
    descriptor = int(given)
    os.set_inheritable(descriptor, False)
    setproctitle(f"pilot: {role}.spare")
    logs.configure(f"{role}.spare")
    settings = load.settings()
    logs.hide_known(entitled.everything(settings))
    load.run_folder()
    warm_up(settings)
    sockets.warm_up()
    codec.warm_up()
    garbage.settle(thoroughly=True)
    runtime.notify(STANDS_BY)
    turn = _read(descriptor)
    if turn is None:
        sys.exit(0)
    runtime.notify("WATCHDOG=1")
    os.environ["PILOT_SLOT"] = str(turn.slot)
    os.environ["PILOT_INCARNATION"] = turn.incarnation
    return True


def line_of(turn: Turn) -> bytes:
    """Return what is written into a spare's pipe: short enough to arrive whole or not at all."""
    return msgspec.json.encode(turn) + b"\n"


def _read(descriptor: int) -> Turn | None:
    """Wait for the line. None: the supervisor is gone, or what came is no turn."""
    line = os.read(descriptor, TURN_BYTES_MAX)
    os.close(descriptor)
    try:
        return msgspec.json.decode(line, type=Turn) if line else None
    except msgspec.DecodeError:
        return None
