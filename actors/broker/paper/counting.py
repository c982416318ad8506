"""How many requests the paper broker received in this life, counted when they arrive, whatever then becomes of them.

Used by `routes`, only when faults are on: tests hold it against what the store says was granted. The controls under
/paper are not the broker's, and not counted.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

PLATFORM = ("/mtr-api/", "/manager/", "/mtr-core-edge/")


class Received:
    """Reads and writes, as the rules of the firms tell them apart: orders, edits, closes and cancels are writes."""

    def __init__(self) -> None:
        self.reads = 0
        self.writes = 0

    def count(self, method: str, path: str) -> None:
        """Count a request by its method and path. Over the Platform API reads are POSTs, too."""
        if path.startswith("/paper/"):
            return
        is_write = "/position/" in path or "/pending-order/" in path if path.startswith(PLATFORM) else method != "GET"
        if is_write:
            self.writes += 1
        else:
            self.reads += 1


class Counting:
    """Passes every request on and counts it first."""

    def __init__(self, app: ASGIApp, received: Received) -> None:
        self._app = app
        self._received = received

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            self._received.count(scope["method"], scope["path"])
        await self._app(scope, receive, send)
