"""One card an endpoint of the Trader API: on recorded answers, and on the paper broker where it has the route."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from actors.broker import reconcile, wire
from actors.broker.errors import (
    Blocked,
    KeyConflict,
    NotSent,
    Refused,
    Transient,
    Unauthorised,
    UnknownOutcome,
    Unreadable,
)
from actors.broker.trader.client import HISTORY_ROWS_MAX, TraderClient
from bus.clock import SystemClock
from config import settings
from config.load import ConfigError
from tests.contracts.test_platform_cards import as_string, assert_as_promised, changed, with_more, without
from tests.kit import cards, paper, scripted
from tests.kit import trader_cards as trader
from tests.kit.scripted import HANG, NESTED, RESET, reply, trader_scene
from tests.kit.trader_cards import HELD, OPEN, READS, WAITING, WRITES, Card, WriteCard, problem

D = Decimal
WORDS = {"id", "uid", "symbol", "currency", "closingOrderId", "login", "comment"}

each_read = pytest.mark.parametrize("card", READS.values(), ids=READS)
each_write = pytest.mark.parametrize("card", WRITES.values(), ids=WRITES)


def as_number(name: str, value: Any) -> Any:
    try:
        return value if name in WORDS or not isinstance(value, str) else float(value)
    except ValueError:
        return value


async def read_of(card: Card, answer: Any) -> Any:
    async with trader_scene() as (server, client, _):
        server.on(card.path, reply(200, answer))
        found = await card.read(client)
        asked = server.asked[-1]
        assert (asked.method, asked.path.partition("?")[0]) == (card.method, card.path)
        assert asked.headers["authorization"] == "Bearer s3cret-token"
        assert server.count(card.path) == 1
        return found


# ── reads, recorded ─────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "path"), [(name, path) for name, card in READS.items() for path in card.needed], ids=str
)
async def test_needed_field_that_is_missing_names_itself(name: str, path: str) -> None:
    with pytest.raises(Unreadable, match=f"`{path.split('.')[-1]}`"):
        await read_of(READS[name], without(READS[name].answer, path))


@each_read
async def test_recorded_answer_is_read_as_written(card: Card) -> None:
    assert await read_of(card, card.answer) == card.expected


@each_read
@pytest.mark.parametrize("change", [as_number, as_string])
async def test_numbers_and_strings_mean_the_same(card: Card, change: Callable[[str, Any], Any]) -> None:
    answer = changed(card.answer, change)
    assert answer != card.answer
    assert await read_of(card, answer) == card.expected


@each_read
async def test_fields_nobody_knows_are_passed_over(card: Card) -> None:
    assert await read_of(card, with_more(card.answer)) == card.expected


@each_read
@pytest.mark.parametrize("wrong", [None, "OK", 7, True, {"status": "OK"}, [[]], [None], []])
async def test_answer_of_another_shape_is_no_answer_and_never_an_empty_one(card: Card, wrong: Any) -> None:
    with pytest.raises(Unreadable):
        await read_of(card, wrong)


@each_read
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply(401, problem(401, "unauthorized")), Unauthorised),
        (reply(403, problem(403, "forbidden")), Unauthorised),
        (reply(401, b""), Unauthorised),
        (reply(403, b"<html>", "text/html"), Blocked),
        (reply(429, problem(429, "too-many-requests"), Retry_After="7"), Transient),
        (reply(503, problem(503, "unheard-of")), Transient),
        (reply(400, problem(400, "trading-validation-failed")), Refused),
        (reply(200, NESTED), Unreadable),
        (RESET, Transient),
    ],
)
async def test_read_that_brings_nothing_says_why(card: Card, answer: bytes, error: type[Exception]) -> None:
    async with trader_scene() as (server, client, _):
        server.on(card.path, answer)
        with pytest.raises(error):
            await card.read(client)
        assert server.count(card.path) == 1


async def test_a_pause_that_the_broker_asks_for_is_told() -> None:
    async with trader_scene() as (server, client, _):
        server.on("/v1/account", reply(429, problem(429, "too-many-requests"), Retry_After="7"))
        with pytest.raises(Transient) as error:
            await client.balance()
        assert error.value.retry_after_s == 7


async def test_token_of_another_account_is_refused_and_no_token_is_ever_shown() -> None:
    async with trader_scene(account_id="8") as (server, client, _):
        server.on("/v1/account", reply(200, trader.ACCOUNT))
        with pytest.raises(Unauthorised, match="'8' is not among the accounts of this token: 7") as error:
            await client.login()
        assert "s3cret" not in str(error.value)


async def test_instruments_are_read_as_of_the_platform_api() -> None:
    async with trader_scene() as (server, client, _):
        server.on("/v1/instruments", reply(200, {"instruments": [with_more(cards.INSTRUMENT)]}))
        assert await client.instruments() == {"EURUSD": cards.LISTED}
        server.on("/v1/instruments", reply(200, [cards.INSTRUMENT]))
        with pytest.raises(Unreadable):
            await client.instruments(0.0)


def test_token_that_no_header_can_carry_is_refused_at_the_start_and_not_shown() -> None:
    broker = settings.Broker(base_url="https://x.example", account_id="7")
    for token in ("", "t\u00f6ken-secret", "token-secret\n", " token-secret"):
        with pytest.raises(ConfigError, match="printable ASCII") as caught:
            TraderClient(broker, token, SystemClock(), paper.Counting())
        assert "-secret" not in str(caught.value)


# ── history and candles in pieces ───────────────────────────────────────────


def query_of(server: scripted.Server, number: int = -1) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(server.asked[number].path).query).items()}


async def test_history_that_may_be_cut_off_is_asked_for_again_in_halves() -> None:
    rows = [trader.ROW | {"id": str(number)} for number in range(HISTORY_ROWS_MAX + 1)]
    async with trader_scene() as (server, client, _):
        full = reply(200, {"closedPositions": rows[:HISTORY_ROWS_MAX]})
        first, second = (reply(200, {"closedPositions": half}) for half in (rows[:300], rows[299:]))
        server.on("/v1/closed-positions", full, first, second)
        found = await client.closed_positions(cards.SINCE, cards.UNTIL)
        assert len({row.id for row in found}) == len(found) == HISTORY_ROWS_MAX + 1
        whole, left, right = (query_of(server, number) for number in (-3, -2, -1))
        assert whole["limit"] == str(HISTORY_ROWS_MAX)
        assert (left["from"], right["from"]) == (whole["from"], str(int(left["to"]) - 1))
        assert right["to"] == whole["to"]


@pytest.mark.parametrize("told_apart_by", [{"uid": "9b1e"}, {"closingOrderId": "W4713"}])
async def test_two_equal_parts_of_a_position_count_twice_and_a_repeated_row_once(told_apart_by: dict[str, str]) -> None:
    async with trader_scene() as (server, client, _):
        rows = [trader.ROW, trader.ROW | told_apart_by, trader.ROW]
        server.on("/v1/closed-positions", reply(200, {"closedPositions": rows}))
        found = await client.closed_positions(cards.SINCE, cards.UNTIL)
        (whole,) = reconcile.whole(found)
        assert (len(found), whole.volume) == (2, 2 * found[0].volume)


async def test_history_without_end_is_no_history() -> None:
    full = reply(200, {"closedPositions": [trader.ROW] * HISTORY_ROWS_MAX})
    async with trader_scene() as (server, client, _):
        server.on("/v1/closed-positions", full)
        with pytest.raises(Unreadable, match=r"rows within|more rows than"):
            await client.closed_positions(cards.SINCE, cards.UNTIL)
        assert server.count("/v1/closed-positions") <= 65


async def test_candles_of_a_long_span_come_in_pieces_and_a_span_without_end_is_refused() -> None:
    async with trader_scene() as (server, client, _):
        server.on("/v1/candles", reply(200, READS["candles"].answer))
        since = cards.OPENED - timedelta(hours=1_000)
        (bar,) = await client.candles("EURUSD", "H1", since, cards.OPENED + timedelta(hours=1))
        assert (bar.at, server.count("/v1/candles")) == (cards.OPENED, 2)
        with pytest.raises(Unreadable, match="more bars than"):
            await client.candles("EURUSD", "M1", since - timedelta(days=30), cards.OPENED)


# ── writes, recorded ────────────────────────────────────────────────────────


@each_write
async def test_write_says_its_numbers_exactly_and_takes_the_documented_success(card: WriteCard) -> None:
    async with trader_scene() as (server, client, _):
        server.on(card.path, reply(card.done, with_more(card.said) if card.said else b""))
        assert await card.write(client) == card.result
        asked = server.asked[-1]
        assert (asked.method, asked.path, asked.body.decode()) == (card.method, card.path, card.body)
        assert asked.headers["authorization"] == "Bearer s3cret-token"
        keyed = trader.KEY if card.path == "/v1/positions" else None
        assert asked.headers.get("idempotency-key") == keyed


@each_write
@pytest.mark.parametrize(
    "answer",
    [
        reply(200, {"positionId": "W99"}),
        reply(202, {"status": "PENDING"}),
        reply(200, b""),
        reply(200, b"<html>", "text/html"),
        reply(201, NESTED),
        reply(307, b"", Location="/v1/positions"),
        reply(400, b"<html>", "text/html"),
        reply(400, {"error": "bad"}),
        reply(400, NESTED),
        reply(400, problem(400, "unheard-of")),
        reply(400, problem(422, "trading-validation-failed")),
        reply(422, problem(422, "trading-validation-failed")),
        reply(400, problem(400, "x", type="error://another-api/trading-validation-failed")),
        reply(401, problem(401, "unauthorized")),
        reply(403, problem(403, "forbidden")),
        reply(403, b"<html>", "text/html"),
        reply(404, problem(404, "position-not-found")),
        reply(409, problem(409, "request-in-progress")),
        reply(429, problem(429, "too-many-requests")),
        reply(500, problem(500, "internal-error")),
        reply(502, b"<html>", "text/html"),
        RESET,
        HANG,
    ],
    ids=range(23),
)
async def test_answer_that_is_no_documented_refusal_leaves_the_write_unknown(card: WriteCard, answer: bytes) -> None:
    async with trader_scene() as (server, client, _):
        server.on(card.path, answer)
        with pytest.raises(UnknownOutcome) as error:
            await card.write(client)
        assert not isinstance(error.value, KeyConflict)
        assert server.count(card.path) == 1


@each_write
async def test_documented_refusal_is_refused_in_the_brokers_words(card: WriteCard) -> None:
    async with trader_scene() as (server, client, _):
        server.on(card.path, reply(400, with_more(problem(400, "trading-validation-failed", detail="not now"))))
        with pytest.raises(Refused, match="trading-validation-failed: not now"):
            await card.write(client)


@pytest.mark.parametrize(("status", "code"), [
    (400, "idempotency-key-invalid"), (409, "idempotency-key-conflict"), (422, "idempotency-key-reused"),
])  # fmt: skip
async def test_objection_to_the_key_is_an_unknown_outcome_of_its_own(status: int, code: str) -> None:
    async with trader_scene() as (server, client, _):
        server.on("/v1/positions", reply(status, problem(status, code)))
        with pytest.raises(KeyConflict, match=code):
            await client.open_position(OPEN)


@pytest.mark.parametrize("said", [b"", b"{}", b'{"positionId": ""}', b'{"positionId": null}', b"[1]", b"\xff", NESTED])
async def test_created_without_an_id_is_an_unknown_outcome(said: bytes) -> None:
    async with trader_scene() as (server, client, _):
        server.on("/v1/positions", reply(201, said))
        with pytest.raises(UnknownOutcome):
            await client.open_position(OPEN)


async def test_id_that_is_a_number_is_one() -> None:
    async with trader_scene() as (server, client, _):
        server.on("/v1/positions", reply(201, {"positionId": 4711}))
        assert await client.open_position(OPEN) == "4711"


async def test_the_same_order_is_the_same_request_byte_for_byte() -> None:
    async with trader_scene() as (server, client, _):
        server.on("/v1/positions", RESET, reply(201, {"positionId": "W99"}))
        with pytest.raises(UnknownOutcome):
            await client.open_position(OPEN)
        assert await client.open_position(OPEN) == "W99"
        first, second = server.asked[-2:]
        assert (first.body, first.headers["idempotency-key"]) == (second.body, second.headers["idempotency-key"])
        assert server.budget.writes == 2


async def test_writes_whose_numbers_make_no_sense_are_not_sent() -> None:
    async with trader_scene() as (server, client, _):
        with pytest.raises(NotSent, match="without a key"):
            await client.open_position(msgspec.structs.replace(OPEN, idempotency_key=""))
        with pytest.raises(NotSent, match="no order"):
            await client.open_position(msgspec.structs.replace(OPEN, volume=D(0)))
        for volume in (D(0), D("0.10"), D("NaN")):
            with pytest.raises(NotSent, match="no part of"):
                await client.close_partially(HELD, volume)
        with pytest.raises(NotSent, match="no order"):
            await client.create_pending(msgspec.structs.replace(cards.PENDING, activation_price=D("NaN")))
        for prices in ((D(0), D(0), D(0)), (D(1), D(-1), D(0)), (D(1), D(0), D("Infinity"))):
            with pytest.raises(NotSent, match="no prices"):
                await client.edit_pending(WAITING, *prices)
        assert (len(server.asked), server.budget.writes) == (0, 0)


async def test_an_id_cannot_lead_a_write_elsewhere() -> None:
    async with trader_scene() as (server, client, _):
        server.on("/close", reply(204))
        await client.close_position(msgspec.structs.replace(HELD, id="../account?x=1"))
        assert server.asked[-1].path == "/v1/positions/..%2Faccount%3Fx%3D1/close"


async def test_read_only_lets_no_write_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOT_READONLY", "1")
    async with trader_scene() as (server, client, _):
        for card in WRITES.values():
            with pytest.raises(NotSent, match="PILOT_READONLY"):
                await card.write(client)
        assert (server.asked, server.budget.writes) == ([], 0)


# ── the same on the paper broker ────────────────────────────────────────────


def an_order(key: str = trader.KEY, **changes: Any) -> wire.OpenRequest:
    return paper.an_order(idempotency_key=key, comment="0123456789abcdef", **changes)


@each_read
async def test_recorded_result_is_as_promised(card: Card) -> None:
    assert len(assert_as_promised(await read_of(card, card.answer), card.kind)) == 1


def over_trader(broker: paper.RunningPaper) -> TraderClient:
    client = broker.account("trader")
    assert isinstance(client, TraderClient)
    return client


async def test_paper_broker_keeps_the_same_promises(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, over_trader(broker) as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await broker.close(await client.open_position(an_order()))
        await client.open_position(an_order("6f1c2d3e-0000-4000-8000-000000000002", tp_price=D(0)))
        await client.create_pending(cards.PENDING)
        now = datetime.now(UTC)
        found = {
            name: await card.read(client) for name, card in READS.items() if name not in ("closed-positions", "candles")
        }
        found["closed-positions"] = await client.closed_positions(now - timedelta(days=40), now + timedelta(days=40))
        found["candles"] = await client.candles("EURUSD", "D1", now - timedelta(days=60), now)
        rows = {name: assert_as_promised(found[name], card.kind) for name, card in READS.items()}
        assert_as_promised(await client.instruments(), wire.Instrument)
    assert {name: len(found) for name, found in rows.items() if name != "candles"} == {
        "account": 1, "quotes": 1, "positions": 1, "pending-orders": 1, "closed-positions": 1,
    }  # fmt: skip
    assert rows["candles"] and rows["positions"][0].tp_price is None
    assert rows["positions"][0].comment == rows["closed-positions"][0].comment == "0123456789abcdef"


async def test_both_apis_of_the_paper_broker_show_one_account(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, over_trader(broker) as client, broker.client() as other:
        await broker.price("EURUSD.", "1.10000")
        await client.open_position(an_order())
        (keyed,), (plain,) = await client.open_positions(), await other.open_positions()
        assert msgspec.structs.replace(keyed, comment="") == plain
        assert await client.balance() == await other.balance()
        await other.close_position(plain)
        assert [row.id for row in await paper.history(client)] == [keyed.id]


async def test_paper_broker_takes_every_write_it_has_and_the_client_reads_it_back(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, over_trader(broker) as client:
        await broker.price("EURUSD.", "1.10000")
        position_id = await client.open_position(an_order())
        (held,) = await client.open_positions()
        await client.edit_position(held, D("1.09500"), D(0))
        await client.close_partially(held, D("0.04"))
        (rest,) = await client.open_positions()
        assert (rest.id, rest.volume, rest.sl_price, rest.tp_price) == (position_id, D("0.06"), D("1.095"), None)
        await client.close_position(rest)
        rows = await paper.history(client)
        assert [(row.id, row.volume) for row in rows] == [(position_id, D("0.04")), (position_id, D("0.06"))]


async def test_paper_broker_takes_every_write_of_an_order_that_waits(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, over_trader(broker) as client:
        await broker.price("EURUSD.", "1.10000")
        order_id = await client.create_pending(cards.PENDING)
        other_id = await client.create_pending(cards.PENDING)
        waiting, other = await client.pending_orders()
        assert (waiting.id, other.id) == (order_id, other_id)
        await client.edit_pending(waiting, D("1.11500"), D("1.10500"), D(0))
        await client.cancel_pending(other)
        (waiting,) = await client.pending_orders()
        assert (waiting.activation_price, waiting.sl_price, waiting.tp_price) == (D("1.115"), D("1.105"), None)
        await broker.price("EURUSD.", "1.11600")
        assert await client.pending_orders() == ()
        assert [(held.id, held.sl_price) for held in await client.open_positions()] == [(order_id, D("1.105"))]
        for gone in (client.cancel_pending(waiting), client.edit_pending(waiting, D("1.2"), D(0), D(0))):
            with pytest.raises(UnknownOutcome, match="pending-order-not-found"):
                await gone


async def test_order_that_comes_again_with_its_key_is_the_same_order_also_after_a_restart(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, over_trader(broker) as client:
        await broker.price("EURUSD.", "1.10000")
        position_id = await client.open_position(an_order())
        assert await client.open_position(an_order()) == position_id
    async with paper.running(tmp_path) as broker, over_trader(broker) as client:
        assert await client.open_position(an_order()) == position_id
        await broker.close(position_id)
        assert await client.open_position(an_order()) == position_id
        assert await client.open_positions() == ()
    async with paper.running(tmp_path) as broker, over_trader(broker) as client:
        assert await client.open_position(an_order()) == position_id
        assert len([row for row in paper.ledger(tmp_path) if row["kind"] == "placed"]) == 1
        received = [row for row in paper.ledger(tmp_path) if row["kind"] == "received"]
        assert [row["key"] for row in received] == [trader.KEY] * 5


async def test_key_of_another_order_is_objected_to_and_opens_nothing(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, over_trader(broker) as client:
        await broker.price("EURUSD.", "1.10000")
        await client.open_position(an_order())
        for other in (an_order(volume=D("0.20")), an_order("no-uuid")):
            with pytest.raises(KeyConflict):
                await client.open_position(other)
        assert len(await client.open_positions()) == 1


async def test_refused_order_that_comes_again_is_refused_again(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, over_trader(broker) as client:
        await broker.price("EURUSD.", "1.10000")
        wrong = an_order(sl_price=D("1.20000"))
        for _ in range(2):
            with pytest.raises(Refused, match="INVALID_STOPS"):
                await client.open_position(wrong)
        await broker.price("EURUSD.", "1.30000")
        with pytest.raises(Refused, match="INVALID_STOPS"):
            await client.open_position(wrong)


async def test_late_order_that_comes_again_meanwhile_is_under_way_and_then_the_same(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, over_trader(broker) as client:
        await broker.price("EURUSD.", "1.10000")
        await broker.fault("place_late", seconds=3_000)
        with pytest.raises(UnknownOutcome):
            await client.open_position(an_order())
        with pytest.raises(UnknownOutcome, match="request-in-progress"):
            await client.open_position(an_order())
        assert await client.open_positions() == ()
    async with paper.running(tmp_path) as broker, over_trader(broker) as client:
        with pytest.raises(UnknownOutcome, match="request-in-progress"):
            await client.open_position(an_order())
        broker.venue._late = [msgspec.structs.replace(one, due_ms=0) for one in broker.venue._late]
        broker.venue.tick()
        (held,) = await client.open_positions()
        assert await client.open_position(an_order()) == held.id


async def test_bearer_token_is_needed_and_a_revoked_one_is_refused_once(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, over_trader(broker) as client:
        async with paper.browser(broker.url) as plain:
            for header in ({}, {"Authorization": "Bearer"}, {"Authorization": "Basic x"}):
                answer = await plain.get("/v1/account", headers=header)
                assert (answer.status_code, answer.json()["type"]) == (401, "error://trader-api/unauthorized")
        await broker.fault("token_revoked", on="balance")
        with pytest.raises(Unauthorised):
            await client.balance()
        assert (await client.balance()).currency == "USD"


def test_cards_and_writes_are_those_of_the_client() -> None:
    assert json.loads(WRITES["open"].body)["comment"] == OPEN.comment
