"""Builders of signals and intents for tests of the analysts, and a store that grants them every call."""

from __future__ import annotations

from typing import Any

import msgspec

from bus import messages
from bus.records import Signal, TradeIntent
from bus.vocabulary import Outcome, Status

TREND_UP = {
    "ret_5": 0.004, "ret_20": 0.012, "ret_60": 0.03, "sma_20_dist": 0.006, "sma_60_dist": 0.014, "rsi_14": 61.0,
    "vol_20": 0.004, "vol_ratio_20_120": 1.05, "z_20": 1.2, "momentum_250": 0.06,
}  # fmt: skip
DIRECTED = ("ret_5", "ret_20", "ret_60", "sma_20_dist", "sma_60_dist", "z_20", "momentum_250")


def a_signal(**changes: Any) -> Signal:
    """Return a clear BUY of EURUSD with a daily volatility of 40 pips. `features` are merged into the usual ones."""
    features = TREND_UP | changes.pop("features", {})
    usual: dict[str, Any] = {
        "symbol": "EURUSD", "timeframe": "D1", "bar_time": "2026-10-30", "score": 0.42, "confidence": "high",
        "score_gap": 0.1, "drop_distance": 0.2, "topk_spread": 0.3, "side_hint": "BUY", "close": 1.0851,
        "volatility_pips": 40.0, "source": "ecb", "model_id": "test",
    }  # fmt: skip
    return Signal(**(usual | changes), features=features)


def turned(signal: Signal) -> Signal:
    """Return the same signal the other way round: every direction has the opposite sign."""
    opposite = {"BUY": "SELL", "SELL": "BUY", "HOLD": "HOLD"}
    features = {name: -value if name in DIRECTED else value for name, value in signal.features.items()}
    return msgspec.structs.replace(signal, side_hint=opposite[signal.side_hint], features=features)


def an_intent(signal: Signal | None = None, **changes: Any) -> TradeIntent:
    """Return a claimed intent of a signal."""
    found = signal or a_signal()
    usual: dict[str, Any] = {
        "id": "0123456789abcdef", "created_at": "2026-11-02T06:00:00.000Z", "trade_date": "2026-11-02",
        "symbol": found.symbol, "signal_json": msgspec.json.encode(found).decode(), "status": Status.CLAIMED,
        "epoch": 1, "attempts": 1,
    }  # fmt: skip
    return TradeIntent(**(usual | changes))


async def granted(command: messages.Command) -> messages.Ack:
    """Answer as a store without limits does."""
    return messages.Ack(id="x", outcome=Outcome.APPLIED)
