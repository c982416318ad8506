"""The pool of analysts with real processes: scaled while it works, hung, stopped, killed, given more than it takes."""

from __future__ import annotations

import re
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bus.records import Transition
from tests.bench import analysts
from tests.chaos.figures import Tally
from tests.chaos.rig import rigged
from tests.chaos.workloads import Model
from tests.kit import llm_server, pipeline, proposals
from tests.kit.pipeline import Pipeline

SILENT = llm_server.Step(body=None)
GIVEN_BACK = ("decide_trade", "decide_hold", "retry", "exhaust", "release", "lose_lease", "cancel")
GROWTH_MB_MAX = 30


@pytest.fixture
def model() -> Iterator[Model]:
    with Model() as found:
        yield found


def answering(model: Model, delay_s: float, **changes: Any) -> None:
    model.server.default = llm_server.completion(llm_server.decision(**changes), delay_s=delay_s)


def holding(model: Model, delay_s: float) -> None:
    answering(model, delay_s, side="HOLD", reason="Nothing to see.", sl_pips=None, tp_pips=None)


def settings(model: Model, *, slots: int, stop_s: float = 4.0) -> dict[str, dict[str, Any]]:
    llm = {"analyst": "openai", "model": "test-model", "base_url": model.server.url, "slots": slots}
    return {
        "llm": llm,
        "bus": analysts.PATIENT["bus"],
        "supervisor": analysts.PATIENT["supervisor"] | {"stop_s": stop_s},
    }


def journal(run: Pipeline) -> list[Transition]:
    with run.reader() as reader:
        return list(reader.journal())


def events(run: Pipeline, intent_id: str) -> list[str]:
    return [move.event for move in journal(run) if move.intent_id == intent_id]


def most_held(moves: list[Transition]) -> dict[str, int]:
    """Return how many leases each incarnation held at most at a time, as the journal tells."""
    now: Counter[str] = Counter()
    most: dict[str, int] = defaultdict(int)
    holder: dict[str, str] = {}
    for move in moves:
        if move.event == "claim":
            holder[move.intent_id] = move.incarnation
            now[move.incarnation] += 1
            most[move.incarnation] = max(most[move.incarnation], now[move.incarnation])
        elif move.event in GIVEN_BACK and (who := holder.pop(move.intent_id, None)) is not None:
            now[who] -= 1
    return most


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1_024


# ── scaled while it works ───────────────────────────────────────────────────


def test_scaling_up_and_down_under_load_loses_nothing_and_doubles_nothing(model: Model) -> None:
    answering(model, 0.0)
    model.server.is_held = True
    tally = Tally()
    with rigged(tally, changes=settings(model, slots=2)) as rig:
        run = rig.run
        rig.wanted = 5
        rig.start("--scale", "llm=1,scanner=0")
        wanted = proposals.propose(run, 12)
        assert run.run("scale", "llm=3").returncode == 0
        run.eventually(lambda: run.counts() == {"claimed": 6, "pending": 6})
        model.server.is_held = False
        run.eventually(lambda: len(analysts.verdicts(run)) == 3)

        model.server.is_held = True
        wanted += proposals.propose(run, 12, first=12)
        run.eventually(lambda: run.counts().get("claimed") == 6)
        assert run.run("scale", "llm=1").returncode == 0
        run.eventually(lambda: run.counts().get("claimed") == 2)
        released = {move.actor for move in journal(run) if move.event == "release"}
        assert released == {"llm.2", "llm.3"}
        model.server.is_held = False
        assert rig.come_to_rest("scaled from 1 to 3 to 1", 60), tally.findings
        check_each_is_decided_once(run, wanted)
        assert run.stop(signal.SIGINT) == 0


def check_each_is_decided_once(run: Pipeline, wanted: list[str]) -> None:
    moves = journal(run)
    assert Counter(move.intent_id for move in moves if move.event == "decide_trade") == dict.fromkeys(wanted, 1)
    assert not [move for move in moves if move.event in ("lose_lease", "retry")], "an orderly stop loses no lease"
    assert max(most_held(moves).values()) == 2
    assert {intent.status for intent in run.intents()} == {"opened"}


