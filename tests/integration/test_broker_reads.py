"""Every way a broker can answer a login or a read, over a real socket, and what the client makes of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from actors.broker import wire
from actors.broker.errors import (
    Blocked,
    BrokerError,
    Refused,
    Transient,
    Unauthorised,
    UnknownOutcome,
    Unreadable,
)
from tests.kit import scripted
from tests.kit.scripted import CLOSE, HANG, NESTED, RESET, reply, scene

D = Decimal
HTML = b"<!DOCTYPE html><html><body>\n  Attention   Required!</body></html>"
ORDER = wire.OpenRequest(broker_symbol="EURUSD.", side="BUY", volume=D("0.10"), sl_price=D("1.09"), tp_price=D(0))
BALANCE = {"balance": "1", "equity": "1", "freeMargin": "1", "margin": "0", "currency": "USD"}


# ── reads ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (HANG, Transient),
        (RESET, Transient),
        (CLOSE, Transient),
        (reply(500, {}), Transient),
        (reply(502, HTML, "text/html"), Transient),
        (reply(429, {}), Transient),
        (reply(408), Transient),
        (reply(200), Unreadable),
        (reply(200, HTML, "text/html"), Unreadable),
        (reply(200, b"[]"), Unreadable),
        (reply(200, NESTED), Unreadable),
        (reply(200, BALANCE | {"equity": "NaN"}), Unreadable),
        (reply(200, b" " * 5_000_000), Transient),
        (reply(403, HTML, "text/html"), Blocked),
        (reply(403, {"error": "forbidden"}), Refused),
        (reply(404, b"{}"), Refused),
        (reply(302, b"", Location="/x"), Refused),
        (reply(400, {"errorMessage": "no"}), Refused),
    ],
    ids=lambda value: value[:30].decode().split("\r")[0] if isinstance(value, bytes) else value.__name__,
)
async def test_a_read_that_fails_is_asked_once_and_named(answer: bytes, error: type[BrokerError]) -> None:
    async with scene() as (server, client, _):
        server.on("/balance", answer)
        with pytest.raises(error) as caught:
            await client.balance()
        assert type(caught.value) is error
        assert server.count("/balance") == 1


async def test_a_page_instead_of_json_is_quoted_for_80_characters_on_one_line() -> None:
    async with scene() as (server, client, _):
        server.on("/balance", reply(200, HTML + b"x" * 500, "text/html; charset=utf-8"))
        with pytest.raises(Unreadable) as caught:
            await client.balance()
    assert "expected JSON, found text/html" in str(caught.value)
    assert "'<!DOCTYPE html><html><body> Attention Required!</body></html>xxx" in str(caught.value)
    assert len(str(caught.value)) < 180


async def test_a_missing_needed_field_is_named_and_an_unknown_one_ignored() -> None:
    async with scene() as (server, client, _):
        server.on("/balance", reply(200, {"balance": "1", "equity": "1", "margin": "0", "currency": "USD"}))
        with pytest.raises(Unreadable, match="freeMargin"):
            await client.balance()
        server.on("/balance", reply(200, BALANCE | {"balance": "50000.129", "newThing": {"a": 1}}))
        assert (await client.balance()).balance_cents == 5_000_013


async def test_too_many_requests_says_how_long_to_wait() -> None:
    async with scene() as (server, client, _):
        server.on("/balance", reply(429, {}, Retry_After="7"))
        with pytest.raises(Transient) as caught:
            await client.balance()
        assert caught.value.retry_after_s == 7


# ── login ───────────────────────────────────────────────────────────────────


async def test_a_token_that_the_broker_forgot_is_renewed_once_and_the_read_repeated() -> None:
    async with scene() as (server, client, _):
        server.on("/balance", reply(401, {}), reply(200, BALANCE))
        server.on("/mtr-login", reply(200, scripted.a_login()), reply(200, scripted.a_login(token="second")))
        assert (await client.balance()).currency == "USD"
        assert (server.count("/mtr-login"), server.count("/balance")) == (2, 2)
        assert server.asked[-1].headers["auth-trading-api"] == "second"


async def test_a_second_401_is_not_tried_a_third_time() -> None:
    async with scene() as (server, client, _):
        server.on("/balance", reply(401, {}))
        with pytest.raises(Unauthorised):
            await client.balance()
        assert (server.count("/mtr-login"), server.count("/balance")) == (2, 2)


async def test_a_wrong_password_is_said_without_the_password_and_not_tried_again_at_once() -> None:
    async with scene() as (server, client, clock):
        server.on("/mtr-login", reply(401, {}))
        for _ in range(3):
            with pytest.raises(Unauthorised, match="PILOT_BROKER_PASSWORD") as caught:
                await client.balance()
            assert "secret" not in str(caught.value)
        assert server.count("/mtr-login") == 1
        clock.ahead_s = 61
        with pytest.raises(Unauthorised):
            await client.balance()
        assert server.count("/mtr-login") == 2


@pytest.mark.parametrize("name", ["accounts", "tradingAccounts"])
@pytest.mark.parametrize("account", ["7", 7])
async def test_the_account_of_the_settings_is_used_and_not_the_first_or_selected_one(name: str, account: Any) -> None:
    async with scene() as (server, client, _):
        server.on("/mtr-login", reply(200, scripted.a_login(account, name=name)))
        server.on("/balance", reply(200, BALANCE))
        await client.balance()
        assert server.asked[-1].headers["auth-trading-api"] == "trading-token"
        assert b'"brokerId":"2"' in server.asked[0].body


async def test_an_account_that_is_not_listed_is_refused_and_the_listed_ones_named() -> None:
    async with scene(account_id="8") as (_, client, _clock):
        with pytest.raises(Unauthorised, match="'8' is not among the accounts of this login: 1, 7"):
            await client.login()


async def test_reads_at_the_same_time_log_in_once() -> None:
    async with scene() as (server, client, _):
        server.on("/balance", reply(200, BALANCE))
        await asyncio.gather(*(client.balance() for _ in range(5)))
        assert server.count("/mtr-login") == 1


async def test_every_request_is_paid_for_failed_ones_and_logins_too() -> None:
    async with scene() as (server, client, _):
        server.on("/balance", reply(500))
        server.on("/position/open", reply(500))
        for _ in range(2):
            with pytest.raises(Transient):
                await client.balance()
        with pytest.raises(UnknownOutcome):
            await client.open_position(ORDER)
        assert (server.budget.reads, server.budget.writes) == (3, 1)


async def test_a_login_path_of_another_broker_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with scene(login_path="/mtr-core-edge/login") as (server, client, _):
        server.on("/mtr-core-edge/login", reply(200, scripted.a_login()))
        await client.login()
        assert server.asked[0].path == "/mtr-core-edge/login"


# ── instruments, quotes, bars ───────────────────────────────────────────────


async def test_a_symbol_that_the_broker_does_not_list_is_refused_before_anything_is_asked() -> None:
    async with scene() as (server, client, _):
        with pytest.raises(Refused, match="XAUUSD is none of the broker's: EURUSD"):
            await client.quotes(["XAUUSD"])
        assert server.count("/quotations") == 0


async def test_an_instrument_left_out_says_why_when_it_is_asked_for() -> None:
    async with scene() as (server, client, _):
        server.on("/effective-instruments", reply(200, [scripted.an_instrument(volumeStep="0")]))
        with pytest.raises(Refused, match="volumeStep was 0"):
            await client.quotes(["EURUSD"])


async def test_instruments_are_asked_for_again_only_when_they_are_old() -> None:
    async with scene() as (server, client, clock):
        await client.instruments()
        await client.instruments()
        assert server.count("/effective-instruments") == 1
        await client.instruments(0)
        assert server.count("/effective-instruments") == 2
        clock.ahead_s = 301
        await client.instruments()
        assert server.count("/effective-instruments") == 3


async def test_a_quote_that_is_missing_is_missing_and_one_that_was_not_asked_for_is_dropped() -> None:
    async with scene() as (server, client, _):
        quote = {"symbol": "EURUSD.", "bid": "1.1", "ask": 1.1001, "timestampMs": 1771234200000}
        server.on("/quotations", reply(200, [quote, quote | {"symbol": "GBPUSD."}]), reply(200, []))
        found = await client.quotes(["EURUSD"])
        assert (found["EURUSD"].bid, found["EURUSD"].ask, len(found)) == (D("1.1"), D("1.1001"), 1)
        assert server.asked[-1].path.endswith("/quotations?symbols=EURUSD.")
        assert await client.quotes(["EURUSD"]) == {}


async def test_a_position_in_an_unlisted_instrument_is_reported_all_the_same() -> None:
    async with scene() as (server, client, _):
        position = {
            "id": "p9", "symbol": "XAUUSD.", "volume": "1", "side": "SELL", "openTimeMillis": 1771234200000,
            "openPrice": "5000", "currentPrice": "5001", "profit": "-100", "netProfit": "-101",
        }  # fmt: skip
        server.on("/open-positions", reply(200, {"positions": [position]}))
        found = (await client.open_positions())[0]
        assert (found.symbol, found.broker_symbol, found.sl_price) == ("XAUUSD", "XAUUSD.", None)


async def test_a_row_that_the_broker_repeats_counts_once_and_two_that_differ_are_no_answer() -> None:
    async with scene() as (server, client, _):
        position = {
            "id": "p9", "symbol": "EURUSD.", "volume": "1", "side": "SELL", "openTimeMillis": 1771234200000,
            "openPrice": "1.1", "currentPrice": "1.1", "profit": "0", "netProfit": "0",
        }  # fmt: skip
        server.on("/open-positions", reply(200, {"positions": [position, position]}))
        assert [held.id for held in await client.open_positions()] == ["p9"]
        server.on("/open-positions", reply(200, {"positions": [position, position | {"volume": "2"}]}))
        with pytest.raises(Unreadable, match="listed twice and not alike: p9"):
            await client.open_positions()


async def test_a_failed_positions_report_is_never_an_empty_account() -> None:
    async with scene() as (server, client, _):
        for answer in (reply(200), reply(200, {}), reply(200, {"positions": None}), reply(200, {"orders": []})):
            server.on("/open-positions", answer)
            with pytest.raises(Unreadable):
                await client.open_positions()


async def test_the_unfinished_last_bar_is_dropped_and_the_rest_sorted() -> None:
    async with scene() as (server, client, _):
        now_ms = int(datetime.now(UTC).timestamp() * 1_000)
        bar = {"open": "1.1", "high": "1.2", "low": "1.0", "close": "1.1", "volume": 3}
        hour = 3_600_000
        times = [now_ms - hour // 2, now_ms - 3 * hour, now_ms - 2 * hour]
        server.on("/candles", reply(200, {"candles": [bar | {"time": time} for time in times]}))
        bars = await client.candles("EURUSD", "H1", datetime(2026, 1, 1, tzinfo=UTC), datetime.now(UTC))
        assert [int(one.at.timestamp() * 1_000) for one in bars] == times[1:]
