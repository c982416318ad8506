"""The soak run: `make soak` (a week in an hour) or `python -m tests.soak --minutes 10 --days 7 [--seed N] [--start T]`.

Real processes over days in which the clocks are changed, killed and stopped at random by a seeded schedule. Prints what
was done to whom, each day's end, and how memory, descriptors, threads and files moved. The last line is one JSON
object; exit code 1 when anything did not hold. Leaves no process and no file behind.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from tests.chaos.checker import Finding
from tests.kit import leftovers
from tests.soak import footprint, week
from tests.soak.week import Asked, Done

ZONE = "Europe/Athens"  # the firm's: docs/compliance.md
LEAD = timedelta(days=2, hours=18)  # before the change of clocks, so that a week holds it and a weekend
WARM_S, WARM_LIFE_S = 20.0, 60.0  # by then a process has done everything once
GROWTH_MB_MAX = 8.0  # of a role over the whole run, and of one life
WIDER_MAX = 4  # descriptors and threads: more in the second half of the run than in the first
RUN_FILES_MAX = 200
BYTES_AN_INTENT = {"database": 16_384, "ledger": 4_096, "account": 4_096, "recordings": 8_192}
BYTES_MAX = {"log": 64 * footprint.MB, "logs": 200 * footprint.MB, "models": footprint.MB, "bars": 32 * footprint.MB}
BYTES_MIN = 4 * footprint.MB  # what may lie there whatever the intents


def main() -> int:
    """Run, print, and return the exit code."""
    asked = _arguments()
    seed = asked.seed if asked.seed is not None else secrets.randbelow(1_000_000)
    begin = _start(asked.start)
    os.environ[leftovers.MARK] = f"soak-{os.getpid()}"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    wanted = Asked(
        begin=begin, end=begin + timedelta(days=asked.days), seconds=60 * asked.minutes, seed=seed,
    )  # fmt: skip
    _say(
        f"Seed {seed}, {asked.days:g} days from {begin:%a %Y-%m-%d %H:%M} UTC in about {asked.minutes:g} minutes; the "
        f"same again: python -m tests.soak --minutes {asked.minutes:g} --days {asked.days:g} --seed {seed} "
        f"--start {begin:%Y-%m-%dT%H:%M}"
    )
    began_s = time.monotonic()
    done = week.live(wanted)
    if left := leftovers.after(5.0):
        done.tally.findings.append(Finding("nothing is left behind", "illegal", f"processes: {left}"))
    done.tally.findings += judged(done)
    for line in report(done):
        _say(line)
    took_s = time.monotonic() - began_s
    _say(f"{done.leaps} leaps, {done.swaps} nights of swaps, {done.closed} closed; took {took_s:.0f} s")
    _say(json.dumps(last_line(done, seed)))
    return 1 if done.tally.findings else 0


def judged(done: Done) -> list[Finding]:
    """Return what grew that should not have."""
    return [Finding("nothing grows", "illegal", text) for text in _grown(done)]


def _grown(done: Done) -> Iterator[str]:
    samples = done.footprint.samples
    for what, grown in (
        ("replacements of", footprint.growth_mb(samples, warm_s=WARM_S)),
        ("the longest life of", footprint.life_growth_mb(samples, warm_s=WARM_LIFE_S)),
    ):
        for role, mb in grown.items():
            if mb > GROWTH_MB_MAX:
                yield f"{what} {role} took {mb} MB more at the end; allowed {GROWTH_MB_MAX:g}"
    for what in ("fds", "threads"):
        for role, (first, second) in footprint.held(samples, what, warm_s=WARM_S).items():
            if first and second > first + WIDER_MAX:
                yield f"{role} held {first} {what} in the first half and {second} in the second"
    for name, each in BYTES_AN_INTENT.items():
        allowed = BYTES_MIN + each * done.intents
        if done.files.get(name, 0) > allowed:
            yield f"{name}: {done.files[name]:,} bytes for {done.intents} intents; allowed {allowed:,}"
    for name, allowed in (BYTES_MAX | {"run_files": RUN_FILES_MAX}).items():
        if done.files.get(name, 0) > allowed:
            yield f"{name}: {done.files[name]:,}; allowed {allowed:,}"


def report(done: Done) -> Iterator[str]:
    """Yield what was done and found, for people."""
    yield f"Schedule: {'; '.join(done.schedule) or 'nobody was hurt'}"
    yield from done.tally.notes
    samples = done.footprint.samples
    life, fds = footprint.life_growth_mb(samples, warm_s=WARM_LIFE_S), footprint.held(samples, "fds", warm_s=WARM_S)
    threads = footprint.held(samples, "threads", warm_s=WARM_S)
    for role, mb in footprint.growth_mb(samples, warm_s=WARM_S).items():
        rss = [one.rss for one in samples if one.role == role]
        lives = len({one.pid for one in samples if one.role == role})
        yield (
            f"{role}: {lives} lives, RSS at most {max(rss) / footprint.MB:.1f} MB, over the run {mb:+.2f} MB, in the "
            f"longest life {life.get(role, 0.0):+.2f} MB; descriptors {fds[role]}, threads {threads[role]} (halves)"
        )
    for finding in done.tally.findings:
        yield f"VIOLATION ({finding.category}) {finding.check}: {finding.text}"


def last_line(done: Done, seed: int) -> dict[str, object]:
    """Return the run as the object that is printed last."""
    by = {name: sum(one.category == name for one in done.tally.findings) for name in ("lost", "doubled", "illegal")}
    return {
        "days": done.days, "kills": done.tally.kills, "faults": done.tally.faults, "intents": done.intents,
        "opened": done.opened, **by, "days_wrong": done.days_wrong,
        "rss_growth_mb": footprint.growth_mb(done.footprint.samples, warm_s=WARM_S), "files": done.files, "seed": seed,
    }  # fmt: skip


def _start(asked: str | None) -> datetime:
    """Return the simulated begin: as asked, else some days before the firm's clocks are changed next."""
    if asked is not None:
        return datetime.fromisoformat(asked).replace(tzinfo=UTC)
    return week.next_change(datetime.now(UTC) + LEAD, ZONE) - LEAD


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="about how long it may take")
    parser.add_argument("--days", type=float, default=7.0, help="how many days pass")
    parser.add_argument("--seed", type=int, help="of everything that is drawn; without it a new one")
    parser.add_argument("--start", help="the simulated begin in UTC; default: before the next change of clocks")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
