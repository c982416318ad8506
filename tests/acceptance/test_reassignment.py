"""How soon the claim of an analyst that died goes to another: at once when its supervisor saw it, else by the beats."""

from __future__ import annotations

from datetime import timedelta

from bus import clock
from tests.kit import pipeline
from tests.kit.pipeline import Pipeline

DEAD_S = 3.0


def interrupted(run: Pipeline) -> list[tuple[timedelta, str]]:
    """Return how long each lost lease stood after its claim, and why it was lost, in the order of the losses."""
    found = []
    with run.reader() as reader:
        claimed = {}
        for move in reader.journal():
            if move.event == "claim":
                claimed[move.intent_id] = clock.parse(move.at)
            elif move.event == "lose_lease":
                found.append((clock.parse(move.at) - claimed[move.intent_id], move.reason))
    return found


def test_claim_of_a_killed_analyst_is_free_at_once_and_that_of_a_silent_one_within_the_beat_limit() -> None:
    with pipeline.running(bus={"dead_s": DEAD_S}, supervisor={"watchdog_s": 4 * DEAD_S}) as run:
        # Whoever analyses first is killed; the next one passes that point and is stopped at the other.
        run.arm("llm.before_analyse", "kill")
        run.arm("llm.after_analyse", "stop")
        run.start("--spares", "--scale", "llm=2")
        run.eventually(lambda: run.counts() and len(interrupted(run)) == 2, 40)
        (killed, why), (silent, _) = interrupted(run)[:2]
        print(f"lease of the killed one: {killed.total_seconds() * 1_000:.0f} ms, of the silent one: {silent}")  # noqa: T201
        assert silent < timedelta(seconds=2 * DEAD_S)
        assert killed * 10 < silent
        assert "SIGKILL" in why  # by the supervisor's word, not by the successor's first beat
