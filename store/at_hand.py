"""The live intents that were changed last, kept beside their rows. Part of the store's writer; writes nothing."""

from __future__ import annotations

from bus.records import TradeIntent
from store.queries import Reader
from store.states import FINAL

KEPT_MAX = 1_024
PAPER_CHARS_MAX = 8_192  # of an intent that is kept: together at most 8 MB


class AtHand:
    """The live intents that were changed last, as their rows are, so that the next arrow need not read them.

    The rows are the truth: an arrow changes its row only where status and epoch are those of the record it was judged
    by. Whatever else changes a row, or takes a change back, must call `forget`.
    """

    def __init__(self, read: Reader) -> None:
        self._read = read
        self._kept: dict[str, TradeIntent] = {}

    def get(self, intent_id: str) -> TradeIntent | None:
        """Return an intent as its row is in this transaction."""
        if (found := self._kept.get(intent_id)) is None and (found := self._read.intent(intent_id)) is not None:
            self.keep(found)
        return found

    def after(self, intent: TradeIntent) -> TradeIntent:
        """Return an intent as it is after the arrow that it was given to."""
        found = self.get(intent.id)
        assert found is not None
        return found

    def keep(self, intent: TradeIntent) -> None:
        """Remember what the row is now; an intent that has ended, or has long papers, is forgotten instead."""
        self._kept.pop(intent.id, None)
        papers = len(intent.signal_json) + len(intent.agent_risk_report) + len(intent.agent_state_json)
        if intent.status in FINAL or papers + len(intent.compliance_snapshot) > PAPER_CHARS_MAX:
            return
        self._kept[intent.id] = intent
        if len(self._kept) > KEPT_MAX:
            del self._kept[next(iter(self._kept))]

    def forget(self) -> None:
        """Read all of them anew: a savepoint or a transaction was rolled back, or rows were changed beside us."""
        self._kept.clear()
