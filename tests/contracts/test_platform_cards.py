"""One card an endpoint of the Platform API: on recorded answers, and on the paper broker where it has the route."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.broker import reading, reconcile, wire
from actors.broker.errors import NotSent, Refused, Transient, Unauthorised, UnknownOutcome, Unreadable
from tests.kit import cards, paper, scripted
from tests.kit.cards import HELD, READS, WAITING, WRITES, Card, WriteCard
from tests.kit.scripted import reply, scene

D = Decimal
OK = {"status": "OK", "nativeCode": None, "errorMessage": None, "orderId": "W99"}
WORDS = {"id", "uid", "symbol", "currency", "closingOrderID"}  # these stay strings, be they made of digits or not

each_read = pytest.mark.parametrize("card", READS.values(), ids=READS)
each_write = pytest.mark.parametrize("card", WRITES.values(), ids=WRITES)


def changed(said: Any, change: Callable[[str, Any], Any], name: str = "") -> Any:
    """Return the answer with every value changed, however deep."""
    if isinstance(said, dict):
        return {key: changed(value, change, key) for key, value in said.items()}
    if isinstance(said, list):
        return [changed(value, change, name) for value in said]
    return change(name, said)


def as_number(name: str, value: Any) -> Any:
    try:
        return value if name in WORDS or not isinstance(value, str) else float(value)
    except ValueError:
        return value


def as_string(name: str, value: Any) -> Any:
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def with_more(said: Any) -> Any:
    """Return the answer with fields nobody knows in every object."""
    if isinstance(said, dict):
        return {"": None, "zzz": [{"positions": []}]} | {key: with_more(value) for key, value in said.items()}
    return [with_more(value) for value in said] if isinstance(said, list) else said


def without(said: Any, path: str) -> Any:
    """Return the answer without the field at a path such as `positions.0.id`."""
    *way, last = path.split(".")
    left = inside = copy.deepcopy(said)
    for step in way:
        inside = inside[int(step)] if isinstance(inside, list) else inside[step]
    del inside[last]
    return left


async def read_of(card: Card, answer: Any) -> Any:
    async with scene() as (server, client, _):
        server.on(card.path, reply(200, answer))
        found = await card.read(client)
        asked = server.asked[-1]
        assert (asked.method, asked.path.partition("?")[0]) == (
            card.method, f"/mtr-api/{scripted.SYSTEM}{card.path}",
        )  # fmt: skip
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
@pytest.mark.parametrize("wrong", [None, "OK", 7, True, {"status": "OK"}, [[]], [None]])
async def test_answer_of_another_shape_is_no_answer_and_never_an_empty_one(card: Card, wrong: Any) -> None:
    with pytest.raises(Unreadable):
        await read_of(card, wrong)


# ── instruments and logins, recorded ────────────────────────────────────────


async def listed(*rows: Any) -> dict[str, wire.Instrument]:
    async with scene() as (server, client, _):
        server.on("/effective-instruments", reply(200, list(rows)))
        return await client.instruments()


@pytest.mark.parametrize("name", cards.INSTRUMENT_NEEDED)
async def test_instrument_without_a_needed_field_cannot_be_traded_and_says_so(name: str) -> None:
    async with scene() as (server, client, _):
        server.on("/effective-instruments", reply(200, [without(cards.INSTRUMENT, name)]))
        with pytest.raises(Refused, match=f"`{name}`"):
            await client.quotes(["EURUSD"])


async def test_recorded_instrument_is_read_with_strings_numbers_and_more_fields() -> None:
    for row in (
        cards.INSTRUMENT,
        changed(cards.INSTRUMENT, as_number),
        changed(cards.INSTRUMENT, as_string),
        with_more(cards.INSTRUMENT),
    ):
        assert await listed(row) == {"EURUSD": cards.LISTED}


@pytest.mark.parametrize("path", ["token", "offer", "offer.system", "offer.system.uuid", "tradingApiToken"])
async def test_login_without_a_needed_field_names_it(path: str) -> None:
    said = scripted.a_login()
    where = path if path == "token" else f"accounts.1.{path}"
    async with scene() as (server, client, _):
        server.on("/mtr-login", reply(200, without(said, where)))
        with pytest.raises(Unreadable, match=f"`{path.split('.')[-1]}`"):
            await client.login()


@pytest.mark.parametrize("name", ["accounts", "tradingAccounts"])
async def test_login_is_read_under_both_names_of_its_list_with_more_fields(name: str) -> None:
    async with scene() as (server, client, _):
        server.on("/mtr-login", reply(200, with_more(scripted.a_login(name=name) | {"selectedTradingAccount": None})))
        server.on("/balance", reply(200, cards.BALANCE))
        await client.balance()
        assert server.asked[-1].headers["auth-trading-api"] == "trading-token"


async def test_broker_that_refuses_every_token_is_not_asked_for_one_with_every_read() -> None:
    async with scene() as (server, client, clock):
        server.on("/balance", reply(401, {}))
        for _ in range(20):
            with pytest.raises(Unauthorised):
                await client.balance()
        assert server.count("/mtr-login") == 1 + 12
        clock.ahead_s = 850  # the token ends: a login at its end is not put off
        with pytest.raises(Unauthorised, match="valid tokens within an hour"):
            await client.balance()
        assert server.count("/mtr-login") == 2 + 12
        server.on("/balance", reply(200, cards.BALANCE))
        assert (await client.balance()).currency == "USD"
        clock.ahead_s = 3_700
        server.on("/balance", reply(401, {}), reply(200, cards.BALANCE))
        assert (await client.balance()).currency == "USD"


# ── history in pieces ───────────────────────────────────────────────────────


def an_operation(**changes: Any) -> dict[str, Any]:
    return cards.OPERATION | changes


async def test_history_longer_than_31_days_is_asked_for_in_pieces_without_gaps() -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    first, second = an_operation(id="1", time="2026-02-01T00:00:00Z"), an_operation(id="2", time="2026-01-05T00:00:00Z")
    third = an_operation(id="3", time="2026-03-01T00:00:00Z")
    async with scene() as (server, client, _):
        server.on(
            "/closed-positions",
            *(reply(200, {"operations": rows}) for rows in ([first, second], [third, first], [])),
        )
        rows = await client.closed_positions(since, since + timedelta(days=70))
        assert [row.id for row in rows] == ["2", "1", "3"]
        spans = [json.loads(one.body) for one in server.asked if one.path.endswith("/closed-positions")]
    assert [datetime.fromisoformat(span["from"]) for span in spans] == [since + timedelta(days=n) for n in (0, 31, 62)]
    assert [span["to"] for span in spans[:-1]] == [span["from"] for span in spans[1:]]
    assert datetime.fromisoformat(spans[-1]["to"]) == since + timedelta(days=70)


async def test_a_span_of_31_days_is_one_request_and_one_of_a_wrong_clock_a_bounded_number() -> None:
    for days, requests in ((-1, 1), (0, 1), (31, 1), (32, 2), (30_000, 24)):
        async with scene() as (server, client, _):
            server.on("/closed-positions", reply(200, {"operations": []}))
            since = datetime(1990, 1, 1, tzinfo=UTC)
            assert await client.closed_positions(since, since + timedelta(days=days)) == ()
            assert server.count("/closed-positions") == requests
            last = json.loads(server.asked[-1].body)["to"]
            assert datetime.fromisoformat(last) == since + timedelta(days=days)


def test_pieces_that_do_not_divide_evenly_are_not_one_more() -> None:
    since = datetime(1990, 1, 1, tzinfo=UTC)
    pieces = reading.pieces(since, until := since + timedelta(days=30_000, microseconds=5))
    assert (len(pieces), pieces[0][0], pieces[-1][1]) == (24, since, until)


async def test_a_repeated_row_counts_once_and_two_equal_parts_of_a_position_twice() -> None:
    part, other_part = an_operation(), an_operation(uid="9b1e", closingOrderID="W4713")
    async with scene() as (server, client, _):
        server.on("/closed-positions", reply(200, {"operations": [part, other_part, part]}))
        rows = await client.closed_positions(cards.SINCE, cards.UNTIL)
        assert [row.id for row in rows] == ["W4711", "W4711"]
        (whole,) = reconcile.whole(rows)
        assert (whole.volume, whole.net_profit_cents) == (2 * rows[0].volume, 2 * rows[0].net_profit_cents)


async def test_a_piece_that_fails_makes_no_history() -> None:
    async with scene() as (server, client, _):
        server.on("/closed-positions", reply(200, {"operations": [an_operation()]}), reply(503, {}))
        with pytest.raises(Transient):
            await client.closed_positions(cards.SINCE, cards.SINCE + timedelta(days=40))


# ── writes, recorded ────────────────────────────────────────────────────────


@each_write
@pytest.mark.parametrize(
    "answer",
    [
        {},
        OK | {"errorCode": "UNKNOWN_ERROR"},
        OK | {"status": "PENDING"},
        OK | {"status": "PARTIAL_SUCCESS"},
        OK | {"status": "REJECTED"},
        {"orderId": "W99"},
        [OK],
        None,
    ],
    ids=json.dumps,
)
async def test_answer_that_is_neither_yes_nor_no_is_an_unknown_outcome(card: WriteCard, answer: Any) -> None:
    async with scene() as (server, client, _):
        await client.login()
        server.on(card.path, reply(200, json.dumps(answer).encode()))
        with pytest.raises(UnknownOutcome):
            await card.write(client)
        assert server.count(card.path) == 1


@each_write
async def test_rejected_write_is_refused_in_the_brokers_words(card: WriteCard) -> None:
    async with scene() as (server, client, _):
        await client.login()
        refusal = {"status": "REJECTED", "nativeCode": "NO", "errorMessage": "not now", "orderId": None}
        for answer in (reply(200, with_more(refusal)), reply(400, refusal)):
            server.on(card.path, answer)
            with pytest.raises(Refused, match="NO: not now"):
                await card.write(client)


@each_write
async def test_write_says_its_numbers_exactly_and_takes_an_ok_with_more_fields(card: WriteCard) -> None:
    async with scene() as (server, client, _):
        await client.login()
        server.on(card.path, reply(200, with_more(OK)))
        assert await card.write(client) == card.result
        assert server.asked[-1].path == f"/mtr-api/{scripted.SYSTEM}{card.path}"
        assert server.asked[-1].body.decode() == card.body


@each_write
@pytest.mark.parametrize("status", [200, 204])
async def test_empty_body_is_taken_from_the_edit_of_a_waiting_order_only(card: WriteCard, status: int) -> None:
    async with scene() as (server, client, _):
        await client.login()
        server.on(card.path, reply(status, b""))
        if card.may_say_nothing:
            assert await card.write(client) is None
        else:
            with pytest.raises(UnknownOutcome):
                await card.write(client)
        server.on(card.path, reply(502, b""))
        with pytest.raises(UnknownOutcome):
            await card.write(client)


async def test_writes_whose_numbers_make_no_sense_are_not_sent() -> None:
    async with scene() as (server, client, _):
        await client.login()
        pending = cards.PENDING
        for volume in (D(0), D("-0.1"), D("0.10"), D("0.2"), D("NaN")):
            with pytest.raises(NotSent, match="no part of"):
                await client.close_partially(HELD, volume)
        for changes in ({"activation_price": D(0)}, {"activation_price": D("NaN")}, {"volume": D(0)}):
            with pytest.raises(NotSent, match="no order"):
                await client.create_pending(msgspec.structs.replace(pending, **changes))
        for prices in ((D(0), D(0), D(0)), (D(1), D(-1), D(0)), (D(1), D(0), D("Infinity"))):
            with pytest.raises(NotSent, match="no prices"):
                await client.edit_pending(WAITING, *prices)
        assert (len(server.asked), server.budget.writes) == (1, 0)


async def test_waiting_order_is_an_order_and_never_logs_in_first() -> None:
    async with scene() as (server, client, _):
        with pytest.raises(NotSent, match="token has expired"):
            await client.create_pending(cards.PENDING)
        await client.login()
        server.on("/pending-order/create", reply(200, OK | {"orderId": None}))
        with pytest.raises(UnknownOutcome, match="without an orderId"):
            await client.create_pending(cards.PENDING)


# ── the same on the paper broker ────────────────────────────────────────────


def assert_as_promised(found: Any, kind: type[msgspec.Struct]) -> list[Any]:
    """Check what holds for the rows of any broker, and return them."""
    rows = list(found.values()) if isinstance(found, dict) else list(found) if isinstance(found, tuple) else [found]
    for row in rows:
        assert isinstance(row, kind)
        values = msgspec.structs.asdict(row)
        assert msgspec.convert(values, kind) == row, "a value is not of its field's type"
        for name, value in values.items():
            if isinstance(value, datetime):
                assert value.utcoffset() == timedelta(0), name
            if isinstance(value, Decimal):
                assert value.is_finite() and value >= 0, name
        if "broker_symbol" in values:
            assert values["broker_symbol"] == values["symbol"] + "."
    return rows


@each_read
async def test_recorded_result_is_as_promised(card: Card) -> None:
    assert len(assert_as_promised(await read_of(card, card.answer), card.kind)) == 1


async def test_paper_broker_keeps_the_same_promises(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await broker.close(await client.open_position(paper.an_order()))
        await client.open_position(paper.an_order(tp_price=D(0)))
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
        "balance": 1, "quotations": 1, "open-positions": 1, "active-orders": 1, "closed-positions": 1,
    }  # fmt: skip
    assert rows["candles"] and rows["open-positions"][0].tp_price is None
    waits = rows["active-orders"][0]
    assert (waits.kind, waits.side, waits.activation_price, waits.sl_price, waits.tp_price) == (
        "STOP", "BUY", D("1.11"), D("1.1"), None,
    )  # fmt: skip
    assert rows["closed-positions"][0].closed_at >= rows["closed-positions"][0].opened_at


async def test_paper_broker_takes_every_write_it_has_and_the_client_reads_it_back(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        position_id = await client.open_position(paper.an_order())
        (held,) = await client.open_positions()
        await client.edit_position(held, D("1.09500"), D(0))
        await client.close_partially(held, D("0.04"))
        (rest,) = await client.open_positions()
        assert (rest.id, rest.volume, rest.sl_price, rest.tp_price) == (position_id, D("0.06"), D("1.095"), None)
        await client.close_partially(rest, D("0.03"))
        (rest,) = await client.open_positions()
        await client.close_position(rest)
        rows = await paper.history(client)
        assert [(row.id, row.volume) for row in rows] == [
            (position_id, D("0.04")), (position_id, D("0.03")), (position_id, D("0.03")),
        ]  # fmt: skip
        assert sum(row.net_profit_cents for row in rows) == (await client.balance()).balance_cents - 5_000_000


async def test_paper_broker_takes_every_write_of_an_order_that_waits(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        order_id = await client.create_pending(cards.PENDING)
        other_id = await client.create_pending(cards.PENDING)
        waiting, other = await client.pending_orders()
        assert (waiting.id, other.id) == (order_id, other_id)
        await client.edit_pending(waiting, D("1.11500"), D("1.10500"), D("1.13000"))
        await client.cancel_pending(other)
        (waiting,) = await client.pending_orders()
        assert (waiting.activation_price, waiting.sl_price, waiting.tp_price) == (D("1.115"), D("1.105"), D("1.13"))
        await broker.price("EURUSD.", "1.11600")
        assert await client.pending_orders() == ()
        (held,) = await client.open_positions()
        assert (held.id, held.open_price, held.volume, held.sl_price, held.tp_price) == (
            order_id, D("1.11610"), D("0.10"), D("1.105"), D("1.13"),
        )  # fmt: skip
        for gone in (client.cancel_pending(waiting), client.edit_pending(waiting, D("1.2"), D(0), D(0))):
            with pytest.raises(Refused, match="ORDER_NOT_FOUND"):
                await gone
