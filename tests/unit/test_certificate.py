"""The certificate of a reservation: what the store works out again for itself, and what it does about a lie."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.compliance import drawdown, rulebook
from bus import messages
from bus.messages import Ack, Peer
from bus.records import AccountDay, Certificate, Loss, LossLine, TradeIntent
from bus.vocabulary import Outcome, Role
from config import load
from store.owner import Owner
from tests.kit.builders import a_day, a_mark, a_peer, a_plan, a_reservation
from tests.kit.clock import ManualClock
from tests.kit.gate import a_gate, keep_days, keep_mark, with_lines
from tests.kit.store import StoreHarness, an_opening

MONITOR = a_peer(Role.MONITOR)
PILOT = a_peer(Role.PILOT)
SETS = sorted(path.stem for path in load.RULES.glob("*.toml"))
replace = msgspec.structs.replace


@pytest.fixture
def executor() -> Peer:
    return a_peer(Role.EXECUTOR)


@pytest.fixture
def store() -> StoreHarness:
    """Return a store that knows the days of both readings, with one position of ours open."""
    found = StoreHarness()
    keep_days(found.db, found.gate, found.clock.now())
    return found


def ask(store: StoreHarness, executor: Peer, intent: TradeIntent, certificate: Certificate | None) -> Ack:
    return store.tell(executor, a_reservation(intent, certificate=certificate))


def halts(store: StoreHarness) -> list[str]:
    return [halt.reason for halt in store.read.halts()]


def refused(store: StoreHarness, ack: Ack, words: str) -> None:
    """Check that the order was refused with these words, and that nothing stands of it."""
    assert ack.outcome is Outcome.REFUSED
    assert words in ack.reason, ack.reason
    assert store.read.unresolved_orders() == []


# ── refused, to be tried again ──────────────────────────────────────────────


def test_an_order_without_a_certificate_is_refused(store: StoreHarness, executor: Peer) -> None:
    refused(store, ask(store, executor, store.executing(executor), None), "no certificate")
    assert halts(store) == []


def test_figures_for_a_database_of_another_account_are_refused_and_halt(executor: Peer) -> None:
    store = StoreHarness(gate=a_gate())
    keep_days(store.db, store.gate, store.clock.now())
    store.db.execute("INSERT INTO meta VALUES ('owner', 'firm ACC-2')")
    ack = ask(store, executor, store.executing(executor), store.certificate())
    refused(store, ack, "this database belongs to account ACC-2; broker.account_id is PAPER-1")
    assert halts(store) == [f"certificate: {ack.reason}"]


def test_first_order_names_the_account_and_the_first_name_stands(store: StoreHarness, executor: Peer) -> None:
    assert ask(store, executor, store.executing(executor), store.certificate()).outcome is Outcome.APPLIED
    written = store.db.execute("SELECT value FROM meta WHERE key = 'owner'").get
    assert written == " PAPER-1"
    store.gate.owner = Owner("paper", "PAPER-1")
    assert store.tell(MONITOR, messages.RaiseMarks(marks=(a_mark(),))).outcome is Outcome.APPLIED
    assert store.db.execute("SELECT value FROM meta WHERE key = 'owner'").get == written


def _halted(store: StoreHarness) -> None:
    store.tell(MONITOR, messages.RaiseHalt(level="hard", reason="max_drawdown: x"))
    store.tell(PILOT, messages.Resume(operator="ann", reason="looked"))


def _day(store: StoreHarness) -> None:
    yesterday = a_day(day="2026-10-30", starts_at="2026-10-29T22:00:00.000Z", ends_at="2026-10-30T22:00:00.000Z")
    assert store.tell(MONITOR, messages.StartDay(day=yesterday)).outcome is Outcome.APPLIED


def _mark(store: StoreHarness) -> None:
    assert store.tell(MONITOR, messages.RaiseMarks(marks=(a_mark(),))).outcome is Outcome.APPLIED


def _risen_mark(store: StoreHarness) -> None:
    store.db.execute("UPDATE account_marks SET value_cents = value_cents + 1")


OVERTAKING: dict[str, Callable[[StoreHarness], None]] = {
    "a halt that was lifted again": _halted, "the start of a day": _day, "a mark": _mark,
}  # fmt: skip


@pytest.mark.parametrize("name", OVERTAKING)
def test_what_was_written_after_the_figures_were_read_refuses_without_a_halt(
    store: StoreHarness, executor: Peer, name: str
) -> None:
    intent = store.executing(executor)
    certificate = store.certificate()
    OVERTAKING[name](store)
    refused(store, ask(store, executor, intent, certificate), "read the account again")
    assert halts(store) == []
    assert ask(store, executor, intent, store.certificate()).outcome is Outcome.APPLIED


def test_a_mark_that_rose_refuses_and_one_that_was_only_followed_does_not(executor: Peer) -> None:
    store = StoreHarness(gate=a_gate("e8-one-5k"))
    now = store.clock.now()
    keep_days(store.db, store.gate, now)
    keep_mark(store.db, store.gate, 510_000, now)
    intent, plan = store.executing(executor), a_plan(loss_cents=500)
    figures = {"balance_cents": 505_000, "equity_cents": 505_000}
    before = store.certificate(plan, **figures)
    store.db.execute("UPDATE account_marks SET value_cents = value_cents + 1")
    refused(store, store.tell(executor, a_reservation(intent, plan=plan, certificate=before)), "read the account again")
    store.db.execute("UPDATE account_marks SET known_until = '2026-11-02T06:00:00.000Z'")
    again = store.certificate(plan, **figures)
    store.db.execute("UPDATE account_marks SET known_until = '2026-11-02T06:00:01.000Z'")
    assert store.tell(executor, a_reservation(intent, plan=plan, certificate=again)).outcome is Outcome.APPLIED


def test_another_reservation_a_fill_and_a_close_each_make_the_figures_old(store: StoreHarness, executor: Peer) -> None:
    seen = [store.read.account_version()]
    intent = store.reserved(executor)
    seen.append(store.read.account_version())
    store.tell(executor, an_opening(intent))
    seen.append(store.read.account_version())
    result = messages.PositionResult(
        closed_at="2026-11-02T09:00:00.000Z", net_profit_cents=1, close_price="1", reason="tp"
    )
    store.tell(MONITOR, messages.PositionClosed(intent_id=intent.id, position_id="p1", result=result))
    seen.append(store.read.account_version())
    assert seen == sorted(set(seen)), seen
    other = store.executing(executor, symbol="GBPUSD")
    stale = replace(store.certificate(), account_version=seen[-2])
    refused(store, ask(store, executor, other, stale), "read the account again")
    assert halts(store) == []


@pytest.mark.parametrize(("age_s", "outcome"), [(0, "applied"), (20, "applied"), (20.1, "refused"), (-0.1, "refused")])
def test_figures_are_believed_for_twenty_seconds(
    store: StoreHarness, executor: Peer, age_s: float, outcome: str
) -> None:
    intent, certificate = store.executing(executor), store.certificate()
    store.clock.jump(age_s)
    ack = ask(store, executor, intent, certificate)
    assert ack.outcome == outcome, ack
    assert halts(store) == []


def test_a_time_that_is_none_is_refused(store: StoreHarness, executor: Peer) -> None:
    certificate = replace(store.certificate(), read_at="2026-11-02 06:00")
    refused(store, ask(store, executor, store.executing(executor), certificate), "read_at of the certificate")


def test_figures_of_yesterday_do_not_serve_the_new_day(executor: Peer) -> None:
    store = StoreHarness(clock=ManualClock())
    store.clock.jump(15 * 3_600 + 59 * 60 + 55)  # five seconds before the reset, which is at 22:00 UTC
    keep_days(store.db, store.gate, store.clock.now())
    intent, certificate = store.executing(executor, ttl_minutes=30), store.certificate()
    store.clock.jump(10)
    keep_days(store.db, store.gate, store.clock.now())
    certificate = replace(certificate, account_version=store.read.account_version())
    refused(store, ask(store, executor, intent, certificate), "the firm's day turned")
    assert halts(store) == []


# ── live trading ────────────────────────────────────────────────────────────


def test_live_trading_waits_for_an_attestation_of_exactly_these_rules(executor: Peer) -> None:
    store = StoreHarness(gate=a_gate(is_live=True))
    keep_days(store.db, store.gate, store.clock.now())
    intent, rules = store.executing(executor), store.gate.rules
    refused(store, ask(store, executor, intent, store.certificate()), "pilot attest")
    word = {"operator": "ann", "account_id": "PAPER-1", "rules": rules.name, "text": "compared; the firm consents"}
    for wrong in ({"rules_hash": "0" * 64}, {"rules_hash": rules.fingerprint, "account_id": "PAPER-2"}):
        assert store.tell(PILOT, messages.Attest(**(word | wrong))).outcome is Outcome.REFUSED
    refused(store, ask(store, executor, intent, store.certificate()), "pilot attest")
    attested = store.tell(PILOT, messages.Attest(**word, rules_hash=rules.fingerprint))
    assert attested.outcome is Outcome.APPLIED
    assert ask(store, executor, intent, store.certificate()).outcome is Outcome.APPLIED


# ── lies ────────────────────────────────────────────────────────────────────


def _line(at: int, **changes: Any) -> Callable[[Certificate], Certificate]:
    def lie(found: Certificate) -> Certificate:
        lines = list(found.lines)
        lines[at] = replace(lines[at], **changes)
        return replace(found, lines=tuple(lines))

    return lie


def _shift(at: int, field: str, by: int) -> Callable[[Certificate], Certificate]:
    return lambda found: _line(at, **{field: getattr(found.lines[at], field) + by})(found)


def _with(**changes: Any) -> Callable[[Certificate], Certificate]:
    return lambda found: replace(found, **changes)


def _without(at: int) -> Callable[[Certificate], Certificate]:
    return lambda found: replace(found, lines=found.lines[:at] + found.lines[at + 1 :])


LIES: dict[str, Callable[[Certificate], Certificate]] = {
    "another rule set": _with(rules="ftmo-2step"),
    "another file": _with(rules_hash="0" * 64),
    "another account": _with(account_id="PAPER-2"),
    "a higher balance": _with(balance_cents=5_000_001),
    "a lower balance": _with(balance_cents=4_999_999),
    "a lower equity": _with(equity_cents=4_999_999),
    "no position": _with(positions=()),
    "another position": _with(positions=(Loss(id="p2", loss_cents=5_000),)),
    "one position twice": lambda found: replace(found, positions=found.positions * 2),
    "a position that loses less": _with(positions=(Loss(id="p1", loss_cents=4_999),)),
    "a pending order left out of the sum": _with(pending=(Loss(id="o9", loss_cents=1),)),
    "an unresolved order that nobody reserved": _with(unresolved=(Loss(id="0" * 16, loss_cents=0),)),
    "our position closed and open at once": _with(closed=("p1",)),
    "a closed position that is not ours": _with(closed=("p9",)),
    "an order that loses less": _with(order_loss_cents=4_999),
    "an order that loses nothing": _with(order_loss_cents=0),
    "no lines": _with(lines=()),
    "a line too many": lambda found: replace(found, lines=(*found.lines, found.lines[-1])),
    "lines in another order": lambda found: replace(found, lines=found.lines[::-1]),
} | {
    f"{field} of line {at}": _shift(at, field, by)
    for at in range(4)
    for field, by in (("reference_cents", 1), ("amount_cents", 1), ("stop_cents", -1), ("measured_cents", 1),
                      ("worst_cents", 1))
} | {
    f"line {at} left out": _without(at)
    for at in range(4)
} | {
    f"line {at} under another name": _line(at, name="daily 00:00 Europe/London") for at in range(4)
} | {
    f"line {at} measured on equity": _line(at, measured_on="equity") for at in range(4)
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_figure_that_does_not_add_up_refuses_and_halts(store: StoreHarness, executor: Peer, name: str) -> None:
    store.opened(executor, "p1")
    intent = store.executing(executor, symbol="GBPUSD")
    truth = store.certificate()
    assert len(truth.lines) == 4, [line.name for line in truth.lines]
    refused(store, ask(store, executor, intent, LIES[name](truth)), "the certificate does not hold")
    assert [halt.kind for halt in store.read.halts()] == ["hard"]
    assert halts(store)[0].startswith("certificate: ")
    store.tell(PILOT, messages.Resume(operator="ann", reason="found the fault"))
    assert ask(store, executor, intent, store.certificate()).outcome is Outcome.APPLIED, "the truth passes"


@pytest.mark.parametrize(("by", "said"), [(1, "50,000.01"), (Decimal("0.5"), "5000000.5 cents")])
def test_a_wrong_figure_is_told_as_money_and_a_part_of_a_cent_as_it_is(
    store: StoreHarness, executor: Peer, by: Decimal, said: str
) -> None:
    intent = store.executing(executor)
    truth = store.certificate()
    line = truth.lines[-1]
    lie = replace(line, amount_cents=5_000_000 + by)
    refused(
        store,
        ask(store, executor, intent, replace(truth, lines=(*truth.lines[:-1], lie))),
        f"amount was {said}; it is ",
    )


def test_an_open_intent_whose_position_is_nowhere_counts_with_its_order(store: StoreHarness, executor: Peer) -> None:
    first = store.opened(executor, "p1")
    intent = store.executing(executor, symbol="GBPUSD")
    less = store.certificate(positions=(), unresolved=(Loss(id=first.id, loss_cents=4_999),))
    refused(store, ask(store, executor, intent, less), "can lose 50.00; the figures say 49.99")
    store.tell(PILOT, messages.Resume(operator="ann", reason="looked"))
    certificate = store.certificate(positions=(), unresolved=(Loss(id=first.id, loss_cents=5_000),))
    assert certificate.lines[0].worst_cents == 4_990_000
    assert ask(store, executor, intent, certificate).outcome is Outcome.APPLIED


def test_an_open_intent_whose_position_history_shows_closed_counts_nothing(store: StoreHarness, executor: Peer) -> None:
    store.opened(executor, "p1")
    intent = store.executing(executor, symbol="GBPUSD")
    certificate = store.certificate(positions=(), closed=("p1",))
    assert certificate.lines[0].worst_cents == 4_995_000
    assert ask(store, executor, intent, certificate).outcome is Outcome.APPLIED


def test_an_order_that_could_lose_nothing_is_none(store: StoreHarness, executor: Peer) -> None:
    intent, plan = store.executing(executor), a_plan(loss_cents=0)
    ack = store.tell(executor, a_reservation(intent, plan=plan, certificate=store.certificate(plan)))
    refused(store, ack, "the order's loss is 0")


def test_a_position_that_nobody_owns_counts_and_is_no_lie(store: StoreHarness, executor: Peer) -> None:
    intent = store.executing(executor)
    certificate = store.certificate(positions=(Loss(id="foreign", loss_cents=7_000),))
    assert certificate.lines[0].worst_cents == 4_988_000
    assert ask(store, executor, intent, certificate).outcome is Outcome.APPLIED


def test_a_day_that_the_store_does_not_know_refuses_and_halts(executor: Peer) -> None:
    known = StoreHarness()
    keep_days(known.db, known.gate, known.clock.now())
    store = StoreHarness()
    intent = store.executing(executor)
    certificate = replace(known.certificate(), account_version=store.read.account_version())
    refused(store, ask(store, executor, intent, certificate), "the store does not know what the day of")
    assert halts(store)[0].startswith("certificate: ")


@pytest.mark.parametrize(("above_cents", "outcome"), [(1, "applied"), (0, "refused")])
def test_the_worst_case_must_stay_strictly_above_the_stop_level(
    store: StoreHarness, executor: Peer, above_cents: int, outcome: str
) -> None:
    intent = store.executing(executor)
    balance_cents = 4_787_500 + 5_000 + above_cents  # the day's stop level is 85% of 5% below 50,000
    figures = {"balance_cents": balance_cents, "equity_cents": balance_cents}
    ack = ask(store, executor, intent, store.certificate(**figures))
    assert ack.outcome == outcome, ack
    assert (halts(store) != []) == (outcome == "refused")


def test_a_rule_set_edited_while_running_refuses_and_halts(tmp_path: Path, executor: Peer) -> None:
    path = tmp_path / "e8-signature-50k.toml"
    text = (load.RULES / path.name).read_text()
    path.write_text(text)
    store = StoreHarness(gate=a_gate(path))
    keep_days(store.db, store.gate, store.clock.now())
    intent = store.executing(executor)
    path.write_text(text.replace('stop_ratio = "0.85"', 'stop_ratio = "0.99"'))
    refused(store, ask(store, executor, intent, store.certificate()), "was edited while running")
    path.unlink()
    refused(store, ask(store, executor, intent, store.certificate()), "halted: rules: ")
    assert [reason.partition(":")[0] for reason in halts(store)] == ["rules"]
    path.write_text(text)
    store.tell(PILOT, messages.Resume(operator="ann", reason="put back"))
    assert ask(store, executor, intent, store.certificate()).outcome is Outcome.APPLIED


# ── the same arithmetic as the guard's, written twice ───────────────────────

cents = st.integers(-300_000, 300_000)
losses = st.lists(cents, max_size=3).map(
    lambda found: tuple(Loss(id=f"x{n}", loss_cents=c) for n, c in enumerate(found))
)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(SETS), starts=st.tuples(cents, cents, cents, cents), above=st.integers(0, 100_000), mark=cents,
    balance=cents, floating=cents, positions=losses, pending=losses, order=st.integers(1, 200_000),
)  # fmt: skip
def test_lines_and_worst_case_are_those_of_the_guards_own_arithmetic(
    name: str, starts: tuple[int, ...], above: int, mark: int, balance: int, floating: int,
    positions: tuple[Loss, ...], pending: tuple[Loss, ...], order: int,
) -> None:  # fmt: skip
    rules, store = rulebook.load(name), StoreHarness(gate=a_gate(name))
    now, initial = store.clock.now(), rules.account.initial_balance_cents
    days: list[AccountDay] = []
    for reading, start in zip(store.gate.rules.readings, starts, strict=False):
        start_cents, day = initial + start * initial // 5_000_000, reading.day_of(now)
        begin, end = reading.span_of(day)
        days.append(a_day(
            day=day, reset=reading.label, starts_at=begin.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            ends_at=end.isoformat(timespec="milliseconds").replace("+00:00", "Z"), start_balance_cents=start_cents,
            reference_cents=start_cents + above, initial_balance_cents=initial,
        ))  # fmt: skip
        assert store.tell(MONITOR, messages.StartDay(day=days[-1])).outcome is Outcome.APPLIED
    keep_mark(store.db, store.gate, initial + mark * initial // 5_000_000, now)
    marks = tuple(store.read.account_marks("PAPER-1"))
    balance_cents = initial + balance * initial // 5_000_000
    figures = {"balance_cents": balance_cents, "equity_cents": balance_cents + floating}
    certificate = store.certificate(a_plan(loss_cents=order), positions=positions, pending=pending, **figures)
    wanted = drawdown.lines(rules, days=tuple(days), marks=marks, **figures)
    assert not isinstance(wanted, str), wanted
    got = [
        (one.name, one.reference_cents, one.amount_cents, one.stop_cents, one.measured_on) for one in certificate.lines
    ]
    assert got == [(one.name, one.reference_cents, one.amount_cents, one.stop_cents, one.measured_on) for one in wanted]
    for line in certificate.lines:
        assert (line.measured_cents, line.worst_cents) == _by_hand(certificate, line, rules.maximum.mode), line.name


def _by_hand(found: Certificate, line: LossLine, mode: str) -> tuple[int, int]:
    """Return measured and worst as the page on compliance writes them down."""
    is_equity = line.measured_on == "equity"
    measured = found.equity_cents if is_equity else min(found.balance_cents, found.equity_cents)
    stands = line.name.startswith("daily ") or (line.name == "maximum" and mode == "static")
    helps = is_equity and stands
    at_stops = [one.loss_cents if helps else max(0, one.loss_cents) for one in found.positions]
    coming = found.order_loss_cents + sum(max(0, one.loss_cents) for one in (*found.unresolved, *found.pending))
    return measured, min(found.balance_cents - sum(at_stops), measured) - coming


def test_amounts_hold_parts_of_a_cent_and_the_stop_level_is_rounded_up(executor: Peer) -> None:
    store = StoreHarness()
    keep_days(store.db, store.gate, store.clock.now(), balance_cents=5_000_001)
    daily = store.certificate(balance_cents=5_000_001, equity_cents=5_000_001).lines[0]
    assert daily.amount_cents == Decimal("250000.05")
    assert daily.stop_cents == 4_787_501  # 5,000,001 - 212,500.0425, up
    assert (store.certificate().lines[0].measured_cents, store.certificate().lines[0].worst_cents) == (
        5_000_000,
        4_995_000,
    )
    intent = store.executing(executor)
    exact = store.certificate(balance_cents=5_000_001, equity_cents=5_000_001)
    rounded = with_lines(exact, store.read, store.gate, store.clock.now())
    assert ask(store, executor, intent, rounded).outcome is Outcome.APPLIED


@pytest.mark.parametrize(
    ("mark_cents", "balance_cents", "reference_cents"),
    [
        (500_000, 505_000, 505_000),  # trails what is closed now
        (510_000, 505_000, 510_000),  # never falls
        (490_000, 495_000, 500_000),  # never below the initial balance
        (600_000, 600_000, 530_000),  # its floor locks at the initial balance: 6% of 5,000 above
    ],
)
def test_a_trailing_maximum_is_counted_from_the_highest_value_and_locks(
    mark_cents: int, balance_cents: int, reference_cents: int
) -> None:
    store = StoreHarness(gate=a_gate("e8-one-5k"))
    keep_days(store.db, store.gate, store.clock.now())
    keep_mark(store.db, store.gate, mark_cents, store.clock.now())
    maximum = store.certificate(balance_cents=balance_cents, equity_cents=balance_cents).lines[-1]
    assert (maximum.name, maximum.reference_cents) == ("maximum", reference_cents)
    assert maximum.stop_cents == reference_cents - 25_500  # 85% of 300.00
