"""What counts as a model's answer, and the schema it is asked for."""

from __future__ import annotations

import re
import time
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.analysts import answer, prompts
from actors.analysts.answer import Answer, Unreadable
from config.settings import Llm
from tests.kit.analysis import a_signal
from tests.kit.llm_server import decision

BUY, SELL, HOLD = (decision(side=side) for side in ("BUY", "SELL", "HOLD"))
DRAFT = f"```json\n{BUY}\n```"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "I think EURUSD will rise, so BUY with a stop of 60 pips.",
        f"Here is my decision: {decision()}",
        f"{decision()} I hope this helps!",
        f"{decision()}{decision(side='SELL')}",
        f"[{decision()}]",
        f"```json\n{decision()}\n```\nor\n```json\n{decision(side='SELL')}\n```",
        f"{DRAFT}\nOn reflection that is wrong. Final answer:\n{HOLD}",
        f"{SELL}\n\n{DRAFT}",
        f"I would not trade this. For example:\n{DRAFT}\nMy decision is HOLD.",
        f"{DRAFT}\n```json\n{HOLD}",
        f"```json\n{BUY}\n```json\n{HOLD}\n```",
        f"Let me draft:\n{DRAFT}\nNo, the readings disagree.\n</think>\n{HOLD}",
        f"{DRAFT}\n</think>",
        f"{BUY}\n</think>\n{HOLD}",
        f"<think>Maybe\n{DRAFT}\nbut wait",
        f"{BUY}\n<think>But the readings disagree: HOLD.</think>",
        f"{DRAFT}<think>But the readings disagree: HOLD.</think>",
        f"<think>unfinished {decision()}",
        "<think>all of it</think>",
        decision()[:-1],
        decision(side="buy"),
        decision(side="STRONG BUY"),
        decision(side=None),
        decision(sl_pips="60"),
        decision(sl_pips=True),
        decision(confidence=None),
        decision(reason=None),
        '{"side": "BUY", "sl_pips": 60, "tp_pips": 120, "confidence": 0.7}',
        '{"reason": "", "side": "BUY", "sl_pips": NaN, "tp_pips": 120, "confidence": 0.7}',
        '{"reason": "", "side": "BUY", "sl_pips": 1e999, "tp_pips": 120, "confidence": 0.7}',
        '{"reason": "", "side": "BUY", "side": "SELL", "sl_pips": 60, "tp_pips": 120, "confidence": 0.7}',
        "{" * 100_000,
        '{"a":' * 100_000,
        "null",
        "<html><body>502 Bad Gateway</body></html>",
    ],
)
def test_anything_but_one_whole_decision_is_unreadable(text: str) -> None:
    found = answer.read(text)
    assert isinstance(found, Unreadable)
    assert found.problem


@pytest.mark.parametrize(
    "text",
    [
        decision(),
        f"\n  {decision()}\n",
        f"```json\n{decision()}\n```",
        f"```\n{decision()}\n```",
        f"<think>The trend is down, SELL?</think>\n{decision()}",
        f"<think>a</think><THINK>b</THINK>```json\n{decision()}\n```",
        f"<think>Maybe\n```json\n{SELL}\n```\nNo.</think>\n{DRAFT}\n",
        decision(volume=100, leverage=500),
    ],
)
def test_one_decision_is_read_and_what_nobody_asked_for_is_ignored(text: str) -> None:
    assert answer.read(text) == Answer("Momentum is positive.", "BUY", 60.0, 120.0, 0.7)


def test_a_hold_has_no_distances() -> None:
    found = answer.read(decision(side="HOLD", sl_pips=None, tp_pips=None))
    assert isinstance(found, Answer)
    assert (found.side, found.sl_pips) == ("HOLD", None)


@pytest.mark.parametrize(
    "text",
    ["<think>" * 150_000, "<think></think" * 70_000, "```\n" + "\n" * 1_000_000, "```" + "a" * 1_000_000,
     "`" * 1_000_000, "```json\n" * 100_000, "</think>" * 130_000, "{" + " " * 1_000_000,
     '{"a": ' + "1" * 1_000_000 + "}", "<think></think>" * 65_000, "```\n" + "`" * 1_000_000, " " * 1_000_000 + "x",
     "<think>" + "</think " * 120_000, "x</think>" * 110_000],
    ids=range(14),
)  # fmt: skip
def test_a_megabyte_of_anything_is_read_in_a_moment(text: str) -> None:
    began = time.monotonic()
    assert isinstance(answer.read(text), Unreadable)
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize("stance", [1.001, -1.001, 1e308, True, "1", None])
def test_a_stance_that_is_no_number_from_minus_1_to_1_is_unreadable(stance: object) -> None:
    text = msgspec.json.encode({"argument": "x", "stance": stance}).decode()
    assert isinstance(answer.read_opinion(text), Unreadable)


