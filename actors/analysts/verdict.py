"""An analyst's verdict and the checks that a verdict must pass before it may become a trade.

Used by the llm process. Pure: no I/O, no clock. A verdict has no field for volume, leverage or limits, so no analyst
can ask for them. What fails a check is no trade; it is never repaired or clipped.
"""

from __future__ import annotations

import math
import re
from typing import Literal

import msgspec
from msgspec import Struct

from actors.analysts import timeframes
from actors.console import text
from actors.market import pips
from actors.market.errors import BadBars
from bus.records import Signal, TradeIntent
from bus.vocabulary import DecisionSide
from config.settings import Llm

REASON_CHARS_MAX = 2_000
REPORT_CHARS_MAX = 40_000
STATE_CHARS_MAX = 40_000

Rule = Literal[
    "signal", "symbol", "side", "numbers", "confidence", "stop_distance", "reward_to_risk", "target_distance", "price",
    "contradiction",
]  # fmt: skip


class Verdict(Struct, frozen=True, kw_only=True):
    """What an analyst thinks of one intent. HOLD carries no SL and no TP."""

    side: DecisionSide
    reason: str
    confidence: float = 0.0  # 0..1, the analyst's own; recorded, never used for size
    sl_pips: float | None = None
    tp_pips: float | None = None
    report: str = ""  # markdown
    state_json: str = ""  # how the verdict came about, for the audit


class Refusal(Struct, frozen=True, kw_only=True):
    """A verdict that may not become a trade, and why."""

    rule: Rule
    reason: str


def hold(reason: str, *, report: str = "", state_json: str = "") -> Verdict:
    """Return a verdict of no trade."""
    return Verdict(side="HOLD", reason=text.line(reason, REASON_CHARS_MAX), report=report, state_json=state_json)


def signal_of(intent: TradeIntent) -> Signal | Refusal:
    """Return the signal inside an intent, or why there is none to work with."""
    try:
        found = msgspec.json.decode(intent.signal_json, type=Signal)
    # RecursionError: nesting deeper than any signal of ours; it is no DecodeError.
    except (msgspec.DecodeError, RecursionError) as error:
        return Refusal(rule="signal", reason=f"the signal of the intent is unreadable: {error}")
    if found.symbol != intent.symbol:
        return Refusal(rule="symbol", reason=f"the signal is about {found.symbol}, the intent about {intent.symbol}")
    return found


def check(verdict: Verdict, signal: Signal, limits: Llm) -> Verdict | Refusal:
    """Return the verdict when it may become a trade (or is HOLD), else the refusal.

    A stop must lie within `sl_volatility_min` .. `sl_volatility_max` times the volatility of one bar of the signal; the
    target must be at least `reward_to_risk_min` times the stop and at most `tp_volatility_max` times that volatility.
    Counted from the signal's last close, both must be prices. The text must not say the opposite of the side.
    """
    if verdict.side == "HOLD":
        return msgspec.structs.replace(verdict, sl_pips=None, tp_pips=None)
    return (
        _check_numbers(verdict)
        or _check_distances(verdict, signal, limits)
        or _check_prices(verdict, signal)
        or _check_prose(verdict.side, verdict.reason)
        or verdict
    )


def _check_numbers(verdict: Verdict) -> Refusal | None:
    if verdict.side not in ("BUY", "SELL"):
        return Refusal(rule="side", reason=f"side was {verdict.side!r}; allowed: BUY, SELL, HOLD")
    for name, value in (("sl_pips", verdict.sl_pips), ("tp_pips", verdict.tp_pips)):
        if value is None or not math.isfinite(value) or value <= 0:
            return Refusal(rule="numbers", reason=f"{name} was {value}; a {verdict.side} needs a finite number above 0")
    if not (math.isfinite(verdict.confidence) and 0 <= verdict.confidence <= 1):
        return Refusal(rule="confidence", reason=f"confidence was {verdict.confidence}; allowed: 0..1")
    return None


def _check_distances(verdict: Verdict, signal: Signal, limits: Llm) -> Refusal | None:
    volatility = signal.volatility_pips
    if not math.isfinite(volatility) or volatility <= 0:
        return Refusal(
            rule="signal",
            reason=f"the {timeframes.volatility(signal.timeframe)} was {volatility} pips; a stop cannot be judged",
        )
    sl, tp = verdict.sl_pips or 0.0, verdict.tp_pips or 0.0
    low, high = limits.sl_volatility_min * volatility, limits.sl_volatility_max * volatility
    if not low <= sl <= high:
        return Refusal(
            rule="stop_distance",
            reason=f"sl_pips was {sl:g}; allowed: {low:.1f}..{high:.1f} "
            f"({limits.sl_volatility_min:g} to {limits.sl_volatility_max:g} x the volatility of {volatility:.1f} pips)",
        )
    if tp < limits.reward_to_risk_min * sl:
        return Refusal(
            rule="reward_to_risk",
            reason=f"tp_pips was {tp:g} for sl_pips {sl:g}; allowed: at least {limits.reward_to_risk_min * sl:.1f} "
            f"(reward to risk of {limits.reward_to_risk_min:g})",
        )
    if tp > (furthest := limits.tp_volatility_max * volatility):
        return Refusal(
            rule="target_distance",
            reason=f"tp_pips was {tp:g}; allowed: at most {furthest:.1f} "
            f"({limits.tp_volatility_max:g} x the volatility of {volatility:.1f} pips)",
        )
    return None


