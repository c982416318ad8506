"""The rule sets the proof plays under: every one that is shipped, and others made of the same tables by chance."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import msgspec

from actors.compliance import rule_checks, rulebook
from actors.compliance.rulebook import Moment, RuleSet
from config import load as config_load


def shipped() -> tuple[RuleSet, ...]:
    """Return every rule set under config/rules."""
    return tuple(rulebook.load(path.stem) for path in sorted(config_load.RULES.glob("*.toml")))


def of(rules: RuleSet, **tables: dict[str, Any]) -> RuleSet:
    """Return the rule set with some values of some tables changed: `of(rules, daily={"kind": "none"})`."""
    changed = {table: msgspec.structs.replace(getattr(rules, table), **values) for table, values in tables.items()}
    return msgspec.structs.replace(rules, **changed)


def by_chance(base: RuleSet, seed: int) -> RuleSet:
    """Return a rule set nobody sells: every choice that moves a floor is drawn."""
    chance = random.Random(seed)
    mode = chance.choice(("static", "trailing_day_end", "trailing_closed", "trailing_intraday"))
    stop = chance.choice(("0.5", "0.7", "0.85", "0.85", "0.89"))
    kind = chance.choice(("soft_pause", "hard", "hard", "none"))
    maximum = chance.randint(30, 150)
    best_day = chance.choice(("cap", "none", "none"))
    also = chance.choice(((), (Moment(time="17:00", tz="America/New_York"),)))
    drawn = msgspec.structs.replace(
        of(
            base,
            account={"initial_balance_cents": chance.choice((500_000, 5_000_000, 10_000_000, 20_000_003))},
            reset={"also": also, "confirmed": not also},
            daily={
                "kind": kind,
                "ratio": Decimal(0) if kind == "none" else Decimal(chance.randint(10, min(80, maximum))) / 1_000,
                "base": chance.choice(("initial", "reference")),
                "reference": chance.choice(("balance", "higher_of_balance_and_equity")),
                "measured_on": chance.choice(("equity", "lower_of_balance_and_equity")),
            },
            maximum={
                "mode": mode,
                "ratio": Decimal(maximum) / 1_000,
                "lock_at": "none" if mode == "static" else chance.choice(("initial", "none")),
                "measured_on": chance.choice(("equity", "lower_of_balance_and_equity")),
            },
            safety={"stop_ratio": Decimal(stop), "flatten_ratio": Decimal("0.90")},
            positions={"open_max": chance.choice((1, 3, 5, 10)), "lots_max": Decimal(chance.choice((1, 10, 100)))},
            costs={
                "commission_per_lot_cents": chance.choice((0, 700, 1_000)),
                "swap_per_lot_cents": chance.choice((0, 1_000, 3_000)),
            },
            best_day={"scope": best_day, "ratio": Decimal("0.40") if best_day == "cap" else Decimal(0)},
            requests={"writes_reserve": 40},
        ),
        name=f"by chance {seed}",
    )
    problems = list(rule_checks.problems(drawn))
    assert not problems, f"{drawn.name} is no rule set that would be loaded: {problems}"
    return drawn
