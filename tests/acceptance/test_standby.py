"""The database is lost and an older copy comes from the second disk: nothing is ordered before the account is known."""

from __future__ import annotations

import shutil
from pathlib import Path

from store.queries import DatabaseRefused
from tests.chaos import checker
from tests.chaos.checker import CHECKS
from tests.chaos.figures import Tally
from tests.chaos.rig import Rig, rigged
from tests.soak import week

HOLD = (
    "an intent has one order", "a position has one owner", "an owned position exists", "a position is known",
    "transitions are legal", "fencing numbers grow", "the hash chain is whole",
)  # fmt: skip
CADENCE = {"backup_interval_s": 86_400.0, "janitor_interval_s": 0.5}


def test_positions_that_the_copy_does_not_know_are_found_and_none_is_opened_twice(tmp_path: Path) -> None:
    changes = {
        "scanner": week.SETTINGS["scanner"] | {"timeframes": ["D1"]},
        "monitor": CADENCE | {"backup_second_folder": str(tmp_path)},
        "executor": {"orphans": "adopt", "quiet_s": 0.6},
    }  # fmt: skip
    with rigged(Tally(), changes=changes) as rig:
        assert rig.begin(), rig.tally.findings
        known = {one.position_id for one in rig.histories().placed}
        for old in (*tmp_path.glob("decisions-*.db"), *(rig.run.data / "backups").iterdir()):
            old.unlink()  # the copy of an empty database, made at the start
        assert rig.wait(lambda: len(list(tmp_path.glob("decisions-*.db"))) == 1, 30)
        rig.feed(2)
        assert rig.come_to_rest("two more were traded"), rig.tally.findings
        rig.stop()
        sent = rig.histories().received
        since = {one.position_id for one in rig.histories().placed} - known
        assert len(since) == 2, "they were opened after the copy was taken"

        for lost in ("decisions.db", "decisions.db-wal", "decisions.db-shm"):  # the disk is gone, and its copies too
            (rig.run.data / lost).unlink(missing_ok=True)
        shutil.rmtree(rig.run.data / "backups")
        ended = rig.run.run("restore", "--yes", "--reason", "the disk is gone", command="pilot")
        assert ended.returncode == 0 and str(tmp_path) in ended.stdout, ended.stderr

        rig.start()
        assert rig.wait(lambda: owned(rig) == known | since, 40), (owned(rig), rig.run.console()[-3_000:])
        rig.feed(1)  # while the account is halted
        assert rig.histories().received == sent, "something was ordered before the operator said so"
        assert rig.run.run("resume", "--yes", "--reason", "looked", command="pilot").returncode == 0
        assert rig.wait(lambda: len(owned(rig)) == len(sent) + 1, 40), rig.run.console()[-3_000:]
        assert rig.wait(rig.at_rest, 40), rig.run.console()[-3_000:]
        found = rig.histories()
        assert [text for name in HOLD for text in CHECKS[name][2](found)] == []
        assert len(set(found.received)) == len(found.received) == len(sent) + 1
        assert checker.unknown_left(found) == 0


def owned(rig: Rig) -> set[str]:
    try:
        with rig.run.reader() as reader:
            return {str(order.position_id) for order in reader.orders() if order.position_id}
    except DatabaseRefused:
        return set()
