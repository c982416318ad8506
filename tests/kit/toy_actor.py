"""A toy child for the supervisor's tests: speaks sd_notify and behaves as a file tells it. Standard library only.

Arguments: folder and role. The behaviour is the word in `<folder>/<role>.<slot>`, else in `<folder>/<role>`, else
`normal`. Each life adds a line to `<folder>/lives`.
"""

import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

BEAT_S = 0.1


def behaviour(folder: Path, role: str, slot: str) -> str:
    for path in (folder / f"{role}.{slot}", folder / role):
        if path.exists():
            return path.read_text().strip()
    return "normal"


def notify(text: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        datagram.setblocking(False)
        try:
            datagram.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
        except OSError:
            return


def note(folder: Path, what: str) -> None:
    with (folder / "lives").open("a") as file:
        file.write(what + "\n")


def wait_for_turn(folder: Path, role: str) -> bool:
    """Wait as a spare does, if this is one; return False when the supervisor is gone."""
    given = os.environ.pop("PILOT_STANDBY_FD", "")
    if not given:
        return True
    note(folder, f"{role}.spare started {os.getpid()}")
    word = behaviour(folder, role, "spare")
    if word.startswith("exit "):
        sys.exit(int(word.removeprefix("exit ")))
    if word != "never_warm":
        notify("X_STANDBY=1")
    line = os.read(int(given), 200)
    if not line:
        return False
    turn = json.loads(line)
    os.environ["PILOT_SLOT"], os.environ["PILOT_INCARNATION"] = str(turn["slot"]), turn["incarnation"]
    return True


def main() -> int:
    folder, role = Path(sys.argv[1]), sys.argv[2]
    if not wait_for_turn(folder, role):
        note(folder, f"{role}.spare saw the supervisor end")
        return 0
    slot = os.environ["PILOT_SLOT"]
    name, word = f"{role}.{slot}", behaviour(folder, role, slot)
    lifeline = int(os.environ["PILOT_LIFELINE_FD"])
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda seen, _: stopping.append(seen))
    if word == "ignore_term":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: note(folder, f"{name} dumped"))
    note(folder, f"{name} started {os.getpid()} {os.environ['PILOT_INCARNATION']} {os.environ['PILOT_PROFILE']}")
    if word.startswith("exit "):
        return int(word.removeprefix("exit "))
    if word == "grandchild" and os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note(folder, f"{name} grandchild {os.getpid()}")
        time.sleep(60)
        return 0
    if word == "slow_ready":
        time.sleep(0.6)
    if word != "never_ready":
        notify("READY=1")
    if word == "crash_ready":
        time.sleep(0.05)
        return 1
    while not stopping:
        if word != "mute":
            notify("WATCHDOG=1")
        readable, _, _ = select.select([] if word == "deaf" else [lifeline], [], [], BEAT_S)
        if readable and word != "ignore_term":
            note(folder, f"{name} saw the supervisor end")
            return 0
    if word == "slow_stop":
        time.sleep(0.3)
    note(folder, f"{name} stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
