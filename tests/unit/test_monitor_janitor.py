"""The janitor: a backup when one is due, and nothing that fails goes untold."""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from actors.watch.janitor import Janitor
from bus import messages
from bus.vocabulary import Outcome
from config import settings
from store import backup, connection
from tests.kit.desk import Shifted
from tests.kit.fake_link import FakeLink


def a_janitor(tmp_path: Path, link: FakeLink, clock: Shifted, **changes: Any) -> Janitor:
    return Janitor(
        link,  # type: ignore[arg-type]
        settings.Settings(profile="test", monitor=settings.Monitor(**changes)),
        clock,
        db_path=tmp_path / "decisions.db",
        folder=tmp_path / "backups",
    )


async def test_backup_that_fails_is_told(tmp_path: Path) -> None:
    link = FakeLink()
    await a_janitor(tmp_path, link, Shifted()).round()  # there is no database
    (report,) = link.of(messages.Report)
    assert isinstance(report, messages.Report)
    assert (report.level, report.event) == ("error", "backup_failed")


async def test_store_that_is_away_is_swept_in_the_next_round(tmp_path: Path) -> None:
    link = FakeLink(lambda _: None)
    await a_janitor(tmp_path, link, Shifted()).round()
    assert [type(command) for command in link.asked] == [messages.Sweep]
    assert not (tmp_path / "backups").exists()


async def test_sweep_that_is_refused_is_told_once_and_backups_go_on(tmp_path: Path) -> None:
    connection.open_writer(tmp_path / "decisions.db").close()
    swept = [Outcome.REFUSED, Outcome.REFUSED, Outcome.REFUSED, Outcome.APPLIED, Outcome.REFUSED]

    def answer(command: messages.Command) -> messages.Ack:
        outcome = swept.pop(0) if isinstance(command, messages.Sweep) else Outcome.APPLIED
        return messages.Ack(id="1", outcome=outcome, reason="UNIQUE constraint failed")

    link = FakeLink(answer)
    janitor = a_janitor(tmp_path, link, Shifted())
    for _ in range(3):
        await janitor.round()
    (report,) = link.of(messages.Report)
    assert isinstance(report, messages.Report)
    assert (report.level, report.event) == ("error", "sweep_refused") and "UNIQUE constraint failed" in report.text
    assert len(backup.found(tmp_path / "backups")) == 1
    for _ in range(2):
        await janitor.round()
    assert len(link.of(messages.Report)) == 2, "refused anew"


async def test_backup_is_made_when_the_newest_one_is_old_enough_by_its_name(tmp_path: Path) -> None:
    connection.open_writer(tmp_path / "decisions.db").close()
    link, clock = FakeLink(), Shifted()
    janitor = a_janitor(tmp_path, link, clock)
    await janitor.round()
    (made,) = (tmp_path / "backups").glob("decisions-*.db")
    await janitor.round()
    assert list((tmp_path / "backups").glob("decisions-*.db")) == [made]
    os.utime(made, (0, 0))
    assert not janitor.is_backup_due(), "whoever moves files changes their times"
    made.rename(named(made, clock, age_s=21_600))
    assert janitor.is_backup_due()
    (tmp_path / "backups" / "decisions-20990101T000000Z.db").write_text("made while the clock was wrong")
    assert janitor.is_backup_due()
    assert link.of(messages.Report) == []


def named(path: Path, clock: Shifted, *, age_s: float) -> Path:
    """Return what a backup of that age is called."""
    return path.with_name(f"{clock.now() - timedelta(seconds=age_s):{backup.NAME}}")


async def test_backup_older_than_two_cadences_is_told_once_until_there_is_a_newer_one(tmp_path: Path) -> None:
    folder, link, clock = tmp_path / "backups", FakeLink(), Shifted()
    folder.mkdir()
    old = named(folder / "x", clock, age_s=43_201)
    old.write_text("x")
    janitor = a_janitor(tmp_path, link, clock)
    for _ in range(3):
        await janitor.round()  # there is no database: nothing newer is made
    told = [one for one in link.of(messages.Report) if one.event == "backup_overdue"]
    assert [one.level for one in told] == ["error"] and "12.0 hours old" in told[0].text
    old.rename(named(old, clock, age_s=43_000))
    await janitor.round()
    named(old, clock, age_s=43_000).rename(named(old, clock, age_s=50_000))
    await janitor.round()
    assert len([one for one in link.of(messages.Report) if one.event == "backup_overdue"]) == 2


async def test_second_folder_gets_checked_copies_and_holds_up_nothing(tmp_path: Path) -> None:
    connection.open_writer(tmp_path / "decisions.db").close()
    link, clock, second = FakeLink(), Shifted(), tmp_path / "other disk"
    janitor = a_janitor(tmp_path, link, clock, backup_second_folder=str(second), backups_kept=2)
    await a_round_and_its_copy(janitor)
    (report,) = link.of(messages.Report)
    assert report.event == "backup_failed" and "is the disk mounted?" in report.text
    assert not second.exists(), "the place of a disk that is not there is not written to"
    second.mkdir()
    (second / "decisions-20260101T000000Z.db.part").write_text("of one that was killed")
    for day in (1, 2, 3):
        (second / f"decisions-2026010{day}T000000Z.db").write_text("old")
    await a_round_and_its_copy(janitor)
    (made,) = (tmp_path / "backups").glob("decisions-*.db")
    assert sorted(path.name for path in second.iterdir()) == ["decisions-20260103T000000Z.db", made.name]
    assert (second / made.name).read_bytes() == made.read_bytes()
    os.utime(second / made.name, (1, 1))
    await a_round_and_its_copy(janitor)
    assert (second / made.name).stat().st_mtime == 1, "what is there is not copied again"


