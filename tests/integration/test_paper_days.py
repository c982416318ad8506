"""The paper broker over days: each rollover once, bars over weekends, and files and memory that do not grow."""

from __future__ import annotations

import gc
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from actors.broker.paper import journal, venue
from actors.broker.paper.values import Closed, Edited, Order, PendingOrder, Rejected
from bus import failpoints as failpoints_of_the_product
from config.load import ConfigError
from tests.kit import failpoints, paper
from tests.kit.venue import TurnedClock, bought, moment, ohlc, opened

D = Decimal
HOUR = 3_600
SWAPS: dict[str, Any] = {"swap_buy_points": -6.0, "swap_sell_points": 2.0}
MONDAY = "2026-02-16T21:00"  # an hour before the rollover


@pytest.fixture
def said() -> Any:
    """Everything that was logged."""
    lines: list[str] = []
    sink = logger.add(lambda text: lines.append(str(text)), format="{message}", level="INFO")
    yield lines
    logger.remove(sink)


def swap_of(found: venue.Venue, position_id: str) -> int:
    return next(held.swap_cents for held in found.book.holdings if held.id == position_id)


# ── rollovers ───────────────────────────────────────────────────────────────


def test_each_rollover_is_booked_once_through_ticks_restarts_and_a_clock_set_back(tmp_path: Path) -> None:
    clock = TurnedClock(moment(MONDAY))
    with opened(tmp_path, clock, **SWAPS) as found:
        first = bought(found)
        clock.advance(HOUR - 1)
        found.tick()
        assert swap_of(found, first) == 0
        clock.advance(1)
        found.tick()
        assert swap_of(found, first) == -600  # 6 points x 1 USD
        second = bought(found)  # after it
        found.tick()
        assert (swap_of(found, first), swap_of(found, second)) == (-600, 0)
    for _ in range(2):
        with opened(tmp_path, clock, **SWAPS) as found:
            found.tick()
            assert (swap_of(found, first), swap_of(found, second)) == (-600, 0)
    clock.jump(-2 * HOUR)
    with opened(tmp_path, clock, **SWAPS) as found:
        clock.advance(3 * HOUR)
        found.tick()
        assert (swap_of(found, first), swap_of(found, second)) == (-600, 0)
    clock.advance(7 * 24 * HOUR)  # the broker was down for a week
    with opened(tmp_path, clock, **SWAPS) as found:
        assert (swap_of(found, first), swap_of(found, second)) == (-600 * 8, -600 * 7)
        assert [row["nights"] for row in paper.ledger(tmp_path) if row["kind"] == "rolled"] == [1, 7]


def test_prices_go_on_while_the_machine_sleeps_and_no_second_is_counted_twice(tmp_path: Path) -> None:
    clock = TurnedClock(moment("2026-02-16T12:00"))
    with opened(tmp_path, clock, speed=2.0) as found:
        found.tick()
        began = found.times.simulated_ms
        clock.advance(10)
        found.now_ms()  # an answer in between takes nothing away
        found.tick()
        assert found.times.simulated_ms - began == 20_000
        clock.jump(HOUR)  # the monotonic clock stood still
        found.now_ms()
        found.tick()
        assert found.times.simulated_ms - began == 20_000 + 2_000 * HOUR
        clock.jump(-HOUR)
        clock.advance(5)
        found.tick()
        assert found.times.simulated_ms - began == 20_000 + 2_000 * HOUR + 10_000


def test_a_position_closed_after_a_rollover_and_before_its_tick_has_paid_for_it(tmp_path: Path) -> None:
    clock = TurnedClock(moment(MONDAY))
    with opened(tmp_path, clock, **SWAPS) as found:
        position_id = bought(found)
        clock.advance(HOUR + 1)
        late = bought(found)
        assert isinstance(found.close_position(position_id), Closed)
        assert isinstance(found.close_position(late), Closed)
        assert [done.swap_cents for done in found.book.history] == [-600, 0]
        assert found.book.balance_cents == 5_000_000 + sum(done.net_profit_cents for done in found.book.history)


