"""What a chaos run did and found, as values that lanes hand back and the last line sums up. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

from msgspec import Struct, field

from tests.chaos.checker import Finding


class Tally(Struct):
    """Counts of one lane or of a whole run. `recovery_ms` is from `kill -9` to the replacement being ready."""

    kills: int = 0
    faults: int = 0  # stops, sleeps, errors, broker misbehaviour, disk and clock trouble
    unknown_left: int = 0
    recovery_ms: list[float] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed_seeds: list[int] = field(default_factory=list)
    swept: list[tuple[str, str, int, bool]] = field(default_factory=list)  # point, action, pass, whether it fired

    def add(self, other: Tally) -> None:
        """Take in what another lane did."""
        self.kills += other.kills
        self.faults += other.faults
        self.unknown_left += other.unknown_left
        self.recovery_ms += other.recovery_ms
        self.findings += other.findings
        self.notes += other.notes
        self.failed_seeds += other.failed_seeds
        self.swept += other.swept


def last_line(tally: Tally, seed: int) -> str:
    """Return the run as one JSON object: the last line that is printed."""
    by_category = {name: sum(one.category == name for one in tally.findings) for name in ("lost", "doubled", "illegal")}
    return json.dumps(
        {
            "kills": tally.kills,
            "faults": tally.faults,
            **by_category,
            "unknown_left": tally.unknown_left,
            "recovery_ms_p50": percentile(tally.recovery_ms, 50),
            "recovery_ms_p99": percentile(tally.recovery_ms, 99),
            "seed": seed,
        }
    )


def percentile(values: Iterable[float], percent: int) -> int | None:
    """Return the nearest-rank percentile, rounded; None without a value."""
    ordered = sorted(values)
    return round(ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]) if ordered else None