async def a_round_and_its_copy(janitor: Janitor) -> None:
    before = asyncio.all_tasks()
    await janitor.round()
    await asyncio.gather(*(asyncio.all_tasks() - before))


async def test_backup_made_while_the_clock_was_ahead_is_the_newest_nowhere_and_the_first_to_go(tmp_path: Path) -> None:
    connection.open_writer(tmp_path / "decisions.db").close()
    first, second, link, clock = tmp_path / "backups", tmp_path / "other disk", FakeLink(), Shifted()
    second.mkdir()
    janitor = a_janitor(tmp_path, link, clock, backup_second_folder=str(second), backups_kept=2)
    clock.ahead_s = 5_184_000.0  # for one round
    await a_round_and_its_copy(janitor)
    (ahead,) = backup.found(first)
    clock.ahead_s = 0.0
    assert backup.newest(clock.now(), first) == ahead, "there is no other"
    await a_round_and_its_copy(janitor)
    made, also_ahead = backup.found(second)
    assert backup.newest(clock.now(), second, first) == backup.found(first)[0]
    assert (made[1].name, also_ahead[0]) == (backup.found(first)[0][1].name, ahead[0])
    clock.ahead_s = 21_601.0
    await a_round_and_its_copy(janitor)
    assert [at for at, _ in backup.found(first)] == [at for at, _ in backup.found(second)]
    assert ahead[0] not in dict(backup.found(first))


async def test_second_folder_that_got_its_last_copy_under_a_clock_ahead_is_told_as_overdue(tmp_path: Path) -> None:
    connection.open_writer(tmp_path / "decisions.db").close()
    second, link, clock = tmp_path / "other disk", FakeLink(), Shifted()
    second.mkdir()
    janitor = a_janitor(tmp_path, link, clock, backup_second_folder=str(second))
    clock.ahead_s = 5_184_000.0
    await a_round_and_its_copy(janitor)
    second.rename(tmp_path / "pulled out")
    told = len(link.of(messages.Report))
    for clock.ahead_s in (0.0, 43_201.0):
        await a_round_and_its_copy(janitor)
    late = [one.text for one in link.of(messages.Report)[told:] if one.event == "backup_overdue"]
    assert len(late) == 1 and str(second) in late[0]


async def test_second_copy_that_hangs_is_told_and_the_first_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.open_writer(tmp_path / "decisions.db").close()
    link, clock, free = FakeLink(), Shifted(), threading.Event()
    monkeypatch.setattr(backup, "keep_second", lambda *_: free.wait())
    janitor = a_janitor(tmp_path, link, clock, backup_second_folder=str(tmp_path))
    try:
        for _ in range(3):
            await janitor.round()
            clock.ahead_s += 21_601
        assert len(backup.found(tmp_path / "backups")) == 3
        (report,) = link.of(messages.Report)
        assert report.event == "backup_overdue" and str(tmp_path) in report.text
    finally:
        free.set()


def test_copy_sees_one_moment_while_the_store_goes_on_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, steps = tmp_path / "decisions.db", 0
    db = connection.open_writer(path)
    db.execute("CREATE TABLE filler (n INTEGER PRIMARY KEY, x) STRICT".replace(" STRICT", ""))
    with db:
        db.executemany("INSERT INTO filler (x) VALUES (?)", [(b"x" * 4_000,)] * 200)
    monkeypatch.setattr(backup, "PAGES_A_STEP", 20)

    class Busy:
        """Commits before each step, as a store under way does."""

        @property
        def done(self) -> bool:
            nonlocal steps
            steps += 1
            assert steps < 50, "each commit begins the copy anew"
            db.execute("INSERT INTO filler (x) VALUES ('y')")
            return bool(self.copying.done)

        def __init__(self, copying: apsw.Backup) -> None:
            self.copying = copying

        def __enter__(self) -> Busy:
            return self

        def __exit__(self, *found: object) -> None:
            self.copying.finish()

        def step(self, pages: int) -> None:
            self.copying.step(pages)

    class Connection(apsw.Connection):
        def backup(self, *given: object) -> Busy:  # type: ignore[override]
            return Busy(super().backup(*given))  # type: ignore[arg-type]

    monkeypatch.setattr(apsw, "Connection", Connection)
    target = tmp_path / "copy.db"
    backup.copy(path, target)
    found = sqlite(target, "SELECT count(*) FROM filler WHERE x = 'y'")
    assert steps > 10 and found == 0, (steps, found)
    db.close()


def sqlite(path: Path, question: str) -> object:
    db = connection.open_reader(path)
    try:
        return db.execute(question).get
    finally:
        db.close()


async def test_janitor_stops_when_it_is_asked_to(tmp_path: Path) -> None:
    link = FakeLink(lambda _: None)
    link.naps_left = 2
    await a_janitor(tmp_path, link, Shifted()).run()
    assert len(link.asked) == 3
