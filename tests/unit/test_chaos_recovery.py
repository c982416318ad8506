"""The time from a kill to the replacement is read from the right two lines."""

from __future__ import annotations

import io
import time

import pytest
from loguru import logger

from bus import logs
from tests.chaos import recovery
from tests.kit import console

CONSOLE = """\
10:00:00.000Z INFO    supervisor  executor.1 is ready after 0.3 s
10:00:05.010Z WARNING supervisor  store.1 was killed by SIGKILL after 5 s; starting it again
10:00:05.020Z WARNING supervisor  executor.1 was killed by SIGKILL after 5 s; starting it again
10:00:05.200Z INFO    supervisor  store.1 is ready after 0.2 s
"""


def today(text: str) -> float:
    return console.moment(text)


def test_the_lines_that_a_supervisor_writes_are_read() -> None:
    said, began = io.StringIO(), time.time()
    added = logger.add(said, format=logs._line)
    supervisor = logger.bind(actor="supervisor")
    supervisor.warning("executor.1 was killed by SIGKILL after 5 s; starting it again")
    supervisor.info("executor.1 is ready after 0.3 s")
    logger.remove(added)
    done, waiting = recovery.measured(said.getvalue(), [(began, "executor.1")], time.time())
    assert (len(done), waiting) == (1, []) and done[0] == pytest.approx(0, abs=2_000)


def test_kill_is_over_when_the_process_that_died_first_after_it_is_ready_again() -> None:
    done, waiting = recovery.measured(CONSOLE, [(today("10:00:05.000"), "")], today("10:00:07.000"))
    assert done == [pytest.approx(200, abs=1)]
    assert waiting == []


def test_kill_without_a_replacement_yet_waits() -> None:
    killed = today("10:00:05.017")
    assert recovery.measured(CONSOLE, [(killed, "")], killed + 60) == ([], [(killed, "")])


def test_kill_that_the_supervisor_has_had_no_time_to_see_waits_and_one_it_never_saw_is_left_out() -> None:
    killed = today("10:00:06.000")
    assert recovery.measured(CONSOLE, [(killed, "")], killed + 0.1) == ([], [(killed, "")])
    assert recovery.measured(CONSOLE, [(killed, "")], killed + 5) == ([], [])


def test_of_two_killed_at_once_each_is_matched_with_its_own_restart() -> None:
    console = CONSOLE + "10:00:05.400Z INFO    supervisor  executor.1 is ready after 0.3 s\n"
    killed = today("10:00:05.000")
    done, waiting = recovery.measured(console, [(killed, "executor.1"), (killed, "store.1")], killed + 2)
    assert done == [pytest.approx(400, abs=1), pytest.approx(200, abs=1)]
    assert waiting == []
