"""What became of an order that carried a key: the same answer again, whatever happened in between.

Used by the paper broker's `trader_routes`. A position keeps the key of the order that it came from, in the account's
own file: a kill leaves both or neither. A refusal is remembered in memory only; after a restart the order is decided
anew, as a broker that forgets refusals does.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import OrderedDict

from actors.broker.paper.values import Rejected
from actors.broker.paper.venue import Venue

REFUSALS_MAX = 10_000


def is_key(text: str) -> bool:
    """Return whether this is a UUID as the API wants it."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def with_body(key: str, body: bytes) -> str:
    """Return the key together with what was asked, as a position keeps it; empty without a key."""
    return f"{key} {hashlib.sha256(body).hexdigest()[:16]}" if key else ""


class Keys:
    """The keys of one account."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._refused: OrderedDict[str, Rejected] = OrderedDict()

    def answer(self, key: str) -> str | Rejected | None:
        """Return the id of the position that came of it, the refusal, or None. `key` is as `with_body` returns it."""
        found = next((identity for known, identity in self._known() if key and known == key), None)
        return found or self._refused.get(key)

    def refused(self, key: str, refusal: Rejected) -> None:
        """Remember a refusal."""
        if key:
            self._refused[key] = refusal
            while len(self._refused) > REFUSALS_MAX:
                self._refused.popitem(last=False)

    def is_used_otherwise(self, key: str) -> bool:
        """Return whether the key came with another request before."""
        name, _, _ = key.partition(" ")
        known = (*(one for one, _ in self._known()), *self._refused)
        return any(one.startswith(f"{name} ") and one != key for one in known) if name else False

    def _known(self) -> list[tuple[str, str]]:
        """Return key and id of every position, open and closed."""
        book = self._venue.book
        return [(one.key, one.id) for one in book.holdings] + [(one.key, one.id) for one in book.history]
