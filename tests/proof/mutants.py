"""The gate with one safeguard less: a check taken out, or a formula made less strict.

`python -m tests.proof.mutants [NAME ...]` searches a counterexample for each and keeps its numbers in `found.json`,
which the tests replay.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from actors.compliance import account as accounts
from actors.compliance import best_day, checks_limits, day, sizing
from actors.compliance.guard import CHECKS
from actors.compliance.rulebook import RuleSet
from actors.compliance.sizing import Costs
from bus.records import AccountMark
from tests.proof import rules as rule_sets
from tests.proof.gate import ACCOUNT_ID, Gate
from tests.proof.plays import Options, Outcome
from tests.proof.search import search

KEPT = Path(__file__).parent / "found.json"
SHIPPED = {rules.name: rules for rules in rule_sets.shipped()}
DEFAULT = SHIPPED["e8-signature-50k"]


@dataclass(frozen=True)
class Mutant:
    """One safeguard less. `breaks` is the rule that then can be broken; `floor` is any loss limit."""

    rules: tuple[RuleSet, ...]
    without: tuple[str, ...] = ()  # checks by the names of their functions
    patches: tuple[tuple[Any, str, Any], ...] = ()
    change: Callable[[Gate], None] | None = None
    breaks: str = "floor"
    gap_pips: int | None = None
    sl_pips_max: int = 150

    def options(self) -> Options:
        """Return what the adversary plays with."""
        return replace(self.unharmed(), change=self.changed)

    def unharmed(self) -> Options:
        """Return the same with the safeguard in its place."""
        return Options(rules=self.rules, gap_pips=self.gap_pips, sl_pips_max=self.sl_pips_max)

    def changed(self, gate: Gate) -> None:
        """Take the safeguard away."""
        names = set(self.without)
        gate.checks = tuple(check for check in CHECKS if check.__name__ not in names)
        assert len(gate.checks) == len(CHECKS) - len(names), f"{names} are not all checks"
        if self.change:
            self.change(gate)

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Put the patches in place meanwhile."""
        patchers = [mock.patch.object(owner, name, value) for owner, name, value in self.patches]
        for patcher in patchers:
            patcher.start()
        try:
            yield
        finally:
            for patcher in patchers:
                patcher.stop()

    def is_found(self, outcome: Outcome) -> bool:
        """Return whether the play breaks what this safeguard protects."""
        if self.breaks == "floor":
            return outcome.margin <= 0
        return any(text.startswith(self.breaks) for text in outcome.broken)


def _costs(**changed: Any) -> Callable[[Gate], None]:
    """Return a change that sizes orders and positions with other costs."""

    def change(gate: Gate) -> None:
        real = gate.costs()
        values = {name: getattr(real, name) for name in real.__struct_fields__}
        gate.costs = lambda: Costs(**{**values, **changed})  # type: ignore[method-assign]

    return change


def _forgets_unknown(gate: Gate) -> None:
    gate.view["unresolved"] = ()


def _forgets_waiting(gate: Gate) -> None:
    gate.view["pending"] = ()


def _forgets_the_mark(gate: Gate) -> None:
    """Believe that the account was never worth more than at its beginning."""
    at = "2026-03-09T12:00:00.000Z"
    initial_cents = gate.rules.account.initial_balance_cents
    gate.view["marks"] = (
        AccountMark(
            account_id=ACCOUNT_ID, kind="day_end_balance", value_cents=initial_cents, at=at, known_until=at
        ),
    )  # fmt: skip


def _no_spread(real: Any) -> Any:
    """Return the distance beyond the stop without the spread of sells."""
    return lambda side, contract, quotes, costs: real("BUY", contract, quotes, costs)


def _rate_now(real: Any) -> Any:
    """Return the conversion at the rate now only, not at the one when the stop is hit."""

    def money(distance: Decimal, volume: Decimal, contract: Any, quotes: Any, currency: str, *, at: Decimal) -> Any:
        return real(distance, volume, contract, quotes, currency, at=quotes[contract.symbol].bid)

    return money


def _profit_helps(real: Any) -> Any:
    """Return the worst case in which profits that stops lock in pay for the losses of others."""
    return lambda account, loss_cents, limit: real(
        account, loss_cents, msgspec.structs.replace(limit, measured_on="equity", rises=False)
    )


def _only_locked(real: Any) -> Any:
    """Return the worst case with locked-in profits helping wherever equity is measured."""
    return lambda account, loss_cents, limit: real(account, loss_cents, msgspec.structs.replace(limit, rises=False))


def _peak_is_now(account: Any, plan: Any) -> int:
    equity: int = account.equity_cents
    return equity


def _first_reading(real: Any) -> Any:
    return lambda rules: real(rules)[:1]


def _todays_loss_makes_room(real: Any) -> Any:
    """Return the best day with a loss of today making room for more profit."""

    def highest(account: Any, order_profit_cents: int) -> int:
        realised: int = max(view.realised_cents for view in account.days)
        return int(real(account, order_profit_cents)) + min(0, realised)

    return highest


