"""How a position ended, told only from its own complete rows; and which positions nobody owns."""

from __future__ import annotations

from datetime import timedelta

from actors.compliance import day as days
from actors.watch import closing
from bus.messages import PositionResult
from bus.vocabulary import OrderStatus
from tests.kit.compliance import NOW, D, a_position, a_row, an_opened_intent, an_order

INTENT = an_opened_intent()


def result(*rows: object, volume: str | None = "1.00", settled: bool = False, cut: str = "0") -> PositionResult | str:
    lots = None if volume is None else D(volume)
    return closing.result_of(INTENT, rows, volume=lots, settled=settled, cut=D(cut))  # type: ignore[arg-type]


def test_no_row_is_no_result_however_long_one_waits() -> None:
    assert result(settled=True) == "neither open nor in the history"
    assert result(a_row(id="P-2"), settled=True) == "neither open nor in the history"


def test_row_of_its_id_with_another_symbol_is_not_taken() -> None:
    assert "another symbol: GBPUSD" in str(result(a_row(symbol="GBPUSD"), settled=True))


def test_partial_closes_are_waited_for_and_then_added_up() -> None:
    half = a_row(volume=D("0.40"), net_profit_cents=20_000, reason="MANUAL")
    rest = a_row(
        volume=D("0.60"), net_profit_cents=-5_000, reason="SL", closed_at=half.closed_at + timedelta(minutes=1)
    )
    assert result(half) == "the history has 0.40 of 1.00 lots"
    found = result(rest, half)
    assert isinstance(found, PositionResult)
    assert (found.net_profit_cents, found.reason) == (15_000, "SL")
    assert isinstance(result(half, settled=True), PositionResult)


def test_what_was_closed_while_it_was_open_is_never_its_end() -> None:
    part = a_row(volume=D("0.60"))
    rest = a_row(volume=D("0.30"), closed_at=part.closed_at + timedelta(minutes=1))
    assert result(part, settled=True, cut="0.60") == "the history has 0.60 of 1.00 lots"
    assert isinstance(result(part, rest, settled=True, cut="0.60"), PositionResult)


def test_row_that_comes_twice_counts_once() -> None:
    found = result(a_row(), a_row())
    assert isinstance(found, PositionResult)
    assert found.net_profit_cents == 49_500


def test_two_equal_fills_of_one_moment_count_both() -> None:
    fill = a_row(volume=D("0.50"), net_profit_cents=-12_850, row_id="u1")
    found = result(fill, a_row(volume=D("0.50"), net_profit_cents=-12_850, row_id="u2"), fill)
    assert isinstance(found, PositionResult)
    assert found.net_profit_cents == -25_700


def test_broker_without_a_reason_is_quoted_as_such() -> None:
    found = result(a_row(reason=""), volume=None)
    assert isinstance(found, PositionResult)
    assert found.reason == "not said by the broker"


def test_position_is_an_orphan_unless_owned_or_awaited() -> None:
    held = a_position()
    unknown = an_order(status=OrderStatus.UNKNOWN, position_id=None)
    assert closing.orphans((held,), frozenset(), ()) == (held,)
    assert closing.orphans((held,), frozenset({"P-1"}), ()) == ()
    assert closing.orphans((held,), frozenset(), (unknown,)) == ()
    # It was there before the order: the order cannot explain it.
    before = an_order(status=OrderStatus.UNKNOWN, baseline=("P-1",))
    assert closing.orphans((held,), frozenset(), (before,)) == (held,)
    other_side = a_position(side="SELL")
    assert closing.orphans((other_side,), frozenset(), (unknown,)) == (other_side,)


def test_day_of_now_is_the_one_the_builders_use() -> None:
    from datetime import time
    from zoneinfo import ZoneInfo

    assert days.firm_day(NOW, time(0), ZoneInfo("Europe/Athens")).day == "2026-02-16"
