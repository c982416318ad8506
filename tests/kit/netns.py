"""Two hosts with a cable between them, as network namespaces of this machine: cut it, mend it, lose packets on it.

Needs root, `ip` and /dev/net/tun; `possible` says whether they are there. The cable is a thread that carries packets
between two tun devices, so that it is cut between two packets, and loses those that a seed says. Names hold the process
id: several runs do not meet. A namespace belongs to a thread: what is started inside `at` lives there, io threads too.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import random
import select
import shutil
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x4000_0000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x4004_54CA, 0x0001, 0x1000
PACKET_BYTES_MAX = 65_536
TUN = Path("/dev/net/tun")
HOME, FAR = "10.213.77.1", "10.213.77.2"


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True, timeout=20)


class Cable:
    """The two namespaces `home` and `far`, addresses `HOME` and `FAR`. `loss` is the part of packets that is lost."""

    def __init__(self, seed: int) -> None:
        self.names = {where: f"pilot-{where}-{os.getpid()}" for where in ("home", "far")}
        self.lost = self.carried = 0
        self.loss = 0.0
        self._random = random.Random(seed)
        self._ends: list[int] = []
        self._stop, self._stopping = os.pipe()
        for where, address in (("home", HOME), ("far", FAR)):
            name = self.names[where]
            _run("ip", "netns", "add", name)
            with self.at(where):
                end = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", b"c0", IFF_TUN | IFF_NO_PI))
            self._ends.append(end)
            _run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "c0")
            for device in ("lo", "c0"):
                _run("ip", "-n", name, "link", "set", device, "up")
        self._thread = threading.Thread(target=self._carry, name="cable")
        self._thread.start()

    def cut(self) -> None:
        """Drop everything in both directions; nobody is told."""
        self.loss = 1.0

    def mend(self) -> None:
        self.loss = 0.0

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        """Move this thread to a host for what is started inside."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/thread-self/ns/net").open("rb") as before:
            with Path(f"/run/netns/{self.names[where]}").open("rb") as there:
                assert libc.setns(there.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(before.fileno(), CLONE_NEWNET) == 0

    def remove(self) -> None:
        os.write(self._stopping, b"x")
        self._thread.join()
        for one in (*self._ends, self._stop, self._stopping):
            os.close(one)
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def _carry(self) -> None:
        home, far = self._ends
        while True:
            ready, _, _ = select.select([home, far, self._stop], [], [])
            if self._stop in ready:
                return
            for end in ready:
                with contextlib.suppress(BlockingIOError, OSError):
                    packet = os.read(end, PACKET_BYTES_MAX)
                    if self._random.random() < self.loss:
                        self.lost += 1
                        continue
                    os.write(far if end == home else home, packet)
                    self.carried += 1


def possible() -> str:
    """Return why there can be no namespaces here; empty when there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip") or not TUN.exists():
        return f"network namespaces need the command ip (package iproute2) and {TUN}"
    name = f"pilot-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    return f"no network namespaces here: {made.stderr.strip()}" if made.returncode else ""


@contextmanager
def cable(seed: int = 20_260_216) -> Iterator[Cable]:
    """Lay a cable and remove it with both hosts. It loses the packets that the seed says."""
    found = Cable(seed)
    try:
        yield found
    finally:
        found.remove()
