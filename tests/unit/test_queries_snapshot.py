"""A reader's snapshot: one moment in several calls, and an error in it is told as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from store.queries import Reader
from tests.kit.store import StoreHarness


@pytest.fixture
def reader() -> Iterator[Reader]:
    yield StoreHarness().read


def test_error_after_sqlite_rolled_back_itself_is_the_one_that_is_told(reader: Reader) -> None:
    with pytest.raises(OSError, match="the disk is gone"), reader.snapshot():
        reader._db.execute("ROLLBACK")  # as SQLite does by itself after an I/O error
        raise OSError("the disk is gone")
    assert not reader._db.in_transaction


def test_snapshot_that_failed_is_ended(reader: Reader) -> None:
    with pytest.raises(ValueError, match="no"), reader.snapshot():
        raise ValueError("no")
    assert not reader._db.in_transaction
