"""A database that somebody holds for a moment is waited for: it is not damaged."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import apsw
import pytest

from store import connection

HELD_S = 0.3


@pytest.fixture
def path(tmp_path: Path) -> Path:
    connection.open_writer(tmp_path / "decisions.db").close()
    return tmp_path / "decisions.db"


def hold(path: Path, held: threading.Event) -> None:
    """Lock the file as a reader does that recovers the log after a kill."""
    db = apsw.Connection(str(path))
    db.pragma("locking_mode", "exclusive")
    db.execute("BEGIN IMMEDIATE; COMMIT")
    held.set()
    time.sleep(HELD_S)
    db.close()


def test_store_that_starts_while_the_file_is_held_waits_for_it(path: Path) -> None:
    held = threading.Event()
    holder = threading.Thread(target=hold, args=(path, held))
    holder.start()
    try:
        assert held.wait(5)
        began_s = time.monotonic()
        connection.open_writer(path).close()
        assert time.monotonic() - began_s > HELD_S / 2, "it was not held: the test shows nothing"
    finally:
        holder.join()
