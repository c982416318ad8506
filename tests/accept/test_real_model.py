"""Twenty decisions of a real small model through the whole pipeline: each is valid or HOLD, whatever the model says.

The model is a fixture: its judgement is worth nothing, its way of answering is real.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bus import clock
from bus.records import Signal, TradeIntent, Transition
from tests.accept import servers
from tests.chaos.figures import Tally
from tests.chaos.rig import Rig, rigged
from tests.kit import analysis, proposals

DECISIONS = 20
REST_S = 1_500.0
LIMIT_S = 1_800
# How each analyst is set up for one endpoint: its section `llm`.
ANALYSTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "openai": lambda url: {
        "analyst": "openai", "model": servers.MODEL, "base_url": url, "max_tokens": 256, "deadline_s": 120.0,
    },
}  # fmt: skip


def signal_of(number: int) -> Signal:
    """Return one of twenty different signals: up and down, clear and unclear, calm and wild."""
    found = analysis.a_signal(
        symbol=proposals.SYMBOLS[number % len(proposals.SYMBOLS)],
        bar_time=proposals.bar_of(number),
        score=round(0.05 + 0.04 * number, 3),
        confidence=("low", "medium", "high")[number % 3],
        volatility_pips=2.0 + 3 * number,  # this model likes stops of 2 pips: some of them are then allowed
        features={"rsi_14": 30.0 + 2 * number, "vol_ratio_20_120": 0.8 + 0.05 * number},
    )
    return analysis.turned(found) if number % 2 else found


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("analyst", sorted(ANALYSTS))
def test_every_decision_of_a_real_model_is_valid_or_hold(tmp_path: Path, analyst: str) -> None:
    with servers.llama(tmp_path) as url:
        changes = {
            "llm": ANALYSTS[analyst](url), "store": {"attempts_max": 3}, "bus": {"dead_s": 10.0},
            "supervisor": {"watchdog_s": 30.0},
        }  # fmt: skip
        tally = Tally()
        with rigged(tally, changes=changes) as rig:
            rig.wanted = 5
            rig.start("--scale", "scanner=0")
            rig.run.pid("llm")
            wanted = proposals.propose(rig.run, DECISIONS, make=signal_of)
            assert rig.come_to_rest(f"{DECISIONS} decisions", REST_S), tally.findings
            with rig.run.reader() as reader:
                stories = [(reader.intent(one), list(reader.transitions(one))) for one in wanted]
            show(analyst, stories)
            for intent, moves in stories:
                assert intent is not None
                check(analyst, intent, moves)
            check_orders(rig)


def check(analyst: str, intent: TradeIntent, moves: list[Transition]) -> None:
    """Hold one decision against the limits, worked out anew."""
    assert [move.event for move in moves if move.event.startswith("decide")], f"{intent.id} was never decided"
    assert json.loads(intent.agent_state_json)["analyst"] == analyst
    if intent.suggested_side == "HOLD":
        assert (intent.status, intent.suggested_sl_pips) == ("cancelled", None)
        return
    volatility = msgspec.json.decode(intent.signal_json, type=Signal).volatility_pips
    assert intent.suggested_side in ("BUY", "SELL")
    assert intent.suggested_sl_pips and 0.3 * volatility <= intent.suggested_sl_pips <= 5.0 * volatility
    assert intent.suggested_tp_pips and intent.suggested_tp_pips >= intent.suggested_sl_pips


def check_orders(rig: Rig) -> None:
    """Every position is that of a decision, on its side."""
    sides = {intent.position_id: intent.suggested_side for intent in rig.run.intents() if intent.position_id}
    placed = {row["position_id"]: row["side"] for row in rig.run.positions()}
    assert placed == sides


def show(analyst: str, stories: list[tuple[TradeIntent | None, list[Transition]]]) -> None:
    sys.stdout.write(f"\n{analyst}, a real model: {len(stories)} decisions\n")
    times = []
    for intent, moves in stories:
        if intent is None:
            continue
        ends = [clock.parse(move.at) for move in moves if move.event.startswith("decide")]
        begins = [clock.parse(move.at) for move in moves if move.event == "claim"]
        seconds = (ends[-1] - begins[-1]).total_seconds() if ends and begins else float("nan")
        times.append(seconds)
        said = next((move.reason for move in moves if move.event.startswith("decide")), "")
        audit = json.loads(intent.agent_state_json or "{}")
        sys.stdout.write(
            f"{intent.symbol:<8}{intent.suggested_side or '-':<6}{intent.status:<15}{seconds:>6.1f} s  "
            f"claims {len(begins)}  requests {audit.get('requests', '-')}  {said[:110]}\n"
        )
    sides = [intent.suggested_side for intent, _ in stories if intent]
    told = {side: sides.count(side) for side in ("BUY", "SELL", "HOLD")}
    sys.stdout.write(f"{told}, {sum(times) / len(times):.1f} s a decision, the longest {max(times):.1f} s\n")
