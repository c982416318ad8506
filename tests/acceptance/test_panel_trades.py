"""A panel's decisions become trades, over real processes; a kill between reservation and settlement stays counted."""

from __future__ import annotations

import json
from typing import Any

from tests.chaos.workloads import Model
from tests.kit import pipeline
from tests.kit.llm_server import decision
from tests.kit.panel import ROLES, STANCES, Cast, opinion


def test_panel_decides_trades_and_every_token_is_counted_through_a_kill() -> None:
    cast = Cast()
    cast.says |= {role: [opinion(argument=f"The {role} speaks.", stance=stance)] for role, stance in STANCES.items()}
    cast.says["judge"] = [decision(sl_pips=100, tp_pips=200)]
    with Model() as model:
        model.server.respond = cast.respond
        spec = {"base_url": model.server.url, "model": "test-model", "price_in": "1", "price_out": "2"}
        changes: dict[str, dict[str, Any]] = {
            "llm": {"analyst": "panel", "day_cost_max": "10"},
            "llm.roles": dict.fromkeys(ROLES, "e1"),
            "llm.endpoints.e1": spec,
        }
        with pipeline.running(**changes) as run:
            run.arm("llm.after_ack_reserve_tokens", "kill", at_pass=3)
            run.start()
            run.eventually(run.all_settled, 60)
            assert run.fired("llm.after_ack_reserve_tokens")
            assert cast.order() == list(ROLES)
            shown = json.loads(run.run("status", "--json", command="pilot").stdout)["models"]
            intents = run.intents()
            run.stop()
    decided = [one for one in intents if one.suggested_side == "BUY"]
    assert len(decided) == 3, [one.agent_risk_report[:200] for one in intents]
    for one in decided:
        assert "## bear, round 1" in one.agent_risk_report and (one.suggested_sl_pips, one.suggested_tp_pips) == (
            100,
            200,
        )
        voices = json.loads(one.agent_state_json)["voices"]
        assert [voice["role"] for voice in voices] == list(ROLES)
    # Fifteen calls are settled; of the killed worker at least the one that it died in is not, and counts with the most.
    assert shown["tokens"] >= 15 * 340 and shown["cost_micros"] >= 15 * 380
    assert shown["calls"] > 15 and shown["reserved_tokens"] > 0