NO_RULE = {"scope": "none", "ratio": Decimal(0)}


def _measured(on: str, **tables: dict[str, Any]) -> RuleSet:
    """Return the default with everything measured on `on`."""
    merged = {name: {"measured_on": on, **tables.get(name, {})} for name in ("daily", "maximum")}
    return rule_sets.of(DEFAULT, **{"best_day": NO_RULE, **tables, **merged})


ROOMY = rule_sets.of(DEFAULT, positions={"lots_max": Decimal(1_000)})  # tight stops need many lots
NO_SWAP = rule_sets.of(ROOMY, costs={"swap_per_lot_cents": 0, "commission_per_lot_cents": 2_000})
NO_BEST_DAY = rule_sets.of(DEFAULT, best_day=NO_RULE)
ON_EQUITY = _measured("equity")
PEAKS = _measured("equity", daily={"reference": "higher_of_balance_and_equity"})
INTRADAY = _measured("equity", daily={"kind": "none", "ratio": Decimal(0)}, maximum={"mode": "trailing_intraday"})
DAY_END = _measured(
    "equity",
    daily={"kind": "none", "ratio": Decimal(0)},
    maximum={"mode": "trailing_day_end", "ratio": Decimal("0.04")},
)

MUTANTS: dict[str, Mutant] = {
    "without daily_drawdown": Mutant((DEFAULT,), without=("daily_drawdown",)),
    "without max_drawdown": Mutant((DEFAULT,), without=("max_drawdown",)),
    "without peak_drawdown, higher of balance and equity": Mutant((PEAKS,), without=("peak_drawdown",)),
    "without next_day_drawdown, locked-in profits": Mutant((ON_EQUITY,), without=("next_day_drawdown",)),
    "without peak_drawdown, trailing intraday": Mutant((INTRADAY,), without=("peak_drawdown",)),
    "without best_day": Mutant((DEFAULT,), without=("best_day",), breaks="best_day"),
    "without next_day_drawdown": Mutant((DEFAULT,), without=("next_day_drawdown",)),
    "without next_max_drawdown": Mutant((DAY_END,), without=("next_max_drawdown",)),
    "no spread for sells": Mutant((ROOMY,), patches=((sizing, "_beyond_stop", _no_spread(sizing._beyond_stop)),)),
    "no gap beyond the stop": Mutant((ROOMY,), change=_costs(gap_pips=Decimal(0)), gap_pips=30),
    "no commission": Mutant((NO_SWAP,), change=_costs(commission_per_lot_cents=0), gap_pips=0),
    "no swap": Mutant((ROOMY,), change=_costs(swap_per_lot_cents=0)),
    "converted at the rate now": Mutant(
        (ROOMY,), sl_pips_max=5_000, patches=((sizing, "_money", _rate_now(sizing._money)),)
    ),
    "unknown orders counted as absent": Mutant((DEFAULT,), change=_forgets_unknown),
    "waiting orders not counted": Mutant((DEFAULT,), change=_forgets_waiting),
    "locked-in profits pay for losses": Mutant(
        (NO_BEST_DAY,), patches=((checks_limits, "worst_cents", _profit_helps(accounts.worst_cents)),)
    ),
    "locked-in profits pay after the reset": Mutant(
        (ON_EQUITY,), patches=((checks_limits, "worst_cents", _only_locked(accounts.worst_cents)),)
    ),
    "peak taken as the equity now": Mutant((PEAKS,), patches=((checks_limits, "peak_cents", _peak_is_now),)),
    "the mark forgotten": Mutant((DAY_END,), change=_forgets_the_mark),
    "only the first reading of the reset": Mutant(
        (DEFAULT,), patches=((day, "readings", _first_reading(day.readings)),)
    ),
    "a loss today makes room in the best day": Mutant(
        (DEFAULT,), patches=((best_day, "highest_cents", _todays_loss_makes_room(best_day.highest_cents)),),
        breaks="best_day",
    ),
}  # fmt: skip


def kept() -> dict[str, list[float]]:
    """Return the counterexamples found before, by mutant."""
    found: dict[str, list[float]] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    return found


def main() -> None:
    """Search for each mutant and keep what was found."""
    names = sys.argv[1:] or list(MUTANTS)
    for name in names:
        mutant = MUTANTS[name]
        with mutant.standing():
            found = search(mutant.options(), seed=1, seconds=90, is_found=mutant.is_found, start=kept().get(name, ()))
        is_found = mutant.is_found(found.outcome)
        sys.stdout.write(f"{name}: {'FOUND' if is_found else 'not found'}: {found.said()}\n")
        if is_found:
            sys.stdout.write("".join(f"    {line}\n" for line in (*found.outcome.story, *found.outcome.broken)))
            KEPT.write_text(json.dumps({**kept(), name: [round(gene, 4) for gene in found.genes]}) + "\n")


if __name__ == "__main__":
    main()
