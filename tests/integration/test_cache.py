"""The cache of bars as files: torn at every byte, damaged, too long, locked, killed between any two steps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from actors.market import cache, quarantine
from actors.market.cache import Cache, Owner, Row
from actors.market.errors import ScanError
from config import load

OWNER = Owner(source="broker", origin="https://broker.invalid", symbol="EURUSD", interval="H1")
ROWS = [Row(1_771_200_000 + n * 3_600, 1.1, 1.2, 1.0, 1.1 + n / 1_000) for n in range(6)]


def made(folder: Path, rows: list[Row]) -> Path:
    found = Cache(folder, OWNER)
    found.append(rows)
    return found.path


def test_bars_come_back_as_they_were_appended(tmp_path: Path) -> None:
    made(tmp_path, ROWS[:2])
    path = made(tmp_path, ROWS[2:])
    assert Cache(tmp_path, OWNER).rows == ROWS
    assert cache.newest(path) == ROWS[-1]


def test_a_file_that_was_torn_at_any_byte_loses_only_the_torn_bar_and_goes_on(tmp_path: Path) -> None:
    whole = made(tmp_path, ROWS[:4]).read_bytes()
    path = cache.path_of(tmp_path, OWNER)
    begin = cache.HEADER_BYTES + 2 * cache.RECORD_BYTES
    for size in range(begin, len(whole)):
        path.write_bytes(whole[:size])
        kept = (size - cache.HEADER_BYTES) // cache.RECORD_BYTES
        assert cache.newest(path) == ROWS[kept - 1]
        found = Cache(tmp_path, OWNER)
        assert found.rows == ROWS[:kept], size
        found.append(ROWS[kept:])
        assert Cache(tmp_path, OWNER).rows == ROWS, size
    for size in range(cache.HEADER_BYTES):
        path.write_bytes(whole[:size])
        assert cache.newest(path) is None
        assert Cache(tmp_path, OWNER).rows == [], size


def test_a_flipped_bit_of_a_bar_ends_the_bars_there(tmp_path: Path) -> None:
    whole = made(tmp_path, ROWS).read_bytes()
    path, begin = cache.path_of(tmp_path, OWNER), cache.HEADER_BYTES + 2 * cache.RECORD_BYTES
    for at in range(begin, begin + cache.VALUES.size):
        path.write_bytes(flipped(whole, at))
        assert Cache(tmp_path, OWNER).rows == ROWS[:2], at
        assert path.stat().st_size == begin


def test_a_flipped_bit_of_a_checksum_loses_no_bar_that_a_later_one_proves(tmp_path: Path) -> None:
    whole = made(tmp_path, ROWS).read_bytes()
    path, begin = cache.path_of(tmp_path, OWNER), cache.HEADER_BYTES + 2 * cache.RECORD_BYTES
    for at in range(begin + cache.VALUES.size, begin + cache.RECORD_BYTES):
        path.write_bytes(flipped(whole, at))
        assert Cache(tmp_path, OWNER).rows == ROWS, at
    for at in range(len(whole) - 4, len(whole)):
        path.write_bytes(flipped(whole, at))
        assert Cache(tmp_path, OWNER).rows == ROWS[:-1], at


def test_no_bit_of_the_newest_bar_can_flip_unseen(tmp_path: Path) -> None:
    for rows in (ROWS, ROWS[:1]):
        whole = made(tmp_path / str(len(rows)), rows).read_bytes()
        path = cache.path_of(tmp_path / str(len(rows)), OWNER)
        assert cache.newest(path) == rows[-1]
        for at in range(len(whole) - cache.RECORD_BYTES, len(whole)):
            for bit in range(8):
                path.write_bytes(flipped(whole, at, bit))
                assert cache.newest(path) is None, (at, bit)


def flipped(content: bytes, at: int, bit: int = 2) -> bytes:
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


def test_records_that_were_swapped_or_left_out_are_no_chain(tmp_path: Path) -> None:
    whole = made(tmp_path, ROWS).read_bytes()
    path, size = cache.path_of(tmp_path, OWNER), cache.RECORD_BYTES
    head, records = whole[: cache.HEADER_BYTES], whole[cache.HEADER_BYTES :]
    path.write_bytes(head + records[:size] + records[2 * size :])
    assert Cache(tmp_path, OWNER).rows == ROWS[:1]


def test_another_address_has_another_file_and_another_owners_file_begins_anew(tmp_path: Path) -> None:
    made(tmp_path, ROWS)
    other = Owner(source="broker", origin="https://elsewhere.invalid", symbol="EURUSD", interval="H1")
    assert Cache(tmp_path, other).rows == []
    path = cache.path_of(tmp_path, OWNER)
    path.write_bytes(cache.path_of(tmp_path, other).read_bytes())
    assert Cache(tmp_path, OWNER).rows == []


def test_a_file_with_twice_what_is_wanted_keeps_the_newest(tmp_path: Path) -> None:
    found = Cache(tmp_path, OWNER)
    found.append(ROWS)
    found.keep(4)
    assert Cache(tmp_path, OWNER).rows == ROWS
    found.keep(3)
    assert Cache(tmp_path, OWNER).rows == ROWS[3:]
    found.append([Row(ROWS[-1].time + 3_600, 1.1, 1.2, 1.0, 1.1)])
    assert len(Cache(tmp_path, OWNER).rows) == 4


def test_only_one_process_writes(tmp_path: Path) -> None:
    with cache.writing(tmp_path):
        with pytest.raises(ScanError, match="another process writes") as caught, cache.writing(tmp_path):
            pass
    assert caught.value.transient
    with cache.writing(tmp_path):
        pass


def test_a_file_of_any_size_is_not_read_whole(tmp_path: Path) -> None:
    path = made(tmp_path, ROWS)
    with path.open("ab") as file:
        file.truncate(cache.FILE_BYTES_MAX + 1)
    with pytest.raises(ScanError, match="larger than"):
        Cache(tmp_path, OWNER)


KILLED = """
import sys
from pathlib import Path
from actors.market import quarantine
from tests.integration.test_cache import OWNER, ROWS, Cache
folder = Path(sys.argv[1])
found = Cache(folder, OWNER)
found.append(ROWS[len(found.rows):])
found.keep(3)
quarantine.add(folder, ["broker EURUSD H1 x: y"], "now")
"""
POINTS = ["append_bars", "cut_bars", "replace_bars", "quarantine"]


@pytest.mark.parametrize("step", POINTS)
def test_a_kill_on_either_side_of_a_step_leaves_a_file_that_goes_on(tmp_path: Path, step: str) -> None:
    for side in ("before", "after"):
        folder, points = tmp_path / side, tmp_path / f"points-{side}"
        points.mkdir()
        path = made(folder, ROWS[:4])
        if step == "cut_bars":
            path.write_bytes(path.read_bytes()[:-5])
        (points / f"scan.{side}_{step}").write_text("kill")
        process = subprocess.run(
            [sys.executable, "-c", KILLED, str(folder)], cwd=load.ROOT, timeout=60, check=False,
            env=os.environ | {"PILOT_FAILPOINTS": str(points)}, capture_output=True,
        )  # fmt: skip
        assert process.returncode == -signal.SIGKILL, process.stderr.decode()
        again = Cache(folder, OWNER)
        assert again.rows and again.rows == [one for one in ROWS if again.rows[0].time <= one.time][: len(again.rows)]
        again.append([one for one in ROWS if one.time > again.rows[-1].time])
        assert Cache(folder, OWNER).rows[-3:] == ROWS[-3:]


# ── quarantine ──────────────────────────────────────────────────────────────


def test_a_refused_bar_is_written_down_once_for_people(tmp_path: Path) -> None:
    entry = quarantine.line("broker", "EURUSD", "H1", "2026-02-16T08:00Z open 1.1", "a price\nis not above 0")
    assert quarantine.add(tmp_path, [entry, entry], "2026-02-16T09:00:20.000Z") == [entry]
    assert quarantine.add(tmp_path, [entry], "2026-02-16T10:00:20.000Z") == []
    assert (tmp_path / quarantine.NAME).read_text() == (
        "2026-02-16T09:00:20.000Z  broker EURUSD H1 2026-02-16T08:00Z open 1.1: a price is not above 0\n"
    )


def test_the_quarantine_keeps_the_newest_lines(tmp_path: Path) -> None:
    quarantine.add(tmp_path, [f"old {n}" for n in range(quarantine.LINES_MAX)], "t")
    quarantine.add(tmp_path, ["new"], "t")
    lines = (tmp_path / quarantine.NAME).read_text().splitlines()
    assert (len(lines), lines[0], lines[-1]) == (quarantine.LINES_MAX, "t  old 1", "t  new")
