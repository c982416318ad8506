"""When one daily cycle is over: read from a real database, written by the store's own writer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.messages import Decide, Envelope
from bus.vocabulary import Role, State
from config.settings import Bus, Store
from store import connection
from store.writer import Writer
from supervisor.once import LOOK_S, DailyCycle
from tests.kit.builders import a_beat, a_peer, a_propose, an_envelope
from tests.kit.clock import ManualClock
from tests.kit.gate import a_gate

SCANNER = a_peer(Role.SCANNER)
ANALYST = a_peer(Role.LLM)


class Day:
    """A database and the cycle that looks at it."""

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock()
        self.cycle = DailyCycle(path, self.clock)
        self.path = path

    def open(self) -> None:
        self.db = connection.open_writer(self.path)
        now, now_s = self.clock.now(), self.clock.monotonic()
        self.writer = Writer(self.db, Store(), Bus(), a_gate(), now=now, now_s=now_s)

    def take(self, *envelopes: Envelope) -> None:
        self.writer.step(envelopes, self.clock.now(), self.clock.monotonic(), tick=True)

    def scanner_is(self, state: State) -> None:
        self.take(an_envelope(SCANNER, a_beat(state=state, capacity=0)))

    def done(self, incarnation: str = SCANNER.incarnation) -> bool:
        self.clock.advance(LOOK_S)
        return self.cycle.done(incarnation)


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    found = Day(tmp_path / "decisions.db")
    found.open()
    yield found
    found.cycle.close()
    found.db.close()


def test_cycle_is_not_over_before_there_is_a_database(tmp_path: Path) -> None:
    assert not Day(tmp_path / "decisions.db").done()


def test_cycle_is_not_over_while_the_scanner_scans(day: Day) -> None:
    day.scanner_is(State.STARTING)
    assert not day.done()


def test_scan_of_an_earlier_scanner_does_not_count(day: Day) -> None:
    day.scanner_is(State.READY)
    assert not day.done("ffffffffffff")


def test_cycle_without_any_signal_is_over_with_the_scan(day: Day) -> None:
    day.scanner_is(State.READY)
    assert day.done()


def test_cycle_goes_on_until_every_intent_is_final(day: Day) -> None:
    day.take(an_envelope(SCANNER, a_propose()))
    day.scanner_is(State.READY)
    assert not day.done()
    day.take(an_envelope(ANALYST, a_beat()))
    intent = day.writer.read.live_intents()[0]
    assert intent.status == "claimed"
    assert not day.done()
    day.take(an_envelope(ANALYST, Decide(intent_id=intent.id, epoch=intent.epoch, side="HOLD")))
    assert day.done()


def test_database_is_not_looked_at_more_often_than_needed(day: Day) -> None:
    day.scanner_is(State.READY)
    assert day.done()
    assert not day.cycle.done(SCANNER.incarnation)