# ── a slow endpoint ─────────────────────────────────────────────────────────


def test_a_hanging_request_holds_up_its_own_slot_only(model: Model) -> None:
    holding(model, 0.0)
    model.server.script.append(SILENT)
    with pipeline.running(**settings(model, slots=3)) as run:
        run.start("--scale", "scanner=0,executor=0,monitor=0,paper=0")
        proposals.propose(run, 12)
        run.eventually(lambda: run.counts() == {"claimed": 1, "cancelled": 11})
        (hung,) = run.intents("claimed")
        assert run.stop(signal.SIGINT) == 0
        assert events(run, hung.id) == ["propose", "claim", "release"]


# ── stopped and killed ──────────────────────────────────────────────────────


def test_a_stop_finishes_what_it_can_and_releases_the_rest_and_a_kill_counts_as_an_attempt(model: Model) -> None:
    # Of three analyses under way one is answered soon, the others never.
    model.server.script.extend([llm_server.completion(llm_server.decision(), delay_s=0.8), SILENT, SILENT])
    with pipeline.running(**settings(model, slots=3, stop_s=5.0)) as run:
        run.env["COLUMNS"] = "200"
        run.start("--scale", "scanner=0,executor=0,monitor=0,paper=0")
        proposals.propose(run, 3)
        run.eventually(lambda: len(model.server.asked) == 3)
        assert run.stop(signal.SIGINT) == 0
        assert run.counts() == {"ready_for_exec": 1, "pending": 2}
        left = run.intents("pending")
        for intent in left:
            assert events(run, intent.id) == ["propose", "claim", "release"]
            assert intent.attempts == 0

        model.server.default = SILENT
        run.start("--scale", "scanner=0,executor=0,monitor=0,paper=0")
        run.eventually(lambda: len(model.server.asked) == 5)
        run.kill("llm")
        run.eventually(lambda: len(model.server.asked) == 7)
        for intent in run.intents("claimed"):
            assert events(run, intent.id)[3:] == ["claim", "lose_lease", "recycle", "claim"]
            assert intent.attempts == 2
        said = run.run("show", left[0].id, command="pilot").stdout
        for word in ("release", "stopping", "lose_lease", "llm.1 died: ", "recycle"):
            assert word in said
        assert re.search(r"attempts +2", said)


# ── more work than it takes ─────────────────────────────────────────────────


def test_two_hundred_intents_wait_in_the_store_and_pile_up_nowhere(model: Model) -> None:
    holding(model, 0.0)
    model.server.is_held = True
    with pipeline.running(**settings(model, slots=2)) as run:
        run.start("--scale", "llm=2,scanner=0,executor=0,monitor=0,paper=0")
        proposals.propose(run, 200)
        run.eventually(lambda: run.counts() == {"claimed": 4, "pending": 196})
        pids = [one["pid"] for name, one in run.status().items() if name.startswith(("store", "llm"))]
        before = [resident_mb(pid) for pid in pids]
        model.server.is_held = False
        run.eventually(lambda: run.counts() == {"cancelled": 200}, 60)
        assert set(most_held(journal(run)).values()) == {2}
        assert "no free slot" not in run.console(), "the store gave more than was announced"
        grown = [resident_mb(pid) - mb for pid, mb in zip(pids, before, strict=True)]
        assert len(grown) == 3
        assert max(grown) < GROWTH_MB_MAX, grown
        assert analysts.verdicts(run).keys() == {"llm.1", "llm.2"}


# ── the bench, small ────────────────────────────────────────────────────────


def test_a_pool_clears_its_intents_together_and_a_killed_one_loses_none() -> None:
    found = analysts.measure(workers=3, intents=12, latency_s=0.8, kill=True)
    assert (found.decided, found.twice, found.without, found.lost_leases) == (12, 0, 0, 1)
    assert found.by_worker.keys() == {"llm.1", "llm.2", "llm.3"}
    assert found.seconds < 12 * 0.8, "not faster than one alone"
