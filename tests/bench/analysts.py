"""How fast a pool of analysts clears its intents, and that a killed one loses none: `python -m tests.bench.analysts`.

The real pipeline with 3 workers of one slot each, and a model on this machine that takes 2 s for each answer: 30
intents need 20 s at best. Then the same again with a `kill -9` of one worker in the middle. Ends with a line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter

from msgspec import Struct

from store import states
from tests.chaos.workloads import Model
from tests.kit import llm_server, pipeline, proposals
from tests.kit.pipeline import Pipeline

WORKERS = 3
INTENTS = 30
LATENCY_S = 2.0
WAIT_S = 120.0
# A machine that is busy with other things must not look like a death: how fast that is seen, others measure.
PATIENT = {"bus": {"dead_s": 10.0}, "supervisor": {"watchdog_s": 20.0}}
DECIDED = ("decide_trade", "decide_hold")
UNDECIDED = {"pending", "claimed", "timed_out"}


class Run(Struct, frozen=True, kw_only=True):
    """What one run showed."""

    seconds: float
    decided: int
    by_worker: dict[str, int]
    lost_leases: int  # of the killed one
    twice: int  # intents with two verdicts
    without: int  # intents without a verdict: lost


def measure(*, workers: int, intents: int, latency_s: float, kill: bool = False) -> Run:
    """Let `workers` analysts clear `intents` at a model that takes `latency_s`; with `kill`, one dies in the middle."""
    with Model() as model:
        model.server.default = llm_server.completion(
            llm_server.decision(side="HOLD", reason="A measurement.", sl_pips=None, tp_pips=None), delay_s=latency_s
        )
        llm = {"analyst": "openai", "model": "test-model", "base_url": model.server.url, "slots": 1}
        with pipeline.running(llm=llm, bus=PATIENT["bus"], supervisor=PATIENT["supervisor"]) as run:
            run.start("--scale", f"llm={workers},scanner=0")
            pids = [run.pid(f"llm.{slot}") for slot in range(1, workers + 1)]
            began_s = time.monotonic()
            wanted = proposals.propose(run, intents)
            if kill:
                run.eventually(lambda: verdicts(run).total() >= intents // 2, WAIT_S)
                os.kill(pids[0], signal.SIGKILL)
            run.eventually(lambda: verdicts(run).total() >= intents and not UNDECIDED & run.counts().keys(), WAIT_S)
            seconds = time.monotonic() - began_s
            return _what_was(run, wanted, seconds)


def verdicts(run: Pipeline) -> Counter[str]:
    """Return how many verdicts each worker's analyses have led to."""
    with run.reader() as reader:
        return Counter(move.actor for move in reader.journal() if move.event in DECIDED)


def _what_was(run: Pipeline, wanted: list[str], seconds: float) -> Run:
    with run.reader() as reader:
        moves = list(reader.journal())
    decided = Counter(move.intent_id for move in moves if move.event in DECIDED)
    ended = {intent.id for intent in run.intents() if intent.status in states.FINAL}
    return Run(
        seconds=round(seconds, 2),
        decided=len(decided),
        by_worker=dict(sorted(verdicts(run).items())),
        lost_leases=sum(move.event == "lose_lease" for move in moves),
        twice=sum(times > 1 for times in decided.values()),
        without=len((set(wanted) - decided.keys()) | (set(wanted) - ended)),
    )


def main() -> int:
    best_s = INTENTS * LATENCY_S / WORKERS
    sys.stdout.write(f"{INTENTS} intents, {WORKERS} analysts, {LATENCY_S:g} s an answer: {best_s:g} s at best\n")
    found = {}
    for name, kill in (("undisturbed", False), ("killed in the middle", True)):
        run = measure(workers=WORKERS, intents=INTENTS, latency_s=LATENCY_S, kill=kill)
        shares = ", ".join(f"{worker} {count}" for worker, count in run.by_worker.items())
        sys.stdout.write(
            f"{name:<26}{run.seconds:>7.2f} s   {shares}   lost leases {run.lost_leases}, "
            f"decided twice {run.twice}, not at all {run.without}\n"
        )
        found[name.split()[0]] = run
    told = {name: {field: getattr(run, field) for field in run.__struct_fields__} for name, run in found.items()}
    sys.stdout.write(json.dumps({"bench": "analysts", **told}) + "\n")
    return 1 if any(run.twice or run.without or run.decided != INTENTS for run in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
