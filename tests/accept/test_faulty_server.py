"""The whole pipeline against aimock, a stand-in that others wrote, which refuses, garbles, hangs up and dawdles.

In an outage nothing is traded and no intent is lost, whether it is tried again, waits or fails; the number of requests
stays bounded; afterwards decisions are made again.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from store import states
from tests.accept import servers
from tests.accept.servers import Aimock
from tests.chaos.figures import Tally
from tests.chaos.rig import Rig, rigged
from tests.kit import llm_server, proposals

KINDS: dict[str, dict[str, float]] = {
    "429 with Retry-After": {"rateLimitRate": 1},
    "broken JSON": {"malformedRate": 1},
    "dropped connections": {"disconnectRate": 1},
    "500": {"dropRate": 1},
    "latency beyond the deadline": {"latencyMs": 6_000},
}
MIXED = {"rateLimitRate": 0.15, "malformedRate": 0.15, "disconnectRate": 0.15, "dropRate": 0.1, "latencyMs": 50}
INTENTS = 3
ATTEMPTS_MAX = 2
REQUESTS_MAX = 3  # of one attempt: one and two retries
OUTAGE_S = 12.0  # both attempts of each intent are over by then, or the pool has stopped asking
REST_S = 240.0
LIMIT_S = 1_500


@pytest.mark.timeout(LIMIT_S)
def test_no_fault_of_the_server_makes_a_trade_or_loses_an_intent(tmp_path: Path) -> None:
    fixtures = {"fixtures": [{"match": {}, "response": {"content": llm_server.decision()}}]}
    with servers.aimock(tmp_path, json.dumps(fixtures)) as server:
        changes = {
            "llm": {"analyst": "openai", "model": "m", "base_url": server.base_url, "slots": 3, "deadline_s": 5.0},
            "store": {"attempts_max": ATTEMPTS_MAX}, "bus": {"dead_s": 10.0}, "supervisor": {"watchdog_s": 30.0},
        }  # fmt: skip
        tally = Tally()
        with rigged(tally, changes=changes) as rig:
            rig.wanted = 5
            rig.start("--scale", "scanner=0")
            rig.run.pid("llm")
            sys.stdout.write("\n")
            for number, (kind, chaos) in enumerate(KINDS.items()):
                outage(rig, server, kind, chaos, 100 * number)
            unsteady(rig, server)
            assert rig.come_to_rest("all kinds of faults", REST_S), tally.findings


def outage(rig: Rig, server: Aimock, kind: str, chaos: dict[str, float], first: int) -> None:
    """Let every request fail for a while: nothing may be traded. Then let the server work again."""
    before = server.asked()
    server.hurt(**chaos)
    hurt = proposals.propose(rig.run, INTENTS, first=first)
    end = time.monotonic() + OUTAGE_S
    rig.run.eventually(lambda: statuses(rig, hurt).get("failed") == INTENTS or time.monotonic() > end, 2 * OUTAGE_S)
    asked = server.asked() - before
    during = statuses(rig, hurt)
    server.hurt()
    assert during.keys() <= {"failed", "pending", "claimed"}, f"{kind}: {during}"
    assert asked <= INTENTS * ATTEMPTS_MAX * REQUESTS_MAX, f"{kind}: {asked} requests"
    assert asked or "latencyMs" in chaos  # it writes down only what it has answered
    well = proposals.propose(rig.run, 2, first=first + 50)
    rig.run.eventually(lambda: statuses(rig, well) == {"opened": 2}, REST_S)
    rig.run.eventually(lambda: statuses(rig, hurt).keys() <= {"failed", "opened"}, REST_S)
    sys.stdout.write(
        f"{kind:<30}{INTENTS} intents, {asked} requests: {said(during)}; afterwards {said(statuses(rig, hurt))}, "
        f"and 2 new ones opened\n"
    )


def unsteady(rig: Rig, server: Aimock) -> None:
    """Let about half of the requests fail, of all kinds at once: each intent ends as a trade or as failed."""
    before = server.asked()
    server.hurt(**MIXED)
    wanted = proposals.propose(rig.run, 20, first=1_000)
    rig.run.eventually(lambda: statuses(rig, wanted).keys() <= {*states.FINAL, "opened"}, REST_S)
    server.hurt()
    found = statuses(rig, wanted)
    assert found.keys() <= {"opened", "failed"}
    assert found["opened"] > 0
    asked = server.asked() - before
    assert asked <= 20 * ATTEMPTS_MAX * 2 * REQUESTS_MAX  # a broken answer inside a whole reply is repaired once
    sys.stdout.write(f"{'all of them, half of the time':<30}20 intents, {asked} requests: {said(found)}\n")


def statuses(rig: Rig, wanted: list[str]) -> Counter[str]:
    return Counter(str(intent.status) for intent in rig.run.intents() if intent.id in wanted)


def said(found: Counter[str]) -> str:
    return ", ".join(f"{count} {status}" for status, count in sorted(found.items()))