@pytest.mark.parametrize(("point", "booked"), [("paper.before_record", 0), ("paper.after_record", -600)])
def test_a_broker_that_ends_while_it_books_a_rollover_has_booked_it_once_after_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, booked: int
) -> None:
    clock, points = TurnedClock(moment(MONDAY)), tmp_path / "points"
    found = venue.Venue(_settings(**SWAPS), ("EURUSD",), tmp_path, clock)
    position_id = bought(found)
    monkeypatch.setattr(failpoints_of_the_product, "_folder", str(points))
    failpoints.arm(points, point, "error")
    clock.advance(HOUR)
    with pytest.raises(failpoints_of_the_product.FailpointError):
        found.tick()
    assert (tmp_path / "account.jsonl").read_text().count('"Rolled"') == abs(booked) // 600
    for _ in range(2):
        with opened(tmp_path, clock, **SWAPS) as again:
            assert swap_of(again, position_id) == -600
            assert [row["kind"] for row in paper.ledger(tmp_path)].count("rolled") == 1


def _settings(**changes: Any) -> Any:
    from config import settings

    return settings.Paper(**changes)


def test_at_another_speed_the_calendar_runs_as_fast_and_another_one_does_not_charge_for_the_first(
    tmp_path: Path,
) -> None:
    clock = TurnedClock(moment(MONDAY))
    with opened(tmp_path, clock, speed=60.0, **SWAPS) as found:
        position_id = bought(found)
        clock.advance(61)
        found.tick()
        assert swap_of(found, position_id) == -600
        clock.advance(2 * 24 * 60)  # two days: Tuesday, and Wednesday for three
        found.tick()
        assert swap_of(found, position_id) == -600 * 5
    with opened(tmp_path, clock, speed=60.0, **SWAPS) as found:
        found.tick()
        assert swap_of(found, position_id) == -600 * 5
    with opened(tmp_path, clock, **SWAPS) as found:  # back to the clock on the wall, two days earlier
        found.tick()
        clock.advance(HOUR)
        found.tick()
        assert swap_of(found, position_id) == -600 * 6


def test_a_margin_call_is_said_once_and_a_stop_out_closes_the_worst_until_it_is_enough(
    tmp_path: Path, said: list[str]
) -> None:
    clock = TurnedClock(moment("2026-02-16T12:00"))
    with opened(tmp_path, clock, symbols=("EURUSD", "EURGBP"), initial_balance=10_000) as found:
        found.set_price("EURUSD.", D("1.10000"), hold=True)
        worst, other = bought(found, "3"), bought(found, "1", "EURGBP.")
        found.set_price("EURUSD.", D("1.09600"), hold=True)
        for _ in range(3):
            found.tick()
        assert len([line for line in said if "Margin call" in line]) == 1
        assert isinstance(found.open_position(Order(symbol="EURUSD.", side="BUY", volume=D("0.01"))), Rejected)
        assert len(found.book.holdings) == 2
        found.set_price("EURUSD.", D("1.08000"), hold=True)
        assert [held.id for held in found.book.holdings] == [other]
        assert [(done.id, done.reason) for done in found.book.history] == [(worst, "STOP_OUT")]


def test_a_stop_out_above_the_margin_call_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"paper\.stop_out_level was 0\.9; allowed up to .* = 0\.8"):
        with opened(tmp_path, TurnedClock(moment(MONDAY)), stop_out_level=0.9, margin_call_level=0.8):
            pass


# ── played bars ─────────────────────────────────────────────────────────────

WEEKEND = [
    ("2024-03-01T20:00", "1.1000", "1.1010", "1.0990", "1.1000"),
    ("2024-03-01T21:00", "1.1000", "1.1010", "1.0990", "1.1000"),
    ("2024-03-03T22:00", "1.0800", "1.0820", "1.0790", "1.0810"),
    ("2024-03-03T23:00", "1.0810", "1.0990", "1.0700", "1.0950"),
    ("2024-03-04T00:00", "1.0950", "1.0960", "1.0940", "1.0950"),
]


