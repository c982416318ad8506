"""The analysts' report on a database that the real store has written, against figures worked out by hand."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.console import analysts
from actors.console.analysts import Group, Report
from actors.console.later_bars import LaterBars
from actors.console.simulated import Bar
from bus import messages
from bus.vocabulary import Role, State
from tests.kit import builders
from tests.kit.real_store import pilot
from tests.kit.store import StoreHarness, an_opening

ALWAYS = "0001-01-01"
OFFLINE = {"analyst": "offline rules, not an LLM"}
MODEL = {"analyst": "openai", "model": "m-1", "usage": {"prompt_tokens": 300, "completion_tokens": 40}}


def proposal(side: str, confidence: float | None = 0.5, **changes: Any) -> dict[str, Any]:
    usual = {"side": side, "sl_pips": 50.0, "tp_pips": 100.0, "confidence": confidence, "refused": None}
    return usual | changes


def a_state(side: str, *, shadow: dict[str, Any] | None = None, analyst: Any = OFFLINE, **verdict: Any) -> str:
    found = dict(analyst) | {"verdict": proposal(side, **verdict)}
    return json.dumps(found | ({"shadow": shadow} if shadow is not None else {}))


class Book:
    """Decisions and their ends, brought about by the real store."""

    def __init__(self) -> None:
        self.store = StoreHarness()
        self.executor = builders.a_peer(Role.EXECUTOR)
        self._number = 0

    def decide(self, side: str, state_json: str, profit_cents: int | None = None, **signal: Any) -> str:
        """Let an analyst decide on a new signal; with a profit the order is placed and its position closed."""
        self._number += 1
        store, llm = self.store, builders.a_peer(Role.LLM)
        store.clock.advance(1.0)
        intent = store.claimed(llm, **({"bar_time": f"2026-10-{self._number:02d}"} | signal))
        trade = {} if side == "HOLD" else {"sl_pips": 50.0, "tp_pips": 100.0}
        decide = messages.Decide(
            intent_id=intent.id, epoch=intent.epoch, side=side, state_json=state_json, **trade  # type: ignore[arg-type]
        )  # fmt: skip
        assert store.tell(llm, decide).outcome == "applied"
        store.beat(llm, capacity=0, state=State.DRAINING)
        if profit_cents is not None:
            self._trade(intent.id, profit_cents)
        return intent.id

    def _trade(self, intent_id: str, profit_cents: int) -> None:
        store = self.store
        store.beat(self.executor)
        intent = store.intent(intent_id)
        assert store.tell(self.executor, store.reservation(intent)).outcome == "applied"
        position_id = f"p{self._number}"
        assert store.tell(self.executor, an_opening(intent, position_id)).outcome == "applied"
        result = builders.a_result(net_profit_cents=profit_cents)
        closed = messages.PositionClosed(intent_id=intent_id, position_id=position_id, result=result)
        assert store.tell(builders.a_peer(Role.MONITOR), closed).outcome == "applied"

    def report(self, bars: LaterBars | None = None) -> Report:
        rows = self.store.read.analysed(ALWAYS)
        return analysts.report(rows, since=ALWAYS, bars_of=lambda symbols: bars or no_bars())


@pytest.fixture
def book() -> Book:
    return Book()


def no_bars() -> LaterBars:
    return LaterBars(days={}, pips={}, closes_only=frozenset(), note="no bars")


def bars(*closes: float) -> LaterBars:
    """Return closes of EURUSD on the days after 2026-10-30."""
    days = [(f"2026-11-{at + 1:02d}", Bar(open=one, high=one, low=one, close=one)) for at, one in enumerate(closes)]
    return LaterBars(days={"EURUSD": days}, pips={"EURUSD": 0.0001}, closes_only=frozenset({"EURUSD"}), note="closes")


def group(found: Report, analyst: str, *, is_shadow: bool = False) -> Group:
    return next(one for one in found.groups if (one.analyst, one.is_shadow) == (analyst, is_shadow))


# ── what must not be counted ────────────────────────────────────────────────


def test_no_decision_is_no_figure(book: Book) -> None:
    book.store.pending()
    found = book.report()
    assert (found.decisions, found.groups, found.comparisons) == (0, [], [])


@pytest.mark.parametrize("state_json", ["", "no JSON", "[1]", '{"verdict": 3}', '{"usage": "many"}', "[" * 5_000])
def test_a_decision_without_figures_is_counted_apart(book: Book, state_json: str) -> None:
    book.decide("HOLD", state_json)
    book.decide("HOLD", a_state("HOLD"))
    found = book.report()
    assert (found.decisions, found.unreadable, len(found.groups)) == (2, 1, 1)
    assert found.groups[0].decisions == 1


def test_a_state_without_the_verdict_counts_as_told_and_without_confidence(book: Book) -> None:
    book.decide("HOLD", json.dumps(OFFLINE))
    found = group(book.report(), "offline")
    assert (found.decisions, found.hold.hits, found.calibration.n) == (1, 1, 0)


def test_what_was_told_counts_and_not_what_the_state_says_of_it(book: Book) -> None:
    book.decide("HOLD", a_state("BUY"))
    assert group(book.report(), "offline").hold.hits == 1


def test_a_decision_counts_for_ever_though_its_intent_was_removed(book: Book) -> None:
    book.decide("HOLD", a_state("HOLD", shadow=seen("BUY")))
    book.decide("BUY", a_state("BUY"), 10_000)
    before = book.report(bars(1.0990))
    book.store.clock.advance(30 * 86_400.0)
    book.store.tell(builders.a_peer(Role.MONITOR), messages.Sweep())
    assert len(book.store.read.intents()) == 1, "the store has removed what was not traded"
    assert book.report(bars(1.0990)) == before
    assert group(before, "offline").decisions == 2


# ── figures by hand ─────────────────────────────────────────────────────────


def test_hit_rate_and_r_of_closed_trades(book: Book) -> None:
    """The plan's worst loss is 50.00, so the trades made 2, -1, -1.02 and 1.87 R: on average 0.4625."""
    for profit_cents in (10_000, -5_000, -5_100, 9_350):
        book.decide("BUY", a_state("BUY"), profit_cents)
    book.decide("BUY", a_state("BUY"))  # not placed yet
    found = group(book.report(), "offline")
    assert (found.hit_rate.hits, found.hit_rate.n, found.hit_rate.value) == (2, 4, 0.5)
    # Wilson, 2 of 4, by hand: (0.5 + z^2/8 +- z sqrt(1/16 + z^2/64)) / (1 + z^2/4), z = 1.96.
    assert (found.hit_rate.low, found.hit_rate.high) == (pytest.approx(0.1500, abs=5e-5), pytest.approx(0.85, abs=5e-5))
    assert found.mean_r.value == pytest.approx(0.4625)
    # By hand: deviations 1.5375, -1.4625, -1.4825, 1.4075; their squares sum to 8.68175; half = 3.1824 s / 2.
    assert found.mean_r.high == pytest.approx(0.4625 + 3.1824 * (8.68175 / 3) ** 0.5 / 2, abs=1e-4)


