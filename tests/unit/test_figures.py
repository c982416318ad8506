"""The figures in the journal: nothing an analyst writes about itself keeps its verdict from being recorded."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from bus import messages
from bus.vocabulary import Role, State
from store import figures
from store.figures import Opinion
from tests.kit import builders
from tests.kit.store import StoreHarness

SIGNAL = msgspec.json.encode(builders.a_signal()).decode()
ACCOUNT = {"analyst": "openai", "model": "m-1", "usage": {"prompt_tokens": 300, "completion_tokens": 40}}
VERDICT = {"side": "BUY", "sl_pips": 50.0, "tp_pips": 100.0, "confidence": 0.7, "refused": None}


def told(**changes: Any) -> Opinion:
    kept = figures.of(SIGNAL, json.dumps(ACCOUNT | {"verdict": VERDICT} | changes))
    found = figures.read(json.dumps(kept))
    assert found is not None
    return found.told


@pytest.mark.parametrize(
    "state_json",
    ["", "x", "[]", "null", "{", "[" * 100_000, '{"verdict": []}', '{"verdict": {"side": "LONG"}}', '{"usage": 3}',
     '{"verdict": {"confidence": "high"}}', '{"shadow": {"state": "none"}}', '{"model": "\\ud800"}'],
)  # fmt: skip
def test_papers_that_are_none_leave_no_figures_and_the_verdict_is_recorded_all_the_same(state_json: str) -> None:
    assert figures.of(SIGNAL, state_json) == {}
    store, llm = StoreHarness(), builders.a_peer(Role.LLM)
    intent = store.claimed(llm)
    decide = messages.Decide(
        intent_id=intent.id, epoch=intent.epoch, side="BUY", sl_pips=50, tp_pips=100, state_json=state_json
    )
    assert store.tell(llm, decide).outcome == "applied"
    store.beat(llm, capacity=0, state=State.DRAINING)
    assert store.intent(intent.id).status == "ready_for_exec"
    (row,) = store.read.analysed("0001-01-01")
    assert (row.figures, row.event) == (None, "decide_trade")


@pytest.mark.parametrize("signal_json", ["", "x", "{}", "[" * 100_000])
def test_a_signal_that_is_none_leaves_no_figures(signal_json: str) -> None:
    assert figures.of(signal_json, json.dumps(ACCOUNT)) == {}


@pytest.mark.parametrize("payload", ["", "{}", "[]", '{"told": 1}'])
def test_a_row_without_figures_has_none(payload: str) -> None:
    assert figures.read(payload) is None


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({}, (None, None)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (None, None)),
        ({"prompt_tokens": -5, "completion_tokens": 40}, (0, 40)),
        ({"prompt_tokens": 10**12, "completion_tokens": 40}, (0, 40)),
        ({"prompt_tokens": 300, "completion_tokens": None}, (300, 0)),
    ],
)
def test_tokens_that_nobody_can_have_counted_are_unknown(usage: dict[str, Any], counted: tuple[Any, Any]) -> None:
    found = told(usage=usage)
    assert (found.tokens_in, found.tokens_out) == counted


@pytest.mark.parametrize(
    ("prices", "micros"),
    [
        ({"price_in": "2.50", "price_out": "10"}, 1_150),
        ({"price_in": "0.000001", "price_out": "0"}, 1),
        ({"price_in": "0", "price_out": "0"}, 0),
        ({"price_in": "2.50"}, None),
        ({"price_in": "free", "price_out": "10"}, None),
        ({"price_in": "NaN", "price_out": "10"}, None),
        ({"price_in": "-1", "price_out": "10"}, None),
        ({"price_in": "1e999999", "price_out": "10"}, None),
        ({"price_in": "2.50", "price_out": "10", "usage": {}}, None),
        ({"price_in": "2.50", "price_out": "10", "cost_micros": 7}, 7),
        ({"cost_micros": -7}, None),
        ({"cost_micros": 10**30}, None),
    ],
)
def test_cost_is_tokens_times_prices_rounded_up_or_unknown(prices: dict[str, Any], micros: int | None) -> None:
    assert told(**prices).cost_micros == micros


def test_the_voices_of_a_panel_are_added_up_and_one_without_a_price_makes_the_cost_unknown() -> None:
    usage = {"prompt_tokens": 300, "completion_tokens": 40}
    priced = {"call": {"usage": usage, "price_in": "2.50", "price_out": "10"}}
    found = told(analyst="panel", model="", usage=None, voices=[priced, priced, {"call": {"cost_micros": 5}}])
    assert (found.tokens_in, found.tokens_out, found.cost_micros) == (600, 80, 2_305)
    found = told(analyst="panel", model="", usage=None, voices=[priced, {"call": {"usage": usage}}])
    assert (found.tokens_in, found.tokens_out, found.cost_micros) == (600, 80, None)


def test_names_are_cut_and_the_rest_is_kept_as_it_was() -> None:
    found = told(model="m" * 1_000, analyst="a" * 1_000)
    assert (len(found.model), len(found.analyst)) == (100, 100)
    assert (found.side, found.sl_pips, found.tp_pips, found.confidence, found.refused) == ("BUY", 50.0, 100.0, 0.7, "")


def test_a_shadow_stands_beside_what_was_told() -> None:
    shadow = VERDICT | {"side": "SELL", "analyst": "openai", "state": ACCOUNT, "refused": {"rule": "numbers"}}
    state = {"analyst": "offline rules", "verdict": VERDICT, "shadow": shadow}
    found = figures.read(json.dumps(figures.of(SIGNAL, json.dumps(state))))
    assert found is not None and found.shadow is not None
    assert (found.told.analyst, found.told.side, found.told.tokens_in) == ("offline rules", "BUY", None)
    assert (found.shadow.analyst, found.shadow.model, found.shadow.side) == ("openai", "m-1", "SELL")
    assert (found.shadow.refused, found.shadow.tokens_in) == ("numbers", 300)
    assert (found.symbol, found.bar_time, found.close, found.side_hint) == ("EURUSD", "2026-10-30", 1.0851, "BUY")
    assert len(json.dumps(figures.of(SIGNAL, json.dumps(state)))) < 800
