"""An order to halt, as the monitor gives it. Pure; library of the monitor."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from bus import messages
from bus.clock import iso


class Order(Struct, frozen=True, kw_only=True):
    """Why new orders must stop. `until` None: hard, until the operator lifts it; else soft until then."""

    key: str  # what it is known by: the reason's beginning, up to its colon
    text: str
    until: datetime | None
    flatten: bool = False  # every position is closed, too, and what appears later

    @property
    def reason(self) -> str:
        return f"{self.key}: {self.text}"

    def command(self) -> messages.RaiseHalt:
        """Return the order as the store takes it."""
        if self.until is None:
            return messages.RaiseHalt(level="hard", reason=self.reason, flatten=self.flatten)
        return messages.RaiseHalt(level="soft", reason=self.reason, until=iso(self.until), flatten=self.flatten)