def test_holds_refusals_and_the_scanners_side(book: Book) -> None:
    refused = {"refused": {"rule": "stop_distance", "reason": "1 pip"}}
    book.decide("BUY", a_state("BUY"))
    book.decide("SELL", a_state("SELL"))
    book.decide("SELL", a_state("SELL"), side_hint="SELL")
    book.decide("BUY", a_state("BUY"), side_hint="HOLD")
    book.decide("HOLD", a_state("HOLD"))
    book.decide("HOLD", a_state("BUY", **refused))
    found = group(book.report(), "offline")
    assert (found.decisions, found.refused) == (6, 1)
    assert (found.hold.hits, found.hold.n) == (2, 6)
    assert (found.agreement.hits, found.agreement.n) == (2, 3)


def test_confidence_is_compared_with_how_the_trade_ended(book: Book) -> None:
    for confidence, profit_cents in ((0.8, 10_000), (0.8, -5_000), (0.2, -5_000), (0.4, 10_000)):
        book.decide("BUY", a_state("BUY", confidence=confidence), profit_cents)
    book.decide("BUY", a_state("BUY", confidence=7.0), 10_000)  # no confidence at all
    found = group(book.report(), "offline")
    assert found.calibrated_on == "closed trades"
    # By hand: (0.04 + 0.64 + 0.04 + 0.36) / 4.
    assert (found.calibration.n, found.calibration.brier) == (4, pytest.approx(0.27))
    assert [one.right.n for one in found.calibration.bins] == [0, 1, 1, 0, 2]


