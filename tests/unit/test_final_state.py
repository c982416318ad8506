"""What stands in `agent_state_json` for every analyst: always an object, always with the verdict, never too large."""

from __future__ import annotations

import msgspec
import pytest

from actors.analysts import final_state, offline
from actors.analysts.verdict import Refusal, Verdict
from tests.kit.analysis import a_signal


def a_verdict(state_json: str = "") -> Verdict:
    return Verdict(side="BUY", reason="up", confidence=0.7, sl_pips=60.0, tp_pips=120.0, state_json=state_json)


PROPOSED = {"side": "BUY", "sl_pips": 60.0, "tp_pips": 120.0, "confidence": 0.7, "refused": None}


@pytest.mark.parametrize(
    ("state_json", "kept"),
    [
        ("", {}),
        ('{"analyst":"x","n":1.50}', {"analyst": "x", "n": 1.5}),
        ("no JSON", {"state": "no JSON"}),
        ("[1]", {"state": "[1]"}),
        ('{"half', {"state": '{"half'}),
        ('{"verdict":"forged"}', {}),
    ],
)
def test_it_is_an_object_with_the_verdict_whatever_the_analyst_gave(state_json: str, kept: dict[str, object]) -> None:
    assert msgspec.json.decode(final_state.of(a_verdict(state_json))) == {**kept, "verdict": PROPOSED}


def test_fields_of_the_analyst_stay_as_they_were_written() -> None:
    assert final_state.of(a_verdict('{"b": 1.50,"a":"\\u00fc"}')).startswith('{"b":1.50,"a":"\\u00fc","verdict":')


def test_a_refused_verdict_stays_on_record_with_its_refusal() -> None:
    refusal = Refusal(rule="stop_distance", reason="sl_pips was 1")
    found = msgspec.json.decode(final_state.of(a_verdict(), refusal))
    assert found["verdict"] == {**PROPOSED, "refused": {"rule": "stop_distance", "reason": "sl_pips was 1"}}


def test_what_is_too_large_is_left_out_by_name_the_largest_first() -> None:
    state = msgspec.json.encode({"a": "x" * 300, "b": "y" * 900, "model": "m", "c": "z" * 300}).decode()
    found = msgspec.json.decode(final_state.of(a_verdict(state), bytes_max=600))
    assert found == {"a": "x" * 300, "model": "m", "left_out": ["b", "c"], "verdict": PROPOSED}
    assert set(msgspec.json.decode(final_state.of(a_verdict(state), bytes_max=1))) == {"left_out", "verdict"}


def test_the_offline_analyst_states_its_readings_and_its_verdict() -> None:
    found = msgspec.json.decode(final_state.of(offline.judge(a_signal())))
    assert found["analyst"] == offline.NAME
    assert found["verdict"]["side"] == "BUY"
    assert found["readings"]["agree"] == 5
