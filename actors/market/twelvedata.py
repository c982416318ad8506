"""Bars of Twelve Data over its REST interface. Source of paths, fields and errors: twelvedata.com/docs, time series.

Runs in the scanner's child process. The key stands in a header, never in an address or a message. Errors come as JSON
with a code, also with HTTP status 200. One request is one credit; a plan has so many a minute, and we wait for them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from actors.market.cache import Row
from actors.market.errors import BadBars, SourceAway
from actors.market.intervals import Interval
from bus import failpoints, masking
from bus.clock import Clock

INTERVALS: dict[Interval, str] = {"D1": "1day", "H4": "4h", "H1": "1h"}
OUTPUT_MAX = 5_000  # bars of one answer
BODY_BYTES_MAX = 8_000_000
TIMEOUT_S = 20.0
DEADLINE_S = 60.0
MINUTE_S = 61.0  # the plan's minute, and a second for two clocks
QUOTED_CHARS = 200
NO_DATA = "no data is available"
OF_THE_SYMBOL = frozenset({400, 404})


class _Value(Struct, frozen=True):
    datetime: str
    open: float
    high: float
    low: float
    close: float


class _Answer(Struct, frozen=True):
    """Bars, or `code` and `message` of an error."""

    status: str = ""
    code: int = 0
    message: str = ""
    values: tuple[_Value, ...] | None = None


class TwelveData:
    """A `remote.Fetcher`. Use as an async context manager."""

    name = "twelvedata"
    piece_bars = OUTPUT_MAX

    def __init__(
        self, url: str, key: str, *, per_minute: int, clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        self.origin = url
        self._hidden = masking.forms((key,))
        self._clock = clock
        self._sleep = sleep
        self._asked_at: deque[float] = deque(maxlen=per_minute)  # monotonic
        self._client = httpx.AsyncClient(
            base_url=url, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False,
            headers={"Authorization": f"apikey {key}", "Accept": "application/json", "Accept-Encoding": "identity"},
            verify=httpx.create_ssl_context(trust_env=False) if url.startswith("https:") else False,
        )  # fmt: skip

    async def __aenter__(self) -> TwelveData:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def fetch(self, symbol: str, interval: Interval, since: datetime, until: datetime) -> Sequence[Row]:
        """Return the bars of a span, oldest first. Raises BadBars and SourceAway."""
        await self._wait_for_a_credit()
        query = {
            "symbol": f"{symbol[:3]}/{symbol[3:]}",
            "interval": INTERVALS[interval],
            "start_date": f"{since:%Y-%m-%d %H:%M:%S}",
            "end_date": f"{until:%Y-%m-%d %H:%M:%S}",
            "timezone": "UTC",
            "order": "ASC",
            "outputsize": str(OUTPUT_MAX),
        }
        status, body = await self._get(query)
        answer = self._decoded(status, body)
        if answer.status == "error" or answer.code or not 200 <= status < 300:
            return self._refusal(symbol, answer, status)
        if answer.values is None:
            raise SourceAway(f"{self.name}: no values in the answer: {self._quoted(body)}")
        try:
            return [_row(one) for one in answer.values]
        except ValueError as error:
            raise SourceAway(f"{self.name}: {symbol}: {error}") from error

    async def _wait_for_a_credit(self) -> None:
        asked_at, now = self._asked_at, self._clock.monotonic()
        if len(asked_at) == asked_at.maxlen and now - asked_at[0] < MINUTE_S:
            await self._sleep(MINUTE_S - (now - asked_at[0]))
        asked_at.append(self._clock.monotonic())

    async def _get(self, query: dict[str, str]) -> tuple[int, bytes]:
        received = bytearray()
        try:
            failpoints.reach("scan.before_ask")  # one request to Twelve Data
            async with asyncio.timeout(DEADLINE_S):
                async with self._client.stream("GET", "/time_series", params=query) as response:
                    async for chunk in response.aiter_raw():  # as it came: nothing is unpacked
                        received += chunk
                        if len(received) > BODY_BYTES_MAX:
                            raise SourceAway(f"{self.name}: the answer is larger than {BODY_BYTES_MAX} bytes")
            failpoints.reach("scan.after_ask")
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise SourceAway(f"{self.name}: {type(error).__name__}: {self._masked(error)}") from None
        return response.status_code, bytes(received)

    def _decoded(self, status: int, body: bytes) -> _Answer:
        try:
            return msgspec.json.decode(body, type=_Answer, strict=False)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise SourceAway(f"{self.name}: HTTP {status}, not the JSON we know: {self._quoted(body)}") from error

    def _refusal(self, symbol: str, answer: _Answer, status: int) -> Sequence[Row]:
        """Return no bars where there are none in the span; else raise what the error means."""
        code, message = answer.code or status, self._masked(answer.message)
        if code in OF_THE_SYMBOL and NO_DATA in message.lower():
            return []
        if code in OF_THE_SYMBOL:
            raise BadBars(symbol, f"{self.name} refused it: {code}, {message}")
        raise SourceAway(f"{self.name}: {code}, {message}")

    def _quoted(self, body: bytes) -> str:
        return repr(self._masked(body[: 4 * QUOTED_CHARS].decode("utf-8", "replace")))

    def _masked(self, text: Any) -> str:
        return " ".join(masking.over(str(text), self._hidden).split())[:QUOTED_CHARS]


def _row(value: _Value) -> Row:
    """Return a value as a row. Raises ValueError when its time is none."""
    opened = datetime.fromisoformat(value.datetime).replace(tzinfo=UTC)
    return Row(int(opened.timestamp()), value.open, value.high, value.low, value.close)
