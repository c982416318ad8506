"""How much of each loss limit is used up, and what to say when that changes. Pure; library of the monitor.

Levels rise at once and fall with hysteresis, so that a value that swings around a step is told once.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from actors.compliance import drawdown
from actors.compliance.drawdown import Level, Limit
from actors.compliance.money import amount
from actors.compliance.rulebook import RuleSet

Severity = Literal["info", "warning", "error"]


class Standing(Struct, frozen=True, kw_only=True):
    """One limit at one moment. `level` is without hysteresis: it is what halts and flattening go by."""

    limit: Limit
    value_cents: int
    level: Level

    @property
    def loss_cents(self) -> int:
        return self.limit.loss_cents(self.value_cents)

    @property
    def text(self) -> str:
        """Return the standing as a sentence for people."""
        limit_cents = int(self.limit.amount_cents)
        return (
            f"{self.limit.name} loss {amount(self.loss_cents)} of {amount(limit_cents)} "
            f"({100 * self.loss_cents // max(1, limit_cents)}%), floor {amount(self.limit.floor_cents)}"
        )


class Change(Struct, frozen=True, kw_only=True):
    """A level was reached or left."""

    event: str
    severity: Severity
    text: str


class Ladder:
    """Remembers the level last told for each limit. A new day starts the daily one anew."""

    def __init__(self) -> None:
        self._told: dict[str, Level] = {}
        self._day = ""

    def step(self, standing: Standing, day: str) -> Change | None:
        """Return what has to be told, if anything, and remember it."""
        if day != self._day:
            self._day = day
            self._told.pop("daily", None)
        name = standing.limit.name
        before = self._told.get(name, Level.OK)
        now = standing.limit.next_level(standing.value_cents, before)
        self._told[name] = now
        if now == before:
            return None
        if now < before:
            return Change(event=f"{name}_{now.label}", severity="info", text=f"back to {now.label}: {standing.text}")
        severity: Severity = "error" if now >= Level.STOP else "warning"
        return Change(event=f"{name}_{now.label}", severity=severity, text=f"reached {now.label}: {standing.text}")


def standings(
    rules: RuleSet, *, balance_cents: int, equity_cents: int, start_balance_cents: int | None
) -> tuple[Standing, ...]:
    """Return the standing of each limit: the maximum, and the day's unless its start is not known (None)."""
    limits = [drawdown.maximum(rules)]
    if start_balance_cents is not None:
        limits.append(drawdown.daily(rules, start_balance_cents))
    values = [(limit, drawdown.measured_cents(balance_cents, equity_cents, limit.measured_on)) for limit in limits]
    return tuple(Standing(limit=limit, value_cents=value, level=limit.level(value)) for limit, value in values)