def bars(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    path = ohlc(tmp_path / "bars.csv", WEEKEND) if not (tmp_path / "bars.csv").exists() else tmp_path / "bars.csv"
    return {"prices": "bars", "bars_feed": "ohlc", "bars_path": str(path), "swap_buy_points": 0.0} | changes


def test_a_stop_that_the_weekend_jumped_over_is_filled_at_the_worse_price(tmp_path: Path) -> None:
    clock = TurnedClock(moment("2026-02-16T12:00"))
    with opened(tmp_path, clock, sessions="fx", **bars(tmp_path)) as found:
        assert found.market.prices["EURUSD."].bid == D("1.1")
        bought(found, sl_price=D("1.09500"))
        found.create_pending(PendingOrder(
            kind="STOP", symbol="EURUSD.", side="SELL", volume=D(1), activation_price=D("1.09600")
        ))  # fmt: skip
        clock.advance(2.5 * HOUR)
        found.tick()
        assert not found.market.is_open and len(found.book.holdings) == 1
        refused = found.open_position(Order(symbol="EURUSD.", side="BUY", volume=D(1)))
        assert isinstance(refused, Rejected) and refused.code == "MARKET_CLOSED"
        clock.advance(48 * HOUR)
        found.tick()
        (done,) = found.book.history
        assert (done.reason, done.close_price) == ("SL", D("1.08000"))
        assert [(held.side, held.open_price) for held in found.book.holdings] == [("SELL", D("1.08000"))]


def test_however_fast_bars_are_played_what_lies_inside_of_them_is_hit(tmp_path: Path) -> None:
    clock = TurnedClock(moment("2026-02-16T12:00"))
    with opened(tmp_path, clock, speed=3_600.0, bars_start="2024-03-03T22:30", **bars(tmp_path)) as found:
        low = bought(found, sl_price=D("1.07100"))
        clock.advance(2)  # two hours at once: at their end the price is 1.0950
        found.tick()
        assert [(done.id, done.reason) for done in found.book.history] == [(low, "SL")]
        assert D("1.07") <= found.book.history[0].close_price <= D("1.07100")


def test_at_the_end_of_the_bars_it_closes_for_good_and_says_so_once(tmp_path: Path, said: list[str]) -> None:
    clock = TurnedClock(moment("2026-02-16T12:00"))
    with opened(tmp_path, clock, speed=3_600.0, **bars(tmp_path)) as found:
        position_id = bought(found)
        clock.advance(10_000)
        for _ in range(5):
            found.tick()
        assert found.market.prices["EURUSD."].bid == D("1.09500")
        refused = found.close_position(position_id)
        assert isinstance(refused, Rejected) and refused.code == "MARKET_CLOSED"
        assert not found.market.is_open
    assert [line.strip() for line in said if "are over" in line] == [
        "The bars of EURUSD. are over: it is closed for good",
        "All bars are over: the market is closed. Start again with more, or from an earlier day",
    ]


def test_a_replay_goes_on_where_its_time_stands_and_other_bars_begin_anew(tmp_path: Path) -> None:
    clock = TurnedClock(moment("2026-02-16T12:00"))
    with opened(tmp_path, clock, **bars(tmp_path)) as found:
        clock.advance(1_800)
        found.tick()
        at = found.times.calendar_ms
    clock.advance(600)
    with opened(tmp_path, clock, **bars(tmp_path)) as found:
        assert found.times.calendar_ms == at + 600_000
    with opened(tmp_path, clock, bars_start="2024-03-03T22:00", **bars(tmp_path)) as found:
        assert found.times.calendar_ms == 1_709_503_200_000
    with opened(tmp_path, clock) as found:
        assert found.times.calendar_ms == found.market.at_ms


def test_what_one_tick_cannot_play_the_next_ones_do_and_a_restart_leaves_nothing_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(venue, "WAYPOINTS_MAX", 3)
    clock = TurnedClock(moment("2026-02-16T12:00"))
    with opened(tmp_path, clock, speed=3_600.0, bars_start="2024-03-03T22:00", **bars(tmp_path)) as found:
        position_id = bought(found, sl_price=D("1.07100"))
        clock.advance(2.9)
        found.tick()
        first = found.times.calendar_ms
        assert found.times.due_ms > 0 and found._lags
    with opened(tmp_path, clock, speed=3_600.0, bars_start="2024-03-03T22:00", **bars(tmp_path)) as found:
        assert found.times.calendar_ms >= first
        for _ in range(5):
            found.tick()
        assert found.times.due_ms == 0
        assert [done.id for done in found.book.history] == [position_id]


def test_a_moved_price_is_held_in_a_replay_too_and_the_bars_time_with_it(tmp_path: Path) -> None:
    clock = TurnedClock(moment("2026-02-16T12:00"))
    with opened(tmp_path, clock, **bars(tmp_path)) as found:
        found.set_price("EURUSD.", D("1.20000"), hold=True)
        at = found.times.calendar_ms
        clock.advance(3 * HOUR)
        found.tick()
        assert (found.market.prices["EURUSD."].bid, found.times.calendar_ms) == (D("1.20000"), at)
        assert found.market.at_ms > at


def test_in_the_fx_week_the_spread_follows_the_hour(tmp_path: Path) -> None:
    clock = TurnedClock(moment("2026-02-17T20:59"))
    with opened(tmp_path, clock, sessions="fx") as found:
        price = found.market.prices["EURUSD."]
        assert price.ask - price.bid == D("0.00010")
        clock.advance(120)
        found.tick()
        price = found.market.prices["EURUSD."]
        assert price.ask - price.bid == D("0.00030")
        found.set_price("EURUSD.", D("1.10000"), hold=True)
        assert found.market.prices["EURUSD."].bid == D("1.10000")


# ── days without growing ────────────────────────────────────────────────────


def trade(found: venue.Venue, clock: TurnedClock, days: int, a_day: int) -> None:
    """Trade without end: open, edit, close a part, close; orders that wait, are changed and cancelled."""
    for number in range(days * a_day):
        clock.advance(24 * HOUR / a_day)
        found.tick()
        receipt = found.ledger.received({"symbol": "EURUSD.", "side": "BUY"})
        position_id = bought(found, "0.10")
        assert isinstance(found.edit_position(position_id, D("0.5"), D(0)), Edited)
        waits = PendingOrder(
            kind="LIMIT", symbol="EURUSD.", side="BUY", volume=D("0.1"), activation_price=D("0.50000")
        )  # fmt: skip
        created = found.create_pending(waits, receipt)
        assert not isinstance(created, Rejected)
        assert not isinstance(found.edit_pending(created.order.id, D("0.6"), D(0), D(0)), Rejected)
        assert not isinstance(found.cancel_pending(created.order.id), Rejected)
        assert isinstance(found.close_position(position_id, D("0.04")), Closed)
        if number % 3:  # the others stay overnight
            assert isinstance(found.close_position(position_id), Closed)
        for held in found.book.holdings[:-5]:
            found.close_position(held.id)
        found.hide(position_id, 60)
        found.refuse_edits(position_id)


def test_after_many_days_of_trading_memory_and_files_are_as_large_as_after_a_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a test of sizes, not of durability
    limit, kept, rows = 32_768, 2, 100
    clock = TurnedClock(moment(MONDAY))
    small: dict[str, Any] = {"file_bytes_max": limit, "file_parts_kept": kept, "history_kept": rows}
    sizes, objects = [], []
    with opened(tmp_path, clock, **small, **SWAPS) as found:
        for _ in range(3):
            trade(found, clock, days=10, a_day=12)
            gc.collect()
            objects.append(len(gc.get_objects()))
            sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
            assert len(found.book.history) <= rows and len(found.book.holdings) <= 6
            assert len(found._hidden) <= 6 and len(found._unedited) <= 6
        book, events = found.book, found._account.events
    # Of each file a part that is being written, those that were put aside, and what stands at a part's beginning.
    assert max(sizes) <= 2 * (kept + 1) * (limit + 30_000) + 4_096
    assert max(objects[1:]) - objects[0] < 2_000, objects
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == {"account", "ledger", "time"}
    assert all(len(journal.parts(tmp_path / name)) == kept for name in ("account.jsonl", "ledger.jsonl"))
    assert events > 2_400
    with opened(tmp_path, clock, **small, **SWAPS) as found:
        assert found.book == book
        receipt = found.ledger.received({})
        assert receipt == 3 * 120 + 1  # counted on through all parts


STEPS = ["paper.before_rotate", "paper.after_rotate", "paper.before_put_aside", "paper.after_put_aside",
         "paper.before_take_place", "paper.after_take_place"]  # fmt: skip


@pytest.mark.parametrize("nth", [1, 2], ids=["account", "ledger"])
@pytest.mark.parametrize("point", STEPS)
def test_an_end_at_any_moment_of_putting_a_file_aside_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, nth: int
) -> None:
    points, clock = tmp_path / "points", TurnedClock(moment(MONDAY))
    folder = tmp_path / "paper"
    small = {"file_bytes_max": 4_096, "file_parts_kept": 9}
    found = venue.Venue(_settings(**small), ("EURUSD",), folder, clock)
    monkeypatch.setattr(failpoints_of_the_product, "_folder", str(points))
    failpoints.arm(points, point, "error", at_pass=nth)
    with pytest.raises(failpoints_of_the_product.FailpointError):
        for _ in range(60):
            found.ledger.received({"symbol": "EURUSD."})
            bought(found, "0.01")
            found.tick()
    assert found.failed
    with pytest.raises(OSError, match="restart"):
        bought(found)
    before, receipts = found.book, found.ledger._receipts
    for limit in (1_000_000, 4_096):
        with opened(folder, clock, file_bytes_max=limit, file_parts_kept=9) as again:
            assert not list(folder.glob("*.new"))  # a draft that nobody took would be taken for the file some day
            assert again.book == before
            assert (again._account.events, again.ledger._receipts) == (len(before.holdings), receipts)
            assert bought(again, "0.01") == str(before.next_id)
            before = again.book
    ids = [row["position_id"] for row in whole_ledger(folder) if row["kind"] == "placed"]
    assert len(ids) == len(set(ids)) == len(before.holdings)


