"""What trading earned between two moments, from the rows of decisions. Part of the store process and of whoever reads.

Only reads. Exact: integer cents, each position once, by the moment at which the broker closed it.
"""

from __future__ import annotations

import apsw

from bus.records import Record


class Result(Record, frozen=True, kw_only=True):
    """The positions that were closed in one span of time. Cents; losses are negative."""

    trades: int
    wins: int
    net_profit_cents: int
    largest_loss_cents: int  # of one position; 0: none lost


def between(db: apsw.Connection, starts_at: str, ends_at: str) -> Result:
    """Return what closed from `starts_at` on and before `ends_at` (ISO, as the store writes times)."""
    row = db.execute(
        "SELECT count(*), coalesce(sum(net_profit_cents > 0), 0), coalesce(sum(net_profit_cents), 0), "
        "min(0, coalesce(min(net_profit_cents), 0)) FROM decisions "
        "WHERE net_profit_cents IS NOT NULL AND closed_at >= ? AND closed_at < ?",
        (starts_at, ends_at),
    ).fetchone()
    assert row is not None
    trades, wins, net, largest = (int(str(value)) for value in row)
    return Result(trades=trades, wins=wins, net_profit_cents=net, largest_loss_cents=largest)


def opened_between(db: apsw.Connection, starts_at: str, ends_at: str) -> int:
    """Return how many positions were opened in that span, as the store learnt of them."""
    found = db.execute(
        "SELECT count(*) FROM decisions WHERE executed_at >= ? AND executed_at < ?", (starts_at, ends_at)
    ).get
    return int(str(found))
