"""How long the guard takes for one decision: median and 99th percentile in microseconds.

.venv/bin/python -m tests.bench.guard
"""

from __future__ import annotations

import statistics
import sys
import time
from datetime import timedelta

from actors.compliance import guard, marks, news
from bus.clock import iso
from bus.records import AccountMark
from tests.kit.compliance import ACCOUNT_ID, NOW, D, a_plan, a_risk, an_account, the_days, the_facts, the_rules

DECISIONS = 3_000
SETS = ("e8-signature-50k", "e8-signature-50k-2026-10", "the5ers-high-stakes", "ftmo-2step")


def took_us(name: str, positions: int) -> tuple[float, float]:
    """Return median and 99th percentile of one decision that passes, all checks run and put down as JSON.

    Time of this thread on the processor: what else the machine does is not the guard's.
    """
    rules, plan = the_rules(name), a_plan(loss_cents=2_500, profit_cents=5_000)
    kind, cents = marks.kind_of(rules), rules.account.initial_balance_cents
    mark = AccountMark(
        account_id=ACCOUNT_ID, kind=kind or "equity", value_cents=cents, at=iso(NOW), known_until=iso(NOW)
    )
    account = an_account(
        balance_cents=cents, days=the_days(cents, rules=rules), marks=(mark,) if kind else (),
        positions=tuple(a_risk(100, 100, id=f"P-{number}", volume=D("0.01")) for number in range(positions)),
    )  # fmt: skip
    calendar = news.Calendar(since=NOW - timedelta(days=1), until=NOW + timedelta(days=1))
    facts = the_facts(rules_hash=rules.fingerprint, calendar=calendar)
    spent = []
    for _ in range(DECISIONS):
        begun = time.thread_time_ns()
        result = guard.check_all(plan, account, rules, facts)
        result.snapshot()
        spent.append((time.thread_time_ns() - begun) / 1_000)
    refused = {check.name for check in result.checks if not check.passed}
    if refused - {"positions"}:
        raise SystemExit(f"{name}: the case must pass, but {result.reason}")
    return statistics.median(spent), statistics.quantiles(spent, n=100)[98]


def main() -> None:
    for name in SETS:
        for positions in (1, 10):
            median, p99 = took_us(name, positions)
            sys.stdout.write(f"{name:26} {positions:2} open: median {median:4.0f} us, p99 {p99:4.0f} us\n")


if __name__ == "__main__":
    main()