def test_costs_are_those_whose_price_is_known_and_the_others_are_said_to_be_unknown(book: Book) -> None:
    """300 tokens in at 2.50 and 40 out at 10 dollars a million are 0.00115 dollars."""
    priced = MODEL | {"price_in": "2.50", "price_out": "10"}
    book.decide("HOLD", a_state("HOLD", analyst=priced))
    book.decide("HOLD", a_state("HOLD", analyst=priced | {"cost_micros": 3_150}))
    for unknown in (None, "free", "NaN"):
        book.decide("HOLD", a_state("HOLD", analyst=MODEL | {"price_in": "1", "price_out": unknown}))
    book.decide("HOLD", a_state("HOLD", analyst=priced | {"usage": {}}))
    found = group(book.report(), "openai m-1")
    assert (found.cost_usd.n, found.cost_usd.value, found.unpriced) == (2, pytest.approx(0.00215), 3)
    assert (found.tokens.n, found.tokens.value) == (5, 340.0)


# ── shadows ─────────────────────────────────────────────────────────────────


def seen(side: str | None, **changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {"analyst": "openai", "error": "", "state": MODEL}
    return usual | (proposal(side) if side else {"side": None, "error": "away", "state": {}}) | changes


def test_a_shadow_is_measured_on_later_bars_and_never_by_the_trade_of_another(book: Book) -> None:
    """From 1.0851 a SELL is stopped at 1.0901 and a BUY at 1.0801; its target, 1.0951, is missed by a pip.

    So the BUY, which made 2 R as a trade, makes -1 R on the closes: what happened between them is not in there.
    """
    book.decide("BUY", a_state("BUY", shadow=seen("SELL")), 10_000)
    book.decide("BUY", a_state("BUY", shadow=seen("HOLD")), 10_000)
    book.decide("BUY", a_state("BUY", shadow=seen(None)), 10_000)
    book.decide("BUY", a_state("BUY", shadow=seen("BUY", refused={"rule": "side", "reason": "no"})), 10_000)
    found = book.report(bars(1.0890, 1.0950, 1.0800))
    shadow = group(found, "openai m-1", is_shadow=True)
    assert (shadow.decisions, shadow.no_verdict, shadow.refused) == (4, 1, 1)
    assert (shadow.hold.hits, shadow.hold.n) == (2, 3)
    assert (shadow.hit_rate.n, shadow.mean_r.n) == (0, 0)
    assert (shadow.simulated_r.n, shadow.simulated_r.value, shadow.simulated_open) == (1, -1.0, 0)
    assert (shadow.calibrated_on, shadow.calibration.n, shadow.calibration.brier) == ("simulated", 1, 0.25)
    offline = group(found, "offline")
    assert (offline.hit_rate.n, offline.mean_r.value) == (4, 2.0)
    assert (offline.simulated_r.n, offline.simulated_r.value) == (4, -1.0)


def test_the_difference_is_of_signals_that_both_have_judged_and_a_hold_is_zero(book: Book) -> None:
    """The bars stop every SELL (-1 R) and bring every BUY to its target (+2 R)."""
    book.decide("BUY", a_state("BUY", shadow=seen("SELL")))  # -1 - 2
    book.decide("BUY", a_state("BUY", shadow=seen("HOLD")))  # 0 - 2
    book.decide("HOLD", a_state("HOLD", shadow=seen("BUY")))  # 2 - 0
    book.decide("HOLD", a_state("HOLD", shadow=seen(None)))  # nothing to compare
    book.decide("BUY", a_state("BUY"))  # no shadow
    (found,) = book.report(bars(1.0990)).comparisons
    assert (found.shadow, found.traded) == ("openai m-1", "offline")
    assert (found.difference_r.n, found.difference_r.value) == (3, pytest.approx(-1.0))


def test_without_later_bars_nothing_is_decided(book: Book) -> None:
    book.decide("BUY", a_state("BUY", shadow=seen("SELL")))
    found = book.report(bars())
    assert group(found, "offline").simulated_open == 1
    assert group(found, "openai m-1", is_shadow=True).simulated_open == 1
    assert found.comparisons == []
    assert group(book.report(), "offline").simulated_open == 0


def test_models_are_told_apart_and_a_silent_shadow_is_the_one_that_is_known(book: Book) -> None:
    other = MODEL | {"model": "m-2"}
    book.decide("HOLD", a_state("HOLD", shadow=seen("HOLD")))
    book.decide("HOLD", a_state("HOLD", shadow=seen(None)))
    assert [one.analyst for one in book.report().groups] == ["offline", "openai m-1"]
    book.decide("HOLD", a_state("HOLD", shadow=seen("HOLD", state=other)))
    assert [one.analyst for one in book.report().groups] == ["offline", "openai", "openai m-1", "openai m-2"]


def test_every_page_of_decisions_is_read_once(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.queries.ROWS_MAX", 2)
    ids = [book.decide("HOLD", a_state("HOLD")) for _ in range(5)]
    rows = list(book.store.read.analysed(ALWAYS))
    assert [row.intent_id for row in rows] == ids
    assert [row.intent_id for row in book.store.read.analysed(rows[3].at)] == ids[3:]


def test_decisions_that_follow_each_other_directly_are_both_read(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.queries.ROWS_MAX", 1)
    store, llms = book.store, [builders.a_peer(Role.LLM, slot) for slot in (1, 2)]
    held = [store.claimed(llm, bar_time=f"2026-10-0{llm.slot}") for llm in llms]
    for llm, intent in zip(llms, held, strict=True):
        decide = messages.Decide(intent_id=intent.id, epoch=intent.epoch, side="HOLD", state_json=a_state("HOLD"))
        assert store.tell(llm, decide).outcome == "applied"
    assert [row.intent_id for row in store.read.analysed(ALWAYS)] == [intent.id for intent in held]


# ── the command ─────────────────────────────────────────────────────────────


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("PILOT_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir(mode=0o700)
    with (tmp_path / "EURUSD.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("time", "close"), ("2026-10-30", 1.0851), ("2026-11-02", 1.0990)])
    profile = tmp_path / "mine.toml"
    profile.write_text(f'[scanner]\nsources = ["csv"]\ncsv_path = "{tmp_path}"\n')
    monkeypatch.setenv("PILOT_PROFILE", str(profile))
    yield tmp_path


def test_the_command_prints_every_figure_with_its_interval_and_its_n(book: Book, folder: Path) -> None:
    for profit_cents in (10_000, -5_000, -5_000):
        book.decide("BUY", a_state("BUY", shadow=seen("SELL")), profit_cents)
    book.decide("HOLD", a_state("HOLD", shadow=seen(None)))
    book.store.db.execute("VACUUM INTO ?", (str(folder / "data" / "decisions.db"),))
    ended = pilot("analysts", "report")
    assert (ended.returncode, ended.stderr) == (0, "")
    said = " ".join(ended.stdout.split())
    for expected in (
        "4 decisions. 95 % intervals in brackets",
        "closes only: what a day touched in between is not known; no spread, commission or swap. Past figures; no edge",
        "HOLD 25.0 % [4.6 .. 69.9], 1 of 4, n too small to tell",
        "hit rate, traded 33.3 % [6.1 .. 79.2], 1 of 3, n too small to tell",
        "mean R, traded +0.00 R [-4.30 .. +4.30], n 3, n too small to tell",
        "shadow, not traded: openai m-1",
        "decisions 4, 0 refused by a check, 1 without a verdict",
        "cost a decision prices not known: tokens only",
        "mean R, simulated -1.00 R [-1.00 .. -1.00], n 3",
        "openai m-1 (shadow) minus offline -3.00 R [-3.00 .. -3.00], n 3, n too small to tell",
    ):
        assert expected in said, ended.stdout
    assert all(len(line) <= 80 for line in ended.stdout.splitlines())
    as_json = msgspec.json.decode(pilot("analysts", "report", "--json").stdout, type=Report)
    assert [one.analyst for one in as_json.groups] == ["offline", "openai m-1"]
    assert pilot("analysts", "report", "--since", "2030-01-01").stdout == "no decisions\n"


def test_a_wrong_date_is_a_usage_error_and_no_database_says_so(folder: Path) -> None:
    ended = pilot("analysts", "report", "--since", "16.02.2026")
    assert ended.returncode == 64
    assert "allowed: YYYY-MM-DD" in ended.stderr
    assert pilot("analysts", "report").returncode == 3


def test_bars_that_cannot_be_read_are_named_and_no_error(book: Book, folder: Path) -> None:
    (folder / "EURUSD.csv").unlink()
    book.decide("BUY", a_state("BUY"))
    book.store.db.execute("VACUUM INTO ?", (str(folder / "data" / "decisions.db"),))
    ended = pilot("analysts", "report")
    assert ended.returncode == 0
    assert "EURUSD.csv cannot be read" in " ".join(ended.stdout.split())


def test_the_other_commands_start_without_numpy() -> None:
    code = "import sys, actors.pilot; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
