"""Which request suffers which fault: queued, skipped, drawn by a seeded chance, refused when it makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response

from actors.broker.paper import answers, catalogue, faults, tampering
from actors.broker.paper.faults import QUEUE_MAX, STANDING_MAX, Fault, Faults
from config.load import ConfigError


def suffered(found: Faults, call: catalogue.Call, times: int) -> list[str | None]:
    return [one.fault if one else None for one in (found.take(call) for _ in range(times))]


# ── refusals ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"fault": "unheard_of"}, "unheard_of"),
        ({"fault": "ignore_stop", "on": "close"}, "it fits open"),
        ({"fault": "slow", "on": "nonsense"}, "nonsense"),
        ({"fault": "slow", "then": "html_502"}, "only a changed order"),
        ({"fault": "partial_fill", "then": "ignore_stop"}, "only a changed order"),
        ({"fault": "edit_ignored", "then": "wrong_order_id"}, "only a changed order"),
        ({"fault": "slow", "probability": 1.1}, "probability"),
        ({"fault": "slow", "times": 0}, "times"),
        ({"fault": "slow", "seconds": -1}, "seconds"),
        ({"fault": "slow", "seconds": 2, "seconds_max": 1}, "seconds_max"),
        ({"fault": "slow", "more": 1}, "more"),
    ],
)
def test_faults_that_make_no_sense_are_refused_by_name(asked: dict[str, Any], named: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=named):
        msgspec.convert(asked, Fault)


def test_more_faults_than_fit_are_refused() -> None:
    found = Faults()
    found.order(Fault("slow", times=QUEUE_MAX))
    with pytest.raises(ValueError, match="faults wait"):
        found.order(Fault("html_502"))
    for _ in range(STANDING_MAX):
        found.order(Fault("slow", probability=0.1))
    with pytest.raises(ValueError, match="stand already"):
        found.order(Fault("slow", probability=0.1))


@pytest.mark.parametrize("content", [b"", b"{}", b'[{"fault":"unheard_of"}]', b"\xff", None])
def test_a_file_that_is_no_list_of_faults_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "faults.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"faults\.json"):
        faults.from_environment(str(path), salt="")


# ── who suffers ─────────────────────────────────────────────────────────────


def test_without_the_variable_there_are_no_faults_and_with_1_there_are_none_yet() -> None:
    assert faults.from_environment("", salt="") is None
    found = faults.from_environment("1", salt="")
    assert found is not None
    assert suffered(found, "open", 3) == [None] * 3


def test_a_file_lists_faults_to_begin_with(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text('[{"fault":"html_502"},{"fault":"429","on":"balance","probability":1,"seed":3}]')
    found = faults.from_environment(str(path), salt="0")
    assert found is not None
    assert suffered(found, "open", 2) == ["html_502", None]
    assert suffered(found, "balance", 2) == ["429", "429"]


def test_queued_faults_come_in_order_after_those_left_alone() -> None:
    found = Faults((Fault("html_502", skip=2, times=2), Fault("redirect")))
    assert suffered(found, "open", 6) == [None, None, "html_502", "html_502", "redirect", None]


def test_a_fault_on_any_read_hits_every_kind_and_a_named_one_comes_first() -> None:
    found = Faults((Fault("429", on="read", times=2), Fault("html_502", on="balance")))
    assert suffered(found, "balance", 1) == ["html_502"]
    assert suffered(found, "open", 1) == [None]
    assert suffered(found, "positions", 1) + suffered(found, "balance", 2) == ["429", "429", None]


def test_the_same_seed_draws_the_same_requests_and_another_life_does_not() -> None:
    rule = Fault("html_502", probability=0.2, seed=7)
    first = suffered(Faults((rule,), salt="0"), "open", 300)
    assert first == suffered(Faults((rule,), salt="0"), "open", 300)
    assert first != suffered(Faults((rule,), salt="9"), "open", 300)
    assert first != suffered(Faults((msgspec.structs.replace(rule, seed=8),), salt="0"), "open", 300)
    assert 30 <= first.count("html_502") <= 90


def test_a_chance_ends_when_its_times_are_used_up() -> None:
    found = Faults((Fault("html_502", probability=1.0, times=2),))
    assert suffered(found, "open", 4) == ["html_502", "html_502", None, None]


def test_seconds_are_drawn_between_the_two_given() -> None:
    found = Faults((Fault("hide_position", seconds=0.5, seconds_max=10.0, probability=1.0, seed=1),))
    drawn = [one.for_s for one in (found.take("open") for _ in range(50)) if one]
    assert all(0.5 <= seconds <= 10.0 for seconds in drawn)
    assert max(drawn) - min(drawn) > 5
    assert Fault("hide_position").for_s == catalogue.ALL["hide_position"].seconds


def test_what_waits_stands_and_was_suffered_is_described_and_forgotten() -> None:
    found = Faults((Fault("html_502", times=2), Fault("429", probability=0.0)))
    found.take("open")
    said = found.described()
    assert (said["waiting"], said["suffered"], len(said["standing"])) == ({"open": 1}, {"html_502": 1}, 1)
    found.clear()
    assert found.described()["waiting"] == {} and found.described()["standing"] == []


# ── the catalogue ───────────────────────────────────────────────────────────


def test_every_name_is_in_one_group_and_can_be_ordered_on_each_of_its_requests() -> None:
    groups = (catalogue.TWISTS, catalogue.PLACED, catalogue.UNPLACED, catalogue.VIEWS)
    assert len(catalogue.ALL) == sum(map(len, groups))
    for name, one in catalogue.ALL.items():
        assert Fault(name).call == one.on[0]
        for call in one.on:
            assert Fault(name, on=call).call == call


def test_every_answer_of_the_catalogue_is_carried_out_somewhere() -> None:
    done_by_hand = {
        "lose_answer_reset", "lose_answer_timeout", "slow", "slow_body", "cut_body", "restart_placed",
        "restart_unplaced", "hang_unplaced", "drop_unplaced", "token_revoked", "stale_read", "close_between",
        "stop_out", "odd_cookie",
    }  # fmt: skip
    known = done_by_hand | answers.UNPLACED.keys() | answers.PLACED.keys() | answers.BODIES.keys()
    assert (catalogue.PLACED | catalogue.UNPLACED | catalogue.VIEWS).keys() == known


def test_only_so_many_honest_answers_are_remembered_for_stale_reads() -> None:
    found = tampering.Tampering(None, None, Faults(), lambda: None)  # type: ignore[arg-type]
    for number in range(2 * tampering.REMEMBERED_MAX):
        request = Request({"type": "http", "path": "/quotations", "query_string": f"symbols={number}".encode()})
        request.scope["headers"] = [(b"host", b"x")]
        found._remember("quotes", request, Response(b"[]"))
    assert len(found._said) == tampering.REMEMBERED_MAX
