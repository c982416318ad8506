"""Reading the broker's words: what makes no sense is refused by name; then symbols, pips, rounding."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from actors.broker import instruments, raw, wire
from actors.broker.wire import Instrument
from tests.kit import scripted

D = Decimal
A_POSITION = {
    "id": "p1", "symbol": "EURUSD.", "alias": "x", "volume": "0.10", "side": "BUY",
    "openTime": "2026-02-16T09:30:00.000Z", "openTimeMillis": 1771234200000, "openPrice": "1.1", "stopLoss": "1.09",
    "takeProfit": 0, "currentPrice": 1.101, "swap": "-0.10", "commission": "-0.5", "profit": "10", "netProfit": "9.40",
}  # fmt: skip
A_ROW = {
    "id": 17, "uid": "u", "closingOrderID": "c", "symbol": "EURUSD.", "volume": 0.1, "side": "sell",
    "openTime": "2026-02-16T09:30:00Z", "time": "2026-02-16T10:30:00+01:00", "openPrice": 1.1, "closePrice": "1.09",
    "profit": 100, "netProfit": "99.505", "swap": 0, "commission": "-0.495", "closeReason": "TP",
}  # fmt: skip


def position(**changes: Any) -> wire.Position:
    row = {name: value for name, value in (A_POSITION | changes).items() if value is not ...}
    return wire.position(msgspec.json.decode(msgspec.json.encode(row), type=raw.Position, strict=False), "EURUSD")


def row(**changes: Any) -> wire.ClosedPosition:
    said = {name: value for name, value in (A_ROW | changes).items() if value is not ...}
    return wire.closed_position(msgspec.json.decode(msgspec.json.encode(said), type=raw.Closed, strict=False), "EURUSD")


def listed(*rows: dict[str, Any]) -> tuple[dict[str, Instrument], tuple[str, ...]]:
    return instruments.by_our_symbol([msgspec.Raw(msgspec.json.encode(one)) for one in rows])


def an_instrument(**changes: Any) -> Instrument:
    found, left_out = listed(scripted.an_instrument(**changes))
    assert not left_out
    return next(iter(found.values()))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"volume": "NaN"}, "volume"),
        ({"volume": "0"}, "volume"),
        ({"openPrice": "Infinity"}, "openPrice"),
        ({"stopLoss": "-1"}, "stopLoss"),
        ({"takeProfit": "NaN"}, "takeProfit"),
        ({"netProfit": "1e400"}, "netProfit"),
        ({"side": "HOLD"}, "side"),
        ({"openTimeMillis": 0}, "openTimeMillis"),
        ({"openTimeMillis": ..., "openTime": "2026-02-16 09:30:00"}, "openTime"),
        ({"openTimeMillis": ..., "openTime": ...}, "openTime"),
        ({"netProfit": ...}, "netProfit"),
        ({"id": ...}, "id"),
        ({"volume": "much"}, "volume"),
    ],
)
def test_a_position_that_makes_no_sense_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        position(**changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"time": ...}, "time"), ({"id": ...}, "id"), ({"time": "yesterday"}, "time"), ({"closePrice": 0}, "closePrice")],
)
def test_a_closed_row_is_read_by_its_own_names(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        row(**changes)


def test_a_position_is_read_with_strings_and_numbers_mixed() -> None:
    found = position()
    assert (found.id, found.volume, found.sl_price, found.tp_price) == ("p1", D("0.10"), D("1.09"), None)
    assert (found.profit_cents, found.net_profit_cents, found.swap_cents) == (1_000, 940, -10)
    assert found.opened_at == datetime(2026, 2, 16, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize("nothing", ["0", 0, "0.00000", None, ...])
def test_a_stop_of_zero_or_nothing_is_no_stop(nothing: Any) -> None:
    assert position(stopLoss=nothing).sl_price is None


def test_a_closed_row_has_its_net_profit_reason_and_close_time() -> None:
    found = row()
    assert (found.id, found.side, found.net_profit_cents, found.reason) == ("17", "SELL", 9_950, "TP")
    assert found.closed_at == datetime(2026, 2, 16, 9, 30, tzinfo=UTC)


def test_a_quote_with_the_ask_below_the_bid_is_refused() -> None:
    with pytest.raises(ValueError, match="ask"):
        wire.quote(raw.Quote(symbol="EURUSD.", bid=D("1.2"), ask=D("1.1"), timestamp_ms=1), "EURUSD")


@pytest.mark.parametrize("changes", [{"close": D("1.3")}, {"open": D("0.9")}, {"low": D(0)}, {"high": D("NaN")}])
def test_a_bar_whose_prices_make_none_is_refused(changes: dict[str, Decimal]) -> None:
    good = {"open": D("1.1"), "high": D("1.2"), "low": D("1.0"), "close": D("1.15")}
    with pytest.raises(ValueError):
        wire.candle(raw.Candle(time=1, **good | changes))


# ── instruments ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("symbol", "base", "quote", "ours"),
    [
        ("EURUSD.", "EUR", "USD", "EURUSD"),
        ("EURUSD", "EUR", "USD", "EURUSD"),
        ("EURUSDm", "EUR", "USD", "EURUSD"),
        ("EURUSD.pro", "EUR", "USD", "EURUSD"),
        ("XAUUSD.", "XAU", "USD", "XAUUSD"),
        ("US30.", "USD", "USD", "US30"),
    ],
)
def test_the_brokers_suffix_is_not_part_of_our_symbol(symbol: str, base: str, quote: str, ours: str) -> None:
    found, _ = listed(scripted.an_instrument(symbol=symbol, baseCurrency=base, quoteCurrency=quote))
    assert found[ours].broker_symbol == symbol


def test_a_name_that_two_instruments_claim_is_left_out_and_reported() -> None:
    found, left_out = listed(
        scripted.an_instrument(), scripted.an_instrument(symbol="EURUSD.raw"), scripted.an_instrument(symbol="EURUSD")
    )
    assert found == {}
    assert "EURUSD.raw" in left_out[0]


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"volumeStep": "0"}, "volumeStep"), ({"contractSize": "NaN"}, "contractSize"), ({"pricePrecision": 99}, "Prec")],
)
def test_one_odd_instrument_is_left_out_by_name_and_does_not_hide_the_others(
    changes: dict[str, Any], named: str
) -> None:
    odd = scripted.an_instrument(symbol="GBPUSD.", baseCurrency="GBP", **changes)
    found, left_out = listed(odd, scripted.an_instrument())
    assert list(found) == ["EURUSD"]
    assert "GBPUSD." in left_out[0] and named in left_out[0]


def test_an_instrument_without_a_needed_field_is_left_out_with_the_fields_name() -> None:
    lacking = scripted.an_instrument()
    del lacking["volumeStep"]
    found, left_out = listed(lacking)
    assert found == {}
    assert "EURUSD.: Object missing required field `volumeStep`" in left_out[0]


def test_a_pip_is_a_ten_thousandth_or_a_hundredth_when_quoted_in_yen() -> None:
    assert an_instrument().pip == D("0.0001")
    assert an_instrument(symbol="USDJPY.", baseCurrency="USD", quoteCurrency="JPY", pricePrecision=3).pip == D("0.01")


@pytest.mark.parametrize(("symbol", "base", "quote"), [("XAUUSD.", "XAU", "USD"), ("US30.", "USD", "USD")])
def test_what_is_no_fx_pair_has_no_pip(symbol: str, base: str, quote: str) -> None:
    with pytest.raises(ValueError, match="no FX pair"):
        _ = an_instrument(symbol=symbol, baseCurrency=base, quoteCurrency=quote).pip


@pytest.mark.parametrize(
    ("volume", "floored"),
    [("0.129", "0.12"), ("0.12", "0.12"), ("0.019999", "0.01"), ("0.0099", "0"), ("0", "0"), ("-1", "0"), ("99", "50")],
)
def test_a_volume_is_floored_to_the_step_and_never_rounded_up(volume: str, floored: str) -> None:
    assert instruments.floor_volume(D(volume), an_instrument()) == D(floored)


def test_a_price_is_rounded_to_the_instruments_decimals() -> None:
    assert str(instruments.round_price(D("1.1000049"), an_instrument())) == "1.10000"
    assert str(instruments.round_price(D("1.1"), an_instrument())) == "1.10000"


def test_requests_say_their_numbers_exactly() -> None:
    order = wire.OpenRequest(
        broker_symbol="EURUSD.", side="BUY", volume=D("0.10"), sl_price=D("1.09000"), tp_price=D(0)
    )
    assert wire.open_request(order) == (
        b'{"instrument":"EURUSD.","orderSide":"BUY","volume":0.10,"slPrice":1.09000,"tpPrice":0,"isMobile":false}'
    )
    assert b'"volume":"0.10"' in wire.close_request(position())


@pytest.mark.parametrize("millis", [0, -1, 1_771_234_200, 978_307_199_999, 32_503_680_000_000])
def test_epoch_seconds_and_other_times_that_are_none_are_refused_by_name(millis: int) -> None:
    with pytest.raises(ValueError, match=f"openTime was {millis}; expected epoch milliseconds"):
        wire.moment(millis, "openTime")