def _check_prices(verdict: Verdict, signal: Signal) -> Refusal | None:
    """Refuse distances that lead from the last close to something that is no price."""
    close = signal.close
    if not math.isfinite(close) or close <= 0:
        return Refusal(rule="signal", reason=f"the last close was {close}; no stop can be placed from it")
    try:
        pip = pips.pip(signal.symbol)
    except BadBars as error:
        return Refusal(rule="signal", reason=str(error))
    name, below = ("sl_pips", verdict.sl_pips) if verdict.side == "BUY" else ("tp_pips", verdict.tp_pips)
    if close - (below or 0.0) * pip <= 0:
        return Refusal(rule="price", reason=f"{name} was {below:g}; from the close of {close:g} that is no price")
    return None


# ── does the text say the opposite of the side? ─────────────────────────────


def contradiction(side: DecisionSide, prose: str) -> Refusal | None:
    """Return the refusal of a side whose text clearly states another one or advises against it, else None."""
    return _check_prose(side, prose)


_ACTION = r"(?P<act>buy(?:ing)?|sell(?:ing)?|long|short(?:ing)?|hold(?:ing)?)\b"
_LEAD = (
    r"(?:decision|recommendation|verdict|action|conclusion|call|answer|side)\s*(?:is|would be|=|:|-)\s*(?:to\s+|a\s+)?"
    r"|(?:should|would|will|must|let'?s|prefer(?:ring)?\s+to|better\s+to|best\s+to|advise\s+to|decide(?:d)?\s+to)\s+"
    r"(?:go\s+|now\s+)?"
    r"|(?:recommend(?:ed|ing|s)?|favou?r(?:s|ed|ing)?|suggest(?:s|ed|ing)?|prefer(?:s|red|ring)?)\s+(?:to\s+|a\s+|going\s+)*"
    r"|(?:open(?:ing)?|tak(?:e|ing)|enter(?:ing)?|go(?:ing)?)\s+(?:a\s+)?"
)
_SAYS = re.compile(rf"\b(?:{_LEAD})[*_\"'`]*{_ACTION}", re.IGNORECASE)
_DENIES = re.compile(
    r"\b(?:do\s+not|don'?t|should\s+not|shouldn'?t|must\s+not|would\s+not|wouldn'?t|cannot|can'?t|never|not\s+to|avoid"
    rf"|refrain\s+from|against|no\s+reason\s+to)\s+(?:a\s+|go(?:ing)?\s+|open(?:ing)?\s+a\s+)*{_ACTION}",
    re.IGNORECASE,
)
_STAYS_OUT = re.compile(
    r"\b(?:no\s+trade|stay(?:ing)?\s+out|stand(?:ing)?\s+aside|sit(?:ting)?\s+(?:this\s+one\s+)?out|do\s+not\s+trade"
    r"|(?:stay|remain)(?:ing)?\s+(?:on\s+the\s+sidelines|flat|neutral))\b",
    re.IGNORECASE,
)
_UP = re.compile(r"\b(?:bullish|up-?trend|up-?trending|upwards?)\b", re.IGNORECASE)
_DOWN = re.compile(r"\b(?:bearish|down-?trend|down-?trending|downwards?)\b", re.IGNORECASE)
_IN_CAPITALS = re.compile(r"\b(?:BUY|SELL|HOLD)\b")  # the words of the answer's own field
_SIDE_OF = {"buy": "BUY", "long": "BUY", "sell": "SELL", "shor": "SELL", "hold": "HOLD"}


def _check_prose(side: DecisionSide, prose: str) -> Refusal | None:
    """Refuse a text that clearly states another side: one that only describes the other direction counts, too."""
    said = {_side_of(found) for found in _SAYS.finditer(prose)}
    if said - {side}:
        return _contradiction(side, f"states {' and '.join(sorted(said - {side}))}")
    named = set(_IN_CAPITALS.findall(prose))
    if named and side not in named:
        return _contradiction(side, f"names only {' and '.join(sorted(named))}")
    if side in {_side_of(found) for found in _DENIES.finditer(prose)}:
        return _contradiction(side, f"advises against {side}")
    if found := _STAYS_OUT.search(prose):
        return _contradiction(side, f"says {found[0].lower()!r}")
    own, other = (_UP, _DOWN) if side == "BUY" else (_DOWN, _UP)
    if not own.search(prose) and (found := other.search(prose)):
        return _contradiction(side, f"only says {found[0].lower()!r}")
    return None


def _side_of(found: re.Match[str]) -> str:
    word = found["act"].lower()
    return _SIDE_OF["buy" if word.startswith("buy") else word[:4]]


def _contradiction(side: DecisionSide, what: str) -> Refusal:
    return Refusal(rule="contradiction", reason=f"the side is {side} but the text {what}")