def test_an_opinion_is_read_as_strictly_as_an_answer() -> None:
    assert answer.read_opinion('{"argument": "x", "stance": -1}') == answer.Opinion("x", -1.0)
    draft = '```json\n{"argument": "x", "stance": 1}\n```\nNo: {"argument": "x", "stance": -1}'
    twice = '{"argument": "x", "stance": 1, "stance": 0}'
    for text in ('{"argument": "x", "stance": NaN}', twice, draft, decision(), "x"):
        assert isinstance(answer.read_opinion(text), Unreadable)


@given(st.text())
def test_no_text_raises(text: str) -> None:
    assert isinstance(answer.read(text), (Answer, Unreadable))


class Inner(msgspec.Struct):
    title: str
    kind: Literal["a", "b"] = "a"


class Outer(msgspec.Struct):
    inner: Inner
    many: list[Inner]
    size: float | None = None


def objects(node: Any) -> list[dict[str, Any]]:
    """Return every object schema inside a schema."""
    if isinstance(node, list):
        return [found for item in node for found in objects(item)]
    if not isinstance(node, dict):
        return []
    own = [node] if node.get("type") == "object" else []
    return own + [found for item in node.values() for found in objects(item)]


@pytest.mark.parametrize(("kind", "count"), [(Answer, 1), (Outer, 2)])
def test_the_schema_is_strict_everywhere(kind: type[msgspec.Struct], count: int) -> None:
    schema = answer.strict_schema(kind)
    assert "$ref" not in schema
    found = objects(schema)
    assert len(found) == count
    for node in found:
        assert node["additionalProperties"] is False
        assert node["required"] == list(node["properties"])
        assert "title" not in node
        for value in node["properties"].values():
            assert "default" not in value
            assert "enum" not in value or value["type"] == "string"


def test_a_field_called_title_is_kept_and_references_stay_resolvable() -> None:
    schema = answer.strict_schema(Outer)
    assert list(schema["$defs"]) == ["Inner"]
    assert list(schema["$defs"]["Inner"]["properties"]) == ["title", "kind"]
    assert schema["properties"]["inner"] == {"$ref": "#/$defs/Inner"}


def test_the_prompt_names_the_limits_and_every_reading_and_nothing_of_the_account() -> None:
    asked = prompts.ask(a_signal(), Llm())
    text = "\n".join(message["content"] for message in asked)
    assert "0.3 to 5 x the daily volatility" in text
    assert "12.0 to 200.0 pips" in text
    assert all(f"- {name}:" in text for name in a_signal().features)
    assert not any(word in text.lower() for word in ("balance", "equity", "drawdown"))


@pytest.mark.parametrize(("timeframe", "bar"), [("H4", "4-hour bar"), ("H1", "1-hour bar")])
def test_a_prompt_on_shorter_bars_speaks_of_those_bars_and_of_no_day(timeframe: str, bar: str) -> None:
    system, user = (one["content"] for one in prompts.ask(a_signal(timeframe=timeframe), Llm()))
    assert not re.search(r"\b(daily|days?)\b", system + user)
    assert f"on {bar}s" in system and f"0.3 to 5 x the volatility of a {bar}" in system
    assert f"volatility of a {bar}: 40.0 pips" in user and f"a fraction a {bar}" in user


def test_a_prompt_on_daily_bars_is_the_one_that_recordings_of_it_hold() -> None:
    digest = prompts.digest(prompts.ask(a_signal(), Llm()))
    assert digest == "109b4cd8005b702b500c93f090f84df6e579332156c87dc913e4a50d2a655e49"


def test_the_same_signal_gives_the_same_prompt_and_another_one_a_different_digest() -> None:
    assert prompts.digest(prompts.ask(a_signal(), Llm())) == prompts.digest(prompts.ask(a_signal(), Llm()))
    assert prompts.digest(prompts.ask(a_signal(), Llm())) != prompts.digest(prompts.ask(a_signal(close=1.2), Llm()))
