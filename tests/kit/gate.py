"""The store's gate for tests, and certificates that it accepts: for whatever the store holds, and with any lie wanted.

gate = a_gate()
keep_days(db, gate, now)
certificate = a_certificate_for(reader, gate, plan, now)
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import apsw

from bus import messages
from bus.clock import iso
from bus.records import Certificate, Loss, LossLine, OrderPlan
from store import rules
from store.certificate import Gate, worst_cents
from store.owner import Owner
from store.queries import Reader

ACCOUNT_ID = "PAPER-1"
DEFAULT_RULES = "e8-signature-50k"


def a_gate(name: str | Path = DEFAULT_RULES, *, account_id: str = ACCOUNT_ID, is_live: bool = False) -> Gate:
    """Return the gate over a rule set, as the store builds it."""
    found = rules.read(str(name))
    return Gate(found, owner=Owner("", account_id), needs_attestation=is_live, source=str(name))


class OpenGate(Gate):
    """Lets every order pass, with or without a certificate: for tests in which nobody makes one."""

    def check(self, asked: messages.ReserveOrder, read: Reader, now: datetime) -> None:
        """Return, whatever was asked."""


def an_open_gate(name: str | Path = DEFAULT_RULES, *, account_id: str = ACCOUNT_ID) -> Gate:
    return OpenGate(rules.read(str(name)), owner=Owner("", account_id), needs_attestation=False)


def keep_days(db: apsw.Connection, gate: Gate, now: datetime, balance_cents: int = 0) -> None:
    """Write the days that hold `now`, one per reading, unless they are there. 0: the initial balance."""
    initial_cents = gate.rules.account.initial_balance_cents
    start_cents = balance_cents or initial_cents
    for reading in gate.rules.readings:
        day = reading.day_of(now)
        starts_at, ends_at = reading.span_of(day)
        if Reader.over(db).account_day(day, gate.account_id, reading.label) is None:
            db.execute(
                "INSERT INTO account_days VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '')",
                (
                    gate.account_id, day, reading.label, iso(starts_at), iso(ends_at), start_cents, start_cents,
                    initial_cents, iso(now),
                ),
            )  # fmt: skip


def keep_mark(db: apsw.Connection, gate: Gate, value_cents: int, now: datetime) -> None:
    """Write the mark that the maximum loss trails, if it trails one."""
    if (kind := gate.rules.maximum.mark) is not None:
        at = iso(now - timedelta(days=1))
        db.execute("INSERT INTO account_marks VALUES (?, ?, ?, ?, ?)", (gate.account_id, kind, value_cents, at, at))


def a_certificate_for(reader: Reader, gate: Gate, plan: OrderPlan, now: datetime, **changes: Any) -> Certificate:
    """Return a true certificate for what the store holds: its open positions are at the broker, each with its plan's
    loss, and nothing else. `changes` are facts (balance_cents, equity_cents, positions, closed, unresolved, pending);
    the lines are worked out from them.
    """
    initial_cents = gate.rules.account.initial_balance_cents
    opened = {str(one.position_id): reader.order(one.id) for one in reader.active_positions()}
    usual: dict[str, Any] = {
        "rules": gate.rules.name, "rules_hash": gate.rules.fingerprint, "account_id": gate.account_id,
        "account_version": reader.account_version(), "read_at": iso(now), "balance_cents": initial_cents,
        "equity_cents": initial_cents, "pending": (), "unresolved": (), "closed": (),
        "positions": tuple(Loss(id=id_, loss_cents=order.plan.loss_cents) for id_, order in opened.items() if order),
        "order_loss_cents": plan.loss_cents, "lines": (),
    }  # fmt: skip
    return with_lines(Certificate(**(usual | changes)), reader, gate, now)


def with_lines(found: Certificate, reader: Reader, gate: Gate, now: datetime) -> Certificate:
    """Return the certificate with the lines that its other figures make. Without what is needed: with none."""
    lines = gate.lines(reader, now, found.balance_cents, found.equity_cents)
    if isinstance(lines, str):
        return found
    said = []
    for line in lines:
        measured, worst = worst_cents(found, line)
        said.append(
            LossLine(
                name=line.name,
                reference_cents=line.reference_cents,
                amount_cents=line.amount_cents,
                stop_cents=line.stop_cents,
                measured_cents=measured,
                worst_cents=worst,
                measured_on=line.measured_on,
            )
        )
    return Certificate(**({name: getattr(found, name) for name in found.__struct_fields__} | {"lines": tuple(said)}))
