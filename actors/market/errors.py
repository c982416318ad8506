"""What can go wrong between bars and signals.

    MarketError
    ├── BadBars         one symbol's bars cannot be trusted: it is left out of the scan
    │   └── BadBar      because of a bar or a hole that is wrong: it is written down, too
    ├── SourceAway      a whole source of bars cannot be asked now: the next one is
    ├── ScanError       no scan now; `transient` says whether trying again soon can help
    └── ModelMismatch   a saved model is not the one asked for: it is trained again

Read by the scanner and by its child process; imports nothing heavy.
"""

from __future__ import annotations


class MarketError(Exception):
    """Base of the errors of market data, model and ranking."""


class BadBars(MarketError):
    """The bars of one symbol are refused. They are never repaired."""

    def __init__(self, symbol: str, reason: str) -> None:
        super().__init__(f"{symbol}: {reason}")
        self.symbol = symbol
        self.reason = reason


class BadBar(BadBars):
    """A bar, or a hole between two, cannot be what the market did."""


class SourceAway(MarketError):
    """A source answers nothing useful now, whatever the symbol."""


class ScanError(MarketError):
    """There is no ranking now. `transient`: the cause may pass within minutes."""

    def __init__(self, reason: str, *, transient: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.transient = transient


class ModelMismatch(MarketError):
    """A saved model was made from other data, by other code, or is damaged."""
