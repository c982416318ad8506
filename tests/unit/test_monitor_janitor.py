"""The janitor: a backup when one is due, and nothing that fails goes untold."""

from __future__ import annotations

import os
from pathlib import Path

from actors.watch.janitor import Janitor
from bus import messages
from config import settings
from store import connection
from tests.kit.desk import Shifted
from tests.kit.fake_link import FakeLink


def a_janitor(tmp_path: Path, link: FakeLink, clock: Shifted) -> Janitor:
    return Janitor(
        link,  # type: ignore[arg-type]
        settings.Settings(profile="test"),
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


async def test_backup_is_made_when_the_newest_one_is_old_enough(tmp_path: Path) -> None:
    connection.open_writer(tmp_path / "decisions.db").close()
    link, clock = FakeLink(), Shifted()
    janitor = a_janitor(tmp_path, link, clock)
    await janitor.round()
    (made,) = (tmp_path / "backups").glob("decisions-*.db")
    await janitor.round()
    assert list((tmp_path / "backups").glob("decisions-*.db")) == [made]
    old = clock.now().timestamp() - 21_600
    os.utime(made, (old, old))
    assert janitor.is_backup_due()
    assert link.of(messages.Report) == []


async def test_janitor_stops_when_it_is_asked_to(tmp_path: Path) -> None:
    link = FakeLink(lambda _: None)
    link.naps_left = 2
    await a_janitor(tmp_path, link, Shifted()).run()
    assert len(link.asked) == 3
