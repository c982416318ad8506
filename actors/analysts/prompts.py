"""What a language model is told: its role, the limits of an answer, and the readings of one signal.

Used by the llm process. Pure. Holds numbers of the market only: nothing about the account, no secret.
"""

from __future__ import annotations

import hashlib
from typing import TypedDict

import msgspec

from actors.analysts import timeframes
from actors.console import text
from bus.records import Signal
from config.settings import Llm

ECHO_CHARS_MAX = 2_000  # of a bad answer, when the model is asked to repair it


class ChatMessage(TypedDict):
    """One message of a chat completion request."""

    role: str
    content: str


_SYSTEM = """You are a careful FX analyst. You judge one trade idea on {bars} and answer with one JSON object.

Fields, in this order:
- reason: what speaks for and against the trade, at most 100 words. It must agree with the side.
- side: "BUY", "SELL" or "HOLD". HOLD whenever the readings disagree or you are not sure.
- sl_pips: distance of the stop in pips, from {low} to {high} x the {volatility}; null for HOLD.
- tp_pips: distance of the target in pips, at least {ratio} x sl_pips and at most {far} x the {volatility};
  null for HOLD.
- confidence: from 0 to 1.

Position size, leverage and account limits are none of your business. Answer with the JSON object and nothing else."""

_MEANINGS = {
    "ret_1": "return of the last bar",
    "ret_5": "return over 5 bars",
    "ret_20": "return over 20 bars",
    "ret_60": "return over 60 bars",
    "momentum_250": "return over 250 bars",
    "sma_20_dist": "close over its 20-bar mean, minus 1",
    "sma_60_dist": "close over its 60-bar mean, minus 1",
    "rsi_14": "Wilder's RSI, 0 to 100",
    "vol_20": "20-bar volatility, as a fraction a {bar}",
    "vol_ratio_20_120": "20-bar over 120-bar volatility",
    "z_20": "standard deviations from the 20-bar mean",
    "range_60": "place in the 60-bar range, 0 = low, 1 = high",
    "trend": "blend of 60-bar and 250-bar momentum in standard deviations",
}


def ask(signal: Signal, limits: Llm) -> list[ChatMessage]:
    """Return the messages that ask for a decision on a signal."""
    timeframe = signal.timeframe
    system = _SYSTEM.format(
        bars="daily bars" if timeframe == "D1" else f"{timeframes.bar(timeframe)}s",
        volatility=timeframes.volatility(timeframe),
        low=f"{limits.sl_volatility_min:g}",
        high=f"{limits.sl_volatility_max:g}",
        ratio=f"{limits.reward_to_risk_min:g}",
        far=f"{limits.tp_volatility_max:g}",
    )
    return [{"role": "system", "content": system}, {"role": "user", "content": figures(signal, limits)}]


def figures(signal: Signal, limits: Llm) -> str:
    """Return what the scanner says of a signal, line by line."""
    volatility = signal.volatility_pips
    meanings = {name: meaning.format(bar=timeframes.bar(signal.timeframe)) for name, meaning in _MEANINGS.items()}
    lines = [
        f"Pair: {signal.symbol}, bars: {signal.timeframe} up to {signal.bar_time}, source: {signal.source}",
        f"Close: {signal.close:g}; {timeframes.volatility(signal.timeframe)}: {volatility:.1f} pips; allowed stop: "
        f"{limits.sl_volatility_min * volatility:.1f} to {limits.sl_volatility_max * volatility:.1f} pips",
        f"Scanner: side hint {signal.side_hint}, score {signal.score:+.4f}, clarity of the ranking {signal.confidence}",
        "Readings:",
        *(f"- {name}: {value:+.4f} ({meanings.get(name, name)})" for name, value in sorted(signal.features.items())),
    ]
    return "\n".join(lines)


def repair(asked: list[ChatMessage], answer: str, problem: str) -> list[ChatMessage]:
    """Return the messages that ask once more, saying what was wrong."""
    echoed = text.clean(answer, ECHO_CHARS_MAX)
    # An empty assistant message is refused by some endpoints.
    echo: list[ChatMessage] = [{"role": "assistant", "content": echoed}] if echoed else []
    again = (
        f"That was no valid answer: {problem}. Answer again with one JSON object of the fields above and nothing else."
    )
    return [*asked, *echo, {"role": "user", "content": again}]


def with_schema(asked: list[ChatMessage], schema: dict[str, object]) -> list[ChatMessage]:
    """Return the messages with the answer's JSON schema written into the first one."""
    told = f"{asked[0]['content']}\n\nJSON schema of the answer:\n{msgspec.json.encode(schema).decode()}"
    return [{"role": asked[0]["role"], "content": told}, *asked[1:]]


def digest(asked: list[ChatMessage]) -> str:
    """Return the SHA-256 of the messages: it names a prompt in the audit without repeating it."""
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()
