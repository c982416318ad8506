"""`pilot resolve`: the operator's word for an order that the executor cannot tell, against a real store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from bus import messages
from bus.clock import iso
from config import load
from store.queries import Reader
from tests.kit.analysis import a_signal
from tests.kit.compliance import a_plan
from tests.kit.desk import EXECUTOR, Shifted
from tests.kit.execution import TradingStore
from tests.kit.gate import a_certificate_for, a_gate, keep_days
from tests.kit.real_store import RealStore, pilot, real_store

REASON = ("--reason", "seen in the terminal")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[RealStore]:
    with real_store(monkeypatch) as found:
        yield found


def unclear(store: RealStore, *, deadline_in_s: float, ambiguous: bool = True) -> str:
    """Bring an intent to an order that nobody can tell, in the store's file; return the intent's id."""
    store.stop("store")
    clock = Shifted()
    inside = TradingStore(load.data_folder() / "decisions.db", clock)
    try:
        work, gate, now = inside.take(), a_gate(), clock.now()
        keep_days(inside.db, gate, now)
        lease: dict[str, Any] = {"intent_id": work.intent.id, "epoch": work.epoch}
        inside.apply(EXECUTOR, messages.ReserveOrder(
            **lease, plan=a_plan(), baseline=(), compliance_snapshot="{}",
            deadline_at=iso(now + timedelta(seconds=deadline_in_s)),
            certificate=a_certificate_for(Reader.over(inside.db), gate, a_plan(), now),
        ))  # fmt: skip
        inside.apply(EXECUTOR, messages.OrderUnknown(
            **lease, reason="two positions\x1b[2J fit", ambiguous=ambiguous
        ))  # fmt: skip
    finally:
        inside.close()
    store.start("store")
    return work.intent.id


def standing(intent_id: str) -> tuple[str, str, int]:
    """Return status, newest reason and how many halts stand."""
    reader = Reader(load.data_folder() / "decisions.db")
    try:
        intent = reader.intent(intent_id)
        assert intent is not None
        return str(intent.status), reader.transitions(intent_id)[-1].reason, len(reader.halts())
    finally:
        reader.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ("resolve", "abc", *REASON),
        ("resolve", "abc", "--position", "p1", "--absent", *REASON),
        ("resolve", "abc", "--absent"),
        ("resolve", "abc", "--absent", "--reason", " "),
        ("resolve", "abc", "--position", " ", *REASON),
        ("resolve", "abc", "--position", "", *REASON),
        ("resolve", "abc", "--position", "p" * 65, *REASON),
        ("resolve", "--absent", *REASON),
    ],
)
def test_wrong_command_line_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    ended = pilot(*arguments)
    assert (ended.returncode, ended.stdout) == (64, "")
    assert ended.stderr


def test_it_refuses_asks_and_then_does_it_once(store: RealStore) -> None:
    intent_id = unclear(store, deadline_in_s=3_600)

    unknown = pilot("resolve", "zzzz", "--absent", *REASON, "--yes")
    assert unknown.returncode == 1 and "there is no intent 'zzzz'" in unknown.stderr
    early = pilot("resolve", intent_id, "--absent", *REASON, "--yes")
    assert early.returncode == 1 and "the order may still be on its way; ask again after" in early.stderr
    for answer in ("n\n", ""):
        declined = pilot("resolve", intent_id, "--position", "p7", *REASON, given=answer)
        assert declined.returncode == 1 and "nothing was changed" in declined.stderr
        assert "BUY 1.00 EURUSD SL 1.0975 TP 1.1050" in declined.stderr
        assert "(unknown: two positions" in declined.stderr and "is position p7? [y/N]" in declined.stderr
        assert "\x1b" not in declined.stderr
    assert standing(intent_id) == ("executing", "two positions\x1b[2J fit", 1)

    agreed = pilot("resolve", intent_id[:10], "--position", " p7 ", *REASON, given="y\n")
    assert (agreed.returncode, agreed.stdout) == (0, f"applied: {intent_id} EURUSD\n"), agreed.stderr
    status, reason, halts = standing(intent_id)
    assert (status, halts) == ("opened", 0)
    assert reason.startswith("position p7, operator ") and reason.endswith(": seen in the terminal")

    again = pilot("resolve", intent_id, "--position", "p7", *REASON, "--yes")
    assert again.returncode == 0 and again.stdout.startswith("already:")
    other = pilot("resolve", intent_id, "--absent", *REASON, "--yes")
    assert other.returncode == 1 and "has an order that is opened; allowed now: close" in other.stderr


@pytest.mark.parametrize("ambiguous", [True, False])
def test_absent_order_is_failed_after_its_deadline_with_the_operators_name(store: RealStore, ambiguous: bool) -> None:
    intent_id = unclear(store, deadline_in_s=-1, ambiguous=ambiguous)
    ended = pilot("resolve", intent_id, "--absent", *REASON, "--yes")
    assert (ended.returncode, ended.stdout) == (0, f"applied: {intent_id} EURUSD\n"), ended.stderr
    status, reason, halts = standing(intent_id)
    assert (status, halts) == ("failed", 0)
    assert reason.startswith("operator ") and reason.endswith(": seen in the terminal")


def test_intent_without_an_order_is_refused_and_cancelling_is_named(store: RealStore) -> None:
    intent_id = store.propose(a_signal())
    ended = pilot("resolve", intent_id, "--absent", *REASON, "--yes")
    assert ended.returncode == 1
    assert "is pending and has no order; allowed now: " in ended.stderr and "cancel" in ended.stderr
