"""A local server that answers like Twelve Data's time series, or as a test says. Real HTTP on a free loopback port.

Runs in a thread, so that the scanner's child process and synchronous code can ask it, too.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from actors.market.cache import Row

Answer = tuple[int, str, bytes]  # status, content type, body
LENGTHS = {"1day": timedelta(days=1), "4h": timedelta(hours=4), "1h": timedelta(hours=1)}


def error(code: int, message: str, status: int = 200) -> Answer:
    """Return an error in the documented shape, by default under HTTP status 200."""
    return status, "application/json", json.dumps({"code": code, "message": message, "status": "error"}).encode()


def series(query: dict[str, str], rows: list[Row]) -> Answer:
    """Return the bars of the asked span in the documented shape: numbers are texts, times have no zone."""
    since, until = (
        datetime.fromisoformat(query[name]).replace(tzinfo=UTC).timestamp() for name in ("start_date", "end_date")
    )
    form = "%Y-%m-%d" if query["interval"] == "1day" else "%Y-%m-%d %H:%M:%S"
    values = [
        {"datetime": row.opened.strftime(form)} | {name: f"{getattr(row, name):.5f}" for name in Row._fields[1:]}
        for row in rows
        if since <= row.time <= until
    ]
    if not values:
        return error(400, "No data is available on the specified dates. Try setting different start/end dates.")
    base, _, quote = query["symbol"].partition("/")
    meta = {
        "symbol": query["symbol"], "interval": query["interval"], "currency_base": base, "currency_quote": quote,
        "type": "Physical Currency",
    }  # fmt: skip
    return 200, "application/json", json.dumps({"meta": meta, "values": values, "status": "ok"}).encode()


class QuotesServer:
    """`rows` are what it knows by our symbol; `answer`, when set, decides instead."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}
        self.answer: Callable[[dict[str, str]], Answer | None] = lambda query: None
        self.asked: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                address = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(address.query).items()}
                server.asked.append(query | {"path": address.path})
                server.headers.append(dict(self.headers.items()))
                status, kind, body = server.respond(query)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})

    def respond(self, query: dict[str, str]) -> Answer:
        if (said := self.answer(query)) is not None:
            return said
        rows = self.rows.get(query["symbol"].replace("/", ""))
        if rows is None:
            return error(404, "**symbol** or **figi** parameter is missing or invalid. Please provide a valid symbol.")
        return series(query, rows)

    def __enter__(self) -> QuotesServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
