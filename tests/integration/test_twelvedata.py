"""Twelve Data against a local server that answers in its documented shape, and in the ways in which it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors.market.cache import Row
from actors.market.errors import BadBars, SourceAway
from actors.market.twelvedata import TwelveData
from tests.kit import quotes_server
from tests.kit.clock import ManualClock
from tests.kit.quotes_server import QuotesServer, error

KEY = "a-key-of-somebody"
SINCE, UNTIL = datetime(2026, 2, 16, 6, tzinfo=UTC), datetime(2026, 2, 16, 12, 0, 30, tzinfo=UTC)
ROWS = [Row(int(SINCE.timestamp()) + n * 3_600, 1.1, 1.11, 1.09, 1.105) for n in range(-3, 8)]


@pytest.fixture
def server() -> Iterator[QuotesServer]:
    with QuotesServer() as found:
        found.rows["EURUSD"] = ROWS
        yield found


class Naps:
    """A sleep that only moves the clock."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.slept_s: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self._clock.advance(seconds)


@pytest.fixture
async def naps() -> Naps:
    return Naps(ManualClock())


@pytest.fixture
async def source(server: QuotesServer, naps: Naps) -> AsyncIterator[TwelveData]:
    async with TwelveData(server.url, KEY, per_minute=8, clock=naps._clock, sleep=naps) as found:
        yield found


async def fetch(source: TwelveData, symbol: str = "EURUSD", interval: Any = "H1") -> list[Row]:
    return list(await source.fetch(symbol, interval, SINCE, UNTIL))


async def test_bars_of_a_span_are_asked_for_in_utc_with_the_key_in_a_header(
    server: QuotesServer, source: TwelveData
) -> None:
    assert await fetch(source) == ROWS[3:10]
    assert server.asked == [
        {
            "path": "/time_series", "symbol": "EUR/USD", "interval": "1h", "start_date": "2026-02-16 06:00:00",
            "end_date": "2026-02-16 12:00:30", "timezone": "UTC", "order": "ASC", "outputsize": "5000",
        }
    ]  # fmt: skip
    assert server.headers[0]["Authorization"] == f"apikey {KEY}"


async def test_daily_bars_have_a_date_and_a_span_without_bars_is_no_error(
    server: QuotesServer, source: TwelveData
) -> None:
    server.rows["EURUSD"] = [Row(int(datetime(2026, 2, 16, tzinfo=UTC).timestamp()), 1.1, 1.11, 1.09, 1.1)]
    days = await source.fetch("EURUSD", "D1", SINCE - timedelta(days=3), UNTIL)
    assert [row.opened for row in days] == [datetime(2026, 2, 16, tzinfo=UTC)]
    assert list(await source.fetch("EURUSD", "H1", UNTIL, UNTIL)) == []


async def test_a_symbol_that_is_not_known_leaves_out_that_symbol_only(source: TwelveData) -> None:
    with pytest.raises(BadBars, match=r"XAUUSD: twelvedata refused it: 404, \*\*symbol\*\*"):
        await fetch(source, "XAUUSD")
    assert await fetch(source)


CREDITS = "You have run out of API credits for the current minute. 9 API credits were used, with the limit being 8."
HTML = b"<html><head><title>502 Bad Gateway</title></head></html>"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (error(401, f"**apikey** parameter is incorrect: {KEY}"), r"401, \*\*apikey\*\* parameter is inc.*: \*\*\*"),
        (error(401, "wrong", status=401), "401, wrong"),
        (error(403, "not in your plan"), "403, not in your plan"),
        (error(429, CREDITS), "429, You have run out of API credits"),
        (error(429, CREDITS, status=429), "429, You have run out"),
        (error(500, "internal"), "500, internal"),
        ((502, "text/html", HTML), "HTTP 502, not the JSON we know: '<html>"),
        ((200, "text/html", HTML), "HTTP 200, not the JSON we know"),
        ((200, "application/json", b'{"status": "ok"}'), "no values in the answer"),
        ((200, "application/json", b'{"values": [{"datetime": "2026'), "not the JSON we know"),
        ((200, "application/json", b'{"meta":' + b"[" * 200_000), "not the JSON we know: '{\"meta\":"),
        ((200, "application/json", b'{"values": [{"datetime": "soon", "open": 1, "high": 1, "low": 1, "close": 1}]}'),
         "EURUSD: Invalid isoformat"),
        ((200, "application/json", b'{"values": [{"datetime": "2026-02-16", "open": null}]}'), "not the JSON we know"),
        ((302, "text/html", b""), "HTTP 302"),
        ((200, "application/json", b" " * 8_000_001), "larger than 8000000 bytes"),
    ],
)  # fmt: skip
async def test_what_it_cannot_answer_takes_the_whole_source_away_and_never_tells_the_key(
    server: QuotesServer, source: TwelveData, answer: quotes_server.Answer, why: str
) -> None:
    server.answer = lambda query: answer
    with pytest.raises(SourceAway, match=why) as caught:
        await fetch(source)
    assert KEY not in str(caught.value)


async def test_an_address_where_nobody_listens_is_away(naps: Naps) -> None:
    async with TwelveData("http://127.0.0.1:9", KEY, per_minute=8, clock=naps._clock, sleep=naps) as source:
        with pytest.raises(SourceAway, match="twelvedata: ConnectError"):
            await fetch(source)


async def test_no_more_is_asked_in_a_minute_than_the_plan_allows(source: TwelveData, naps: Naps) -> None:
    for _ in range(8):
        await fetch(source)
    assert naps.slept_s == []
    naps._clock.advance(20.0)
    await fetch(source)
    assert naps.slept_s == [41.0]
    await fetch(source)
    assert naps.slept_s == [41.0], "the other seven were as long ago"
