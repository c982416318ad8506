"""The real store process on a disk that is full: it waits, says so, calls nothing damaged, and serves once it can."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

import pytest

from bus.vocabulary import ExitCode, Role
from store import verify
from tests.kit.builders import a_peer, a_propose, an_envelope
from tests.kit.eventually import eventually
from tests.kit.store_process import StoreProcess, store_process


@pytest.fixture
def store() -> Iterator[StoreProcess]:
    """Return a store whose data folder is a small disk of its own."""
    with store_process() as found:
        found.data.mkdir(mode=0o700)
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "none", str(found.data)]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("needs to mount a tmpfs: root")
        try:
            yield found
        finally:
            for process in found.processes:
                process.kill()
                process.wait()
            eventually(lambda: subprocess.run(["umount", str(found.data)], check=False).returncode == 0)


def fill(store: StoreProcess) -> None:
    """Leave not one byte on the disk."""
    with (store.data / "ballast").open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass
    assert os.statvfs(store.data).f_bavail == 0


@pytest.mark.parametrize("was_killed", [False, True], ids=["after an orderly stop", "after a kill"])
def test_a_store_on_a_full_disk_waits_for_room_and_calls_nothing_damaged(store: StoreProcess, was_killed: bool) -> None:
    store.start()
    store.serving(1)
    if was_killed:
        store.kill()
    else:
        assert store.end() == ExitCode.OK
    fill(store)
    process = store.start()
    eventually(lambda: store.said("Disk full, the store starts when there is room"))
    assert process.poll() is None
    (store.data / "ballast").unlink()
    store.serving(2)
    with store.wire(a_peer(Role.SCANNER)) as wire:
        wire.send(an_envelope(a_peer(Role.SCANNER), a_propose()))
        assert not store.said("damaged")
    reader = store.read()
    assert verify.verify_chain(reader) == []
    reader.close()
    assert store.end() == ExitCode.OK


def test_a_store_that_waits_for_room_ends_when_it_is_told_to(store: StoreProcess) -> None:
    store.start()
    store.serving(1)
    store.kill()
    fill(store)
    process = store.start()
    eventually(lambda: store.said("Disk full, the store starts when there is room"))
    process.terminate()
    assert process.wait(10) != 0
