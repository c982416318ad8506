"""Client and paper broker together, over real HTTP: the whole Platform API, and every misbehaviour of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from actors.broker.errors import NotSent, Refused, Transient, Unauthorised, UnknownOutcome
from actors.broker.paper import access
from actors.serving import server
from config.load import ConfigError
from tests.kit import paper
from tests.kit.eventually import eventually_async
from tests.kit.held_clock import HeldClock
from tests.kit.paper import an_order, history, ledger

D = Decimal


# ── refusals ────────────────────────────────────────────────────────────────


async def test_orders_that_are_not_allowed_are_refused_and_nothing_is_opened(tmp_path: Path) -> None:
    refused = {
        "INSTRUMENT_NOT_FOUND": {"broker_symbol": "XAUUSD."},
        "INVALID_VOLUME": {"volume": D("0.005")},
        "INVALID_STOPS": {"sl_price": D("1.2")},
        "STOPS_TOO_CLOSE": {"sl_price": D("1.09999")},
        "NOT_ENOUGH_MONEY": {"volume": D("30")},
    }
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        for code, changes in refused.items():
            with pytest.raises(Refused, match=code):
                await client.open_position(an_order(**changes))
        assert await client.open_positions() == ()
        assert {line["kind"] for line in ledger(tmp_path)} == {"received", "rejected"}


async def test_orders_on_a_saturday_are_refused_in_the_fx_week(tmp_path: Path) -> None:
    clock = HeldClock()
    clock.ahead_s = (datetime(2027, 1, 9, 12, tzinfo=UTC) - datetime.now(UTC)).total_seconds()
    async with paper.running(tmp_path, clock=clock, sessions="fx") as broker, broker.client() as client:
        assert not (await client.instruments())["EURUSD"].session_open
        with pytest.raises(Refused, match="MARKET_CLOSED"):
            await client.open_position(an_order())


async def test_a_login_that_is_not_the_accounts_is_refused(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker:
        for changes in ({"email": "x@y.example"}, {"broker_id": "9"}, {"account_id": "PAPER-2"}):
            async with broker.client(**changes) as client:
                with pytest.raises(Unauthorised):
                    await client.login()
        async with broker.client(password="") as client:
            with pytest.raises(Unauthorised):
                await client.login()


async def test_token_and_cookie_are_both_needed(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await client.login()
        good = client._session.headers
        async with paper.browser(broker.url + client._session.prefix) as http:
            assert (await http.get("/balance", headers=good)).status_code == 200
            for header in ("Auth-trading-api", "Cookie"):
                for method, path in (("GET", "/balance"), ("GET", "/open-positions"), ("POST", "/position/open")):
                    answer = await http.request(method, path, headers=good | {header: "wrong"})
                    assert answer.status_code == 401, (header, path)


async def test_a_body_that_is_no_order_is_refused_as_400(tmp_path: Path) -> None:
    order = b'{"instrument":"EURUSD.","orderSide":"%s","volume":%s}'
    bodies = (b"", b"[]", b"{", b"{}", order % (b"UP", b"1"), order % (b"BUY", b'"NaN"'), order % (b"BUY", b'"1e99"'))
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await client.login()
        for body in bodies:
            with pytest.raises(Refused):
                await client._line.write(
                    f"{client._session.prefix}/position/open", body, headers=client._session.headers
                )
        assert broker.venue.book.holdings == ()


async def test_numbers_that_make_no_order_are_not_sent(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await client.login()
        for changes in ({"volume": D("NaN")}, {"volume": D(0)}, {"sl_price": D("NaN")}, {"tp_price": D("-1")}):
            with pytest.raises(NotSent):
                await client.open_position(an_order(**changes))
        assert broker.budget.writes == 0


async def test_a_body_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker:
        async with paper.browser(broker.url) as http:
            answer = await http.post("/manager/mtr-login", content=b" " * 70_000)
        assert answer.status_code == 413


async def test_without_the_switch_there_are_no_test_controls(tmp_path: Path) -> None:
    async with paper.running(tmp_path, controls=False) as broker:
        async with paper.browser(broker.url) as http:
            for path in ("/paper/faults", "/paper/price", "/paper/close"):
                assert (await http.post(path, json={})).status_code == 404


async def test_a_port_that_is_taken_is_a_clear_message() -> None:
    with server.bind("127.0.0.1", 0) as taken:
        with pytest.raises(ConfigError, match=r"paper\.port"):
            server.bind("127.0.0.1", taken.getsockname()[1])


# ── one trade ───────────────────────────────────────────────────────────────


async def test_one_trade_from_order_to_stop(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        position_id = await client.open_position(an_order())
        (held,) = await client.open_positions()
        assert (held.id, held.symbol, held.open_price) == (position_id, "EURUSD", D("1.10010"))
        assert (held.sl_price, held.tp_price, held.net_profit_cents) == (D("1.09"), D("1.12"), -150)
        assert abs((held.opened_at - datetime.now(UTC)).total_seconds()) < 2
        await client.edit_position(held, D("1.09500"), D(0))
        (held,) = await client.open_positions()
        assert (held.sl_price, held.tp_price) == (D("1.095"), None)
        await broker.price("EURUSD.", "1.09400")
        assert await client.open_positions() == ()
        (row,) = await history(client)
        # 61 pips x 1 USD + 0.50 USD commission; the price had jumped over the stop.
        assert (row.id, row.reason, row.close_price, row.net_profit_cents) == (position_id, "SL", D("1.094"), -6_150)
        balance = await client.balance()
        assert (balance.balance_cents, balance.equity_cents, balance.margin_cents) == (4_993_850, 4_993_850, 0)
        assert [line["kind"] for line in ledger(tmp_path)] == ["received", "placed", "edited", "closed"]


async def test_closes_by_hand_by_us_and_by_the_target_say_so(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        by_hand, by_us, _by_target = [await client.open_position(an_order()) for _ in range(3)]
        await broker.close(by_hand)
        await client.close_position(next(one for one in await client.open_positions() if one.id == by_us))
        await broker.price("EURUSD.", "1.13000")
        assert [row.reason for row in await history(client)] == ["MANUAL", "MANUAL", "TP"]


async def test_a_close_of_a_closed_position_is_refused(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await client.open_position(an_order())
        (held,) = await client.open_positions()
        await client.close_position(held)
        with pytest.raises(Refused, match="POSITION_NOT_FOUND"):
            await client.close_position(held)
        with pytest.raises(Refused, match="POSITION_NOT_FOUND"):
            await client.edit_position(held, D("1.09"), D(0))


async def test_a_write_that_names_another_side_or_symbol_is_refused(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await client.open_position(an_order())
        (held,) = await client.open_positions()
        body = {"positionId": held.id, "instrument": "EURUSD.", "orderSide": "SELL", "volume": "0.10"}
        with pytest.raises(Refused, match="POSITION_MISMATCH"):
            await client._write("/position/close", json.dumps(body).encode())
        with pytest.raises(Refused, match="INVALID_VOLUME"):
            await client._write("/position/close", json.dumps(body | {"orderSide": "BUY", "volume": "0.05"}).encode())
        part = json.dumps(body | {"orderSide": "BUY", "volume": 0.04}).encode()
        await client._write("/position/close-partially", part)
        assert (await client.open_positions())[0].volume == D("0.06")


async def test_history_is_cut_by_the_time_of_closing(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await broker.close(await client.open_position(an_order()))
        now = datetime.now(UTC)
        assert await client.closed_positions(now + timedelta(seconds=5), now + timedelta(hours=1)) == ()
        assert await client.closed_positions(now - timedelta(hours=2), now - timedelta(hours=1)) == ()
        assert len(await history(client)) == 1


async def test_everything_the_client_reads_is_there(tmp_path: Path) -> None:
    async with paper.running(tmp_path, speed=100.0) as broker, broker.client() as client:
        listed = await client.instruments()
        assert listed["USDJPY"].broker_symbol == "USDJPY."
        assert (listed["USDJPY"].pip, listed["EURUSD"].contract_size, listed["EURUSD"].leverage) == (
            D("0.01"), D(100_000), D(50),
        )  # fmt: skip
        quotes = await client.quotes(paper.SYMBOLS)
        assert set(quotes) == set(paper.SYMBOLS)
        assert all(quote.ask > quote.bid for quote in quotes.values())
        first = quotes["EURUSD"].bid
        await eventually_async(lambda: broker.venue.market.prices["EURUSD."].bid != first)
        until = datetime.now(UTC)
        days = await client.candles("EURUSD", "D1", until - timedelta(days=60), until)
        assert days[-1].close == D("1.11720") and days[0].at < days[-1].at
        async with paper.browser(broker.url) as http:
            details = (await http.get("/manager/platform-details")).json()
            headers, prefix = client._session.headers, client._session.prefix
            orders = (await http.get(f"{prefix}/active-orders", headers=headers)).json()
            refreshed = await http.post("/manager/refresh-token", headers={"Cookie": headers["Cookie"]})
            http.cookies.clear()
            refused = await http.post("/manager/refresh-token", headers={"Cookie": "co-auth=wrong"})
        assert details["brokerName"] == "Paper (simulated prices)"
        assert orders == {"orders": []}
        assert (refreshed.status_code, refreshed.content, refused.status_code) == (200, b"", 401)


async def test_answers_have_the_fields_and_kinds_of_the_real_ones(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await client.open_position(an_order(tp_price=D(0)))
        await broker.close(await client.open_position(an_order()))
        span = {"from": "2026-01-01T00:00:00Z", "to": "2036-01-01T00:00:00Z"}
        options: dict[str, Any] = {"headers": client._session.headers}
        async with paper.browser(broker.url + client._session.prefix) as http:
            balance = (await http.get("/balance", **options)).json()
            position = (await http.get("/open-positions", **options)).json()["positions"][0]
            row = (await http.post("/closed-positions", json=span, **options)).json()["operations"][0]
            quote = (await http.get("/quotations?symbols=EURUSD.,NOPE.", **options)).json()
    assert set(balance) == {
        "balance", "equity", "freeMargin", "margin", "marginLevel", "credit", "profit", "netProfit", "currency",
        "currencyPrecision",
    }  # fmt: skip
    assert balance["equity"] == "49997.00"
    assert set(position) == {
        "id", "symbol", "alias", "volume", "side", "openTime", "openTimeMillis", "openPrice", "stopLoss", "takeProfit",
        "currentPrice", "swap", "commission", "profit", "netProfit",
    }  # fmt: skip
    assert (position["volume"], position["takeProfit"], position["side"]) == ("0.10", "0", "BUY")
    assert set(row) == {
        "id", "uid", "closingOrderID", "symbol", "volume", "side", "openTime", "time", "openPrice", "closePrice",
        "profit", "netProfit", "swap", "commission", "closeReason",
    }  # fmt: skip
    assert [set(one) for one in quote] == [{"symbol", "bid", "ask", "change", "high", "low", "timestampMs"}]


async def test_swaps_are_shown_by_the_position_and_by_its_closed_row(tmp_path: Path) -> None:
    clock = HeldClock()
    async with paper.running(tmp_path, clock=clock, swap_buy_points=-6.0) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await client.open_position(an_order())
        clock.ahead_s = 7 * 86_400  # seven nights, whenever they begin
        broker.venue.tick()
        (held,) = await client.open_positions()
        # 6 points of a tenth of a lot are 0.60 a night; the spread is 1.00, the commission 0.50.
        assert (held.swap_cents, held.profit_cents, held.net_profit_cents) == (-420, -100, -570)
        assert (await client.balance()).equity_cents == 5_000_000 - 570
        await client.close_partially(held, D("0.05"))
        (held,) = await client.open_positions()
        await client.close_position(held)
        until = clock.now() + timedelta(hours=1)
        rows = await client.closed_positions(until - timedelta(days=1), until)
        assert [(row.swap_cents, row.net_profit_cents) for row in rows] == [(-210, -285), (-210, -285)]
        assert (await client.balance()).balance_cents == 5_000_000 - 570


async def test_below_the_margin_call_the_level_is_shown_and_orders_are_refused(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await client.open_position(an_order(volume=D(20), sl_price=D("1.05")))
        await broker.price("EURUSD.", "1.09000")
        async with paper.browser(broker.url + client._session.prefix) as http:
            said = (await http.get("/balance", headers=client._session.headers)).json()
        # 20 lots: margin 20 x 109,005 / 50; equity 50,000 - 20,200 - 100.
        assert (said["margin"], said["equity"], said["marginLevel"]) == ("43602.00", "29700.00", "68.12")
        with pytest.raises(Refused, match="MARGIN_CALL"):
            await client.open_position(an_order(volume=D("0.01"), sl_price=D("1.08")))
        assert len(await client.open_positions()) == 1


async def test_what_the_server_remembers_of_its_clients_is_limited(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await client.login()
        first, prefix = client._session.headers, client._session.prefix
        broker_id, email = broker.settings.broker_id, broker.settings.email
        async with paper.browser(broker.url) as http:
            assert (await http.get(f"{prefix}/balance", headers=first)).status_code == 200
            for _ in range(access.LOGINS_MAX):
                body = {"email": email, "password": "x", "brokerId": broker_id}
                assert (await http.post("/manager/mtr-login", json=body)).status_code == 200
            http.cookies.clear()
            assert (await http.get(f"{prefix}/balance", headers=first)).status_code == 401


async def test_a_token_ends_after_fifteen_minutes(tmp_path: Path) -> None:
    clock = HeldClock()
    async with paper.running(tmp_path, clock=clock) as broker, broker.client() as client:
        await client.login()
        headers, prefix = client._session.headers, client._session.prefix
        clock.ahead_s = 901
        async with paper.browser(broker.url) as http:
            assert (await http.get(f"{prefix}/balance", headers=headers)).status_code == 401
        assert (await client.balance()).currency == "USD"


# ── misbehaviour ────────────────────────────────────────────────────────────


async def test_an_order_that_a_fault_hits_is_sent_once_and_judged_right(tmp_path: Path) -> None:
    placed_but_unknown = (
        "lose_answer_reset", "lose_answer_timeout", "empty_200", "html_200", "html_502", "redirect",
        "ok_without_order_id", "huge_200",
    )  # fmt: skip
    not_placed_but_unknown = ("drop_unplaced", "status_503", "html_403", "html_400", "401_once", "429")
    cases: list[tuple[str, type[Exception], int]] = [
        *((fault, UnknownOutcome, 1) for fault in placed_but_unknown),
        *((fault, UnknownOutcome, 0) for fault in not_placed_but_unknown),
        ("reject_200", Refused, 0),
    ]
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        for fault, error, placed in cases:
            before = len(broker.venue.book.holdings)
            await broker.fault(fault)
            with pytest.raises(error):
                await client.open_position(an_order())
            assert len(await client.open_positions()) == before + placed, fault
            assert await client.open_position(an_order()), fault
        placements = [line for line in ledger(tmp_path) if line["kind"] == "placed"]
        assert len(placements) == len(broker.venue.book.holdings) == len(placed_but_unknown) + len(cases)


async def test_an_order_can_be_placed_long_after_its_connection_died(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await broker.fault("place_late", seconds=0.3)
        with pytest.raises(UnknownOutcome):
            await client.open_position(an_order())
        assert await client.open_positions() == ()
        await eventually_async(lambda: len(broker.venue.book.holdings) == 1)
        assert len(await client.open_positions()) == 1


async def test_a_position_can_show_later_than_its_order_was_answered(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await broker.fault("hide_position", seconds=0.3)
        position_id = await client.open_position(an_order())
        assert await client.open_positions() == ()
        await eventually_async(lambda: not broker.venue.is_hidden(position_id))
        assert [one.id for one in await client.open_positions()] == [position_id]


async def test_a_broker_can_ignore_the_stop(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await broker.fault("ignore_stop")
        await client.open_position(an_order())
        (held,) = await client.open_positions()
        assert (held.sl_price, held.tp_price) == (None, None)


async def test_edits_and_closes_can_lose_their_answer_too(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await client.open_position(an_order())
        (held,) = await client.open_positions()
        await broker.fault("lose_answer_reset", on="edit")
        with pytest.raises(UnknownOutcome):
            await client.edit_position(held, D("1.08"), D(0))
        assert [one.sl_price for one in await client.open_positions()] == [D("1.08")]
        await broker.fault("lose_answer_reset", on="close")
        with pytest.raises(UnknownOutcome):
            await client.close_position(held)
        assert await client.open_positions() == ()


async def test_a_read_that_a_fault_hits_is_transient_and_the_next_one_works(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await client.instruments()
        for fault in ("lose_answer_reset", "html_502", "html_200", "429", "lose_answer_timeout"):
            await broker.fault(fault, on="read")
            with pytest.raises(Transient):
                await client.open_positions()
            assert await client.open_positions() == ()


async def test_a_slow_order_is_answered_within_the_time_limit(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await broker.fault("slow", seconds=0.2)
        assert await client.open_position(an_order()) == (await client.open_positions())[0].id


async def test_test_controls_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    nonsense: list[tuple[str, dict[str, Any]]] = [
        ("/paper/faults", {"fault": "unheard_of"}),
        ("/paper/faults", {"fault": "slow", "times": 2_000}),
        ("/paper/faults", {"fault": "slow", "more": 1}),
        ("/paper/price", {"symbol": "NOPE.", "bid": "1"}),
        ("/paper/price", {"symbol": "EURUSD.", "bid": "-1"}),
        ("/paper/price", {"symbol": "EURUSD.", "bid": "NaN"}),
        ("/paper/close", {"position_id": "1"}),
    ]
    async with paper.running(tmp_path) as broker:
        async with paper.browser(broker.url) as http:
            for path, body in nonsense:
                assert (await http.post(path, json=body)).status_code == 400, body