def whole_ledger(folder: Path) -> list[dict[str, Any]]:
    from tests.chaos import histories

    return histories.with_parts(folder / "ledger.jsonl")


def test_an_order_that_is_late_is_carried_over_when_the_ledger_is_put_aside(tmp_path: Path) -> None:
    clock = TurnedClock(moment(MONDAY))
    with opened(tmp_path, clock, file_bytes_max=4_096) as found:
        receipt = found.ledger.received({})
        found.place_later(Order(symbol="EURUSD.", side="BUY", volume=D("0.10")), receipt, 600)
        while not journal.parts(tmp_path / "ledger.jsonl"):
            found.ledger.received({"symbol": "EURUSD."})
            found.tick()
    with opened(tmp_path, clock, file_bytes_max=4_096) as found:
        assert [late.receipt for late in found.ledger.waiting()] == [receipt]
        clock.advance(601)
        found.tick()
        assert len(found.book.holdings) == 1
    with opened(tmp_path, clock, file_bytes_max=4_096) as found:
        assert found.ledger.waiting() == []
        assert paper.ledger(tmp_path)[0]["kind"] == "carried"


def test_orders_that_tests_let_be_late_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venue, "LATE_MAX", 2)
    with opened(tmp_path, TurnedClock(moment(MONDAY))) as found:
        for receipt in (1, 2, 3):
            found.place_later(Order(symbol="EURUSD.", side="BUY", volume=D("0.10")), receipt, 600)
        assert [row["kind"] for row in paper.ledger(tmp_path)] == ["late", "late", "rejected"]


