"""One fixed example of every message, both directions. Their bytes stand in tests/unit/golden/.

`python -m tests.kit.golden` writes the files that are missing; it never changes one: bytes on the wire are a promise.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bus import codec, messages
from bus.messages import Held, Peer
from bus.records import Order, TradeIntent
from bus.vocabulary import OrderStatus, Outcome, Role, State, Status
from tests.kit.builders import a_certificate, a_day, a_mark, a_plan, a_propose, a_result, a_sample

FOLDER = Path(__file__).parent.parent / "unit" / "golden"
ID = "01985c3e-7f5a-7000-8000-000000000001"
LEASE = {"intent_id": "0123456789abcdef", "epoch": 2}
INTENT = TradeIntent(
    id="0123456789abcdef", created_at="2026-11-02T06:00:00.000Z", trade_date="2026-11-02", symbol="EURUSD",
    scanner_score=0.42, scanner_confidence="high", signal_json="{}", suggested_side="BUY", suggested_sl_pips=50.0,
    suggested_tp_pips=100.0, status=Status.EXECUTING, claim_worker_id="executor.1", claim_incarnation="0000000000ee",
    claim_ts="2026-11-02T06:00:01.000Z", epoch=2, attempts=1, expires_at="2026-11-02T10:00:00.000Z",
    idempotency_key="EURUSD:D1:2026-10-30:scanner",
)  # fmt: skip
ORDER = Order(
    intent_id="0123456789abcdef", status=OrderStatus.UNKNOWN, plan=a_plan(), baseline=("p0", "p1"),
    reserved_at="2026-11-02T06:00:02.000Z", deadline_at="2026-11-02T06:01:12.000Z",
    idempotency_key="6f1c2d3e-0000-4000-8000-000000000001", figures_mark="2026-11-02T06:00:01.500Z 12345.678 boot",
)  # fmt: skip

BODIES: tuple[tuple[Role, messages.Beat | messages.Command], ...] = (
    (
        Role.LLM,
        messages.Beat(
            pid=4242,
            state=State.READY,
            capacity=2,
            holding=(Held("0123456789abcdef", 2),),
            progress=7,
            seen_store_epoch=3,
        ),
    ),
    (Role.SCANNER, a_propose()),
    (Role.SCANNER, messages.Invalidate(intent_id="0123456789abcdef", reason="bar corrected")),
    (
        Role.LLM,
        messages.Decide(
            **LEASE, side="BUY", sl_pips=50.0, tp_pips=100.0, risk_report="calm", state_json="{}", reason="up"
        ),
    ),
    (Role.LLM, messages.AnalysisFailed(**LEASE, error="timeout")),
    (Role.LLM, messages.Release(**LEASE, retry_after_s=1.5)),
    (Role.EXECUTOR, messages.Reject(**LEASE, reason="daily loss", compliance_snapshot="{}")),
    (
        Role.EXECUTOR,
        messages.ReserveOrder(
            **LEASE,
            plan=a_plan(),
            baseline=("p0",),
            deadline_at="2026-11-02T06:01:12.000Z",
            compliance_snapshot="{}",
            certificate=a_certificate(),
            idempotency_key="6f1c2d3e-0000-4000-8000-000000000001",
            figures_mark="2026-11-02T06:00:01.500Z 12345.678 boot",
        ),
    ),
    (
        Role.EXECUTOR,
        messages.OrderOpened(**LEASE, order_id="o1", position_id="p1", execution_meta="{}", closed=a_result()),
    ),
    (Role.EXECUTOR, messages.OrderFailed(**LEASE, reason="refused")),
    (Role.EXECUTOR, messages.OrderUnknown(**LEASE, reason="timeout", ambiguous=True)),
    (
        Role.MONITOR,
        messages.PositionClosed(intent_id="0123456789abcdef", position_id="p1", result=a_result()),
    ),
    (
        Role.MONITOR,
        messages.Adopt(position_id="p7", plan=a_plan(), opened_at="2026-11-02T05:00:00.000Z", reason="nobody owns it"),
    ),
    (Role.MONITOR, messages.StartDay(day=a_day())),
    (Role.MONITOR, messages.RaiseMarks(marks=(a_mark(),))),
    (Role.EXECUTOR, messages.GrantRequests(day="2026-11-02", reads=20, writes=4)),
    (Role.EXECUTOR, messages.ReturnRequests(day="2026-11-02", reads=11, writes=3)),
    (Role.LLM, messages.ReserveTokens(day="2026-11-02", endpoint="llm", tokens=6_000, cost_micros=4_200)),
    (
        Role.LLM,
        messages.SettleTokens(
            day="2026-11-02", endpoint="llm", reserved_tokens=6_000, reserved_micros=4_200, tokens=900, cost_micros=610
        ),
    ),
    (Role.DASHBOARD, messages.Close(intent_id="0123456789abcdef", operator="me", reason="news")),
    (
        Role.PILOT,
        messages.Submit(
            key="01985c3e-7f5a-7000-8000-000000000002",
            operator="me",
            reason="my view",
            symbol="EURUSD",
            side="BUY",
            sl_pips=40.0,
            tp_pips=80.0,
            ttl_minutes=30,
        ),
    ),
    (Role.PILOT, messages.Pause(operator="me", reason="holiday", until="2026-11-03T07:00:00.000Z")),
    (Role.PILOT, messages.Resume(operator="me", reason="back", halt_id=4)),
    (Role.PILOT, messages.Flatten(operator="me", reason="news")),
    (Role.PILOT, messages.DeclareDay(operator="me", reason="seen on the dashboard", day=a_day(), marks=(a_mark(),))),
    (
        Role.PILOT,
        messages.Attest(
            operator="me", account_id="PAPER-1", rules="e8-signature-50k", rules_hash="0" * 64, text="compared"
        ),
    ),
    (Role.MONITOR, messages.SampleEquity(sample=a_sample())),
    (Role.MONITOR, messages.CountRequests(day="2026-11-02", reads=12, writes=1)),
    (Role.MONITOR, messages.RaiseHalt(level="soft", reason="cool down", until="2026-11-02T07:00:00.000Z")),
    (Role.MONITOR, messages.Report(level="warning", event="drawdown", text="50 %", intent_id="0123456789abcdef")),
    (
        Role.ALERTS,
        messages.AlertsDelivered(through_seq=42, channel="telegram", levels=("warning", "error")),
    ),
    (Role.MONITOR, messages.Sweep()),
    (Role.SUPERVISOR, messages.ChildExited(peer=Peer(Role.LLM, 2, "0000000000aa"), status="signal 9")),
    (Role.PILOT, messages.Cancel(intent_id="0123456789abcdef", operator="me", reason="no")),
    (
        Role.PILOT,
        messages.Resolve(intent_id="0123456789abcdef", operator="me", position_id="p1", reason="seen at the broker"),
    ),
)
TO_STORE: dict[str, messages.Envelope] = {
    type(body).__name__: messages.Envelope(
        sender=Peer(role, 1, "0000000000ee"), body=body, id="" if isinstance(body, messages.Beat) else ID
    )
    for role, body in BODIES
}
FROM_STORE: dict[str, messages.FromStore] = {
    "Ack": messages.Ack(id=ID, outcome=Outcome.REFUSED, reason="no", allowed=("cancel",), intent_id="0123456789abcdef"),
    "Welcome": messages.Welcome(store_epoch=3),
    "Analyse": messages.Analyse(intent=INTENT, epoch=2, lease_s=1_800.0),
    "Execute": messages.Execute(intent=INTENT, epoch=2, order=ORDER),
    "Withdraw": messages.Withdraw(intent_id="0123456789abcdef", epoch=2, reason="cancelled"),
}


def golden(name: str) -> bytes:
    """Return the bytes kept for a message. Raises FileNotFoundError when there are none yet."""
    return bytes.fromhex((FOLDER / f"{name}.txt").read_text())


def write_missing() -> list[str]:
    """Write the files of messages that have none; return their names."""
    written = []
    for name, message in (TO_STORE | FROM_STORE).items():
        path = FOLDER / f"{name}.txt"
        if not path.exists():
            digits = codec.encode(message).hex()
            path.write_text("\n".join(digits[at : at + 100] for at in range(0, len(digits), 100)) + "\n")
            written.append(name)
    return written


if __name__ == "__main__":
    sys.stdout.write(f"written: {', '.join(write_missing()) or 'nothing'}\n")
