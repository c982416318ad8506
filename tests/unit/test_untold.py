"""Reports of a supervisor that the store was not there to take: kept, delivered by the next one, told once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import codec, failpoints, runtime, sockets
from bus.messages import Ack, Envelope, Peer, Report
from bus.vocabulary import Outcome, Role
from config.settings import Bus
from supervisor import untold
from supervisor.deaths import Deaths
from tests.kit.eventually import eventually

GIVEN_UP = Report(level="error", event="process_given_up", text="store.1 was killed 5 times: given up")


@pytest.fixture
def folder() -> Iterator[Path]:
    found = Path(tempfile.mkdtemp(prefix="pu", dir="/tmp"))
    yield found
    shutil.rmtree(found)


def a_supervisor(folder: Path) -> tuple[Deaths, Peer]:
    me = Peer(Role.SUPERVISOR, 1, runtime.new_incarnation())
    return Deaths(me, folder, Bus(resend_s=0.05), lambda peer: None), me


def heard(supervisor: Deaths, store: sockets.Socket) -> Envelope:
    """Let a supervisor turn until the store hears of something."""

    def look() -> bytes | None:
        supervisor.turn(float("inf"))
        return store.receive()

    return codec.decode_to_store(eventually(look))


def kept(folder: Path) -> list[str]:
    return [report.text for _, report in untold.read(folder)]


def test_report_of_a_supervisor_that_ended_is_told_by_the_next_one_under_its_id(folder: Path) -> None:
    first, _ = a_supervisor(folder)
    first.report(GIVEN_UP)  # nobody listens
    ((identity, _),) = untold.read(folder)
    first.close()
    second, me = a_supervisor(folder)
    store = sockets.bind_pull(sockets.store_address(folder), 65_536)
    found = heard(second, store)
    assert (found.id, found.body, found.sender) == (identity, GIVEN_UP, me)
    assert kept(folder) == [GIVEN_UP.text]  # until it is acked
    answer = sockets.connect_push(second.inbox_path, immediate=True)
    ack = codec.encode(Ack(id=identity, outcome=Outcome.ALREADY))
    eventually(lambda: answer.send(ack))

    def is_forgotten() -> bool:
        second.turn(0.0)
        return not kept(folder)

    eventually(is_forgotten)
    second.close()
    store.close()
    answer.close()


def test_only_the_newest_are_kept(folder: Path) -> None:
    supervisor, _ = a_supervisor(folder)
    for number in range(untold.KEPT_MAX + 3):
        supervisor.report(Report(level="error", event="process_given_up", text=str(number)))
    assert kept(folder) == [str(number) for number in range(3, untold.KEPT_MAX + 3)]
    supervisor.close()


def test_what_is_no_report_is_dropped_and_a_half_written_one_is_not_looked_at(folder: Path) -> None:
    identity = "019b0000-0000-7000-8000-000000000000"
    (folder / f"untold.{identity}").write_text("{}")
    (folder / f"untold.{identity}.new").write_text("{")
    (folder / "untold.new").write_text("{")
    assert kept(folder) == []
    assert not (folder / f"untold.{identity}").exists()


@pytest.mark.parametrize(("side", "there"), [("before", []), ("after", [GIVEN_UP.text])])
def test_death_while_keeping_leaves_all_or_nothing(
    folder: Path, side: str, there: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(name: str) -> bool:
        if name == f"supervisor.{side}_keep_report":
            raise failpoints.FailpointError(name)
        return False

    monkeypatch.setattr(failpoints, "reach", die)
    with pytest.raises(failpoints.FailpointError):
        untold.keep(folder, "019b0000-0000-7000-8000-000000000000", GIVEN_UP)
    assert kept(folder) == there