def test_a_kept_account_in_another_currency_or_in_the_middle_of_a_file_stops_the_start(tmp_path: Path) -> None:
    clock = TurnedClock(moment(MONDAY))
    with opened(tmp_path, clock, file_bytes_max=4_096) as found:
        while not journal.parts(tmp_path / "account.jsonl"):
            bought(found, "0.01")
            found.tick()
    with pytest.raises(ConfigError, match=r"paper\.currency"), opened(tmp_path, clock, currency="EUR"):
        pass
    text = (tmp_path / "account.jsonl").read_text()
    (tmp_path / "account.jsonl").write_text(text + text.splitlines()[0] + "\n")
    with pytest.raises(ConfigError, match="does not fit"), opened(tmp_path, clock):
        pass


def test_an_account_file_of_an_earlier_version_is_read_and_pays_for_its_nights(tmp_path: Path) -> None:
    clock = TurnedClock(moment(MONDAY))
    lines = [
        '{"type":"Began","balance_cents":5000000,"currency":"USD"}',
        '{"type":"Opened","holding":{"id":"1000001","symbol":"EURUSD.","side":"BUY","volume":"1.00","open_price":'
        '"1.1","sl_price":"0","tp_price":"0","opened_ms":1771272000000,"commission_cents":-500},"receipt":1}',
    ]
    (tmp_path / "account.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "time.json").write_text('{"simulated_ms":5,"wall_ms":1771272000000,"held":false,"factors":{}}')
    with opened(tmp_path, clock, **SWAPS) as found:
        assert swap_of(found, "1000001") == 0
        clock.advance(HOUR)
        found.tick()
        assert swap_of(found, "1000001") == -600
    assert [row["kind"] for row in paper.ledger(tmp_path)] == ["placed", "rolled"]
