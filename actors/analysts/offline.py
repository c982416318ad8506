"""The offline analyst: fixed rules on trend and volatility. Not an LLM, and it says so in every report.

Used by the llm process; the default of the paper profile. Deterministic: the same signal gives the same verdict. It
never touches the network and promises no edge.
"""

from __future__ import annotations

import math

import msgspec
from msgspec import Struct

from actors.analysts import distances, timeframes, verdict
from actors.analysts.verdict import Verdict
from bus.records import Signal, TradeIntent
from bus.vocabulary import Side

NAME = "offline rules, not an LLM"
SL_VOLATILITIES = 1.5  # stop, in volatilities of one bar
REWARD_TO_RISK = 2.0
VOLATILITY_RATIO_MAX = 2.0  # 20-bar over 120-bar volatility: above it the market is in turmoil
STRETCH_SD_MAX = 3.0  # distance of the close from its 20-bar mean, in its standard deviations
CONTRADICTIONS_MAX = 2  # of the five trend readings; with more against the side the signal disagrees with itself
MAJORITY_MIN = 4  # of the five, to take a side when the scanner gives none
DEAD_BAND = 0.1  # of one standard deviation of the reading's own horizon: less than that is no trend

# The five trend readings with their horizon in bars. A mean of n closes lags about n / 2 bars.
TREND_BARS = {"ret_20": 20, "ret_60": 60, "sma_20_dist": 10, "sma_60_dist": 30, "momentum_250": 250}
NEEDED = (*TREND_BARS, "vol_20", "vol_ratio_20_120", "z_20")


class Readings(Struct, frozen=True, kw_only=True):
    """What the rules saw. A vote is +1 for up, -1 for down, 0 for within the dead band."""

    votes: dict[str, int]
    side: Side | None  # None: no direction
    agree: int
    against: int
    volatility_ratio: float
    stretch_sd: float  # in the direction of the side


class OfflineAnalyst:
    """Follow the scanner's side unless the trend contradicts it, the market is in turmoil or the move is stretched."""

    name = NAME

    async def start(self) -> None:
        """Do nothing: the rules need nothing."""

    def is_available(self) -> bool:
        """Return True: rules are never away."""
        return True

    async def close(self) -> None:
        """Do nothing."""

    async def analyse(self, intent: TradeIntent, deadline_s: float) -> Verdict:
        """Return the verdict of the rules. An unreadable signal is HOLD."""
        signal = verdict.signal_of(intent)
        return judge(signal) if isinstance(signal, Signal) else verdict.hold(signal.reason)


def judge(signal: Signal) -> Verdict:
    """Return the verdict of the rules on a signal. HOLD when a reading is missing, not finite or off limits."""
    for name in NEEDED:
        if not math.isfinite(signal.features.get(name, math.nan)):
            return verdict.hold(f"The reading {name} is missing or not a finite number.")
    if not (math.isfinite(signal.volatility_pips) and signal.volatility_pips > 0 and signal.features["vol_20"] > 0):
        called = timeframes.volatility(signal.timeframe)
        return verdict.hold(f"The {called} was {signal.volatility_pips} pips; no stop can be set on it.")
    seen = read(signal)
    if reason := _objection(seen):
        return _verdict(signal, seen, verdict.hold(reason))
    sl_pips = distances.pips(signal.volatility_pips, SL_VOLATILITIES)
    word = "up" if seen.side == "BUY" else "down"
    reason = (
        f"{seen.agree} of {len(seen.votes)} trend readings point {word}, {seen.against} the other way; "
        f"volatility is {seen.volatility_ratio:.2f} x its 120-bar level."
    )
    found = Verdict(
        side=seen.side or "HOLD",
        reason=reason,
        confidence=round(seen.agree / len(seen.votes), 2),
        sl_pips=sl_pips,
        tp_pips=round(REWARD_TO_RISK * sl_pips, 1),
    )
    return _verdict(signal, seen, found)


def read(signal: Signal) -> Readings:
    """Return the votes of the five trend readings and the side to test: the scanner's, else a clear majority's.

    A reading votes when it is larger than `DEAD_BAND` standard deviations of a random walk over its horizon.
    """
    features = signal.features
    votes: dict[str, int] = {}
    for name, bars in TREND_BARS.items():
        band = DEAD_BAND * features["vol_20"] * math.sqrt(bars)
        votes[name] = 0 if abs(features[name]) <= band else int(math.copysign(1, features[name]))
    up, down = sum(v > 0 for v in votes.values()), sum(v < 0 for v in votes.values())
    side: Side | None = None
    if signal.side_hint in ("BUY", "SELL"):
        side = "BUY" if signal.side_hint == "BUY" else "SELL"
    elif max(up, down) >= MAJORITY_MIN:
        side = "BUY" if up > down else "SELL"
    return Readings(
        votes=votes,
        side=side,
        agree=down if side == "SELL" else up,
        against=up if side == "SELL" else down,
        volatility_ratio=features["vol_ratio_20_120"],
        stretch_sd=-features["z_20"] if side == "SELL" else features["z_20"],
    )


def _objection(seen: Readings) -> str:
    """Return why there is no trade, or nothing."""
    if seen.side is None:
        return f"The scanner gives no side and fewer than {MAJORITY_MIN} trend readings agree; there is no direction."
    if seen.against > CONTRADICTIONS_MAX:
        return f"{seen.against} trend readings contradict a {seen.side}; allowed: {CONTRADICTIONS_MAX}."
    if seen.agree == 0:
        return f"No trend reading supports a {seen.side}."
    if seen.volatility_ratio > VOLATILITY_RATIO_MAX:
        return f"Volatility is {seen.volatility_ratio:.2f} x its 120-bar level; allowed: {VOLATILITY_RATIO_MAX:g}."
    if seen.stretch_sd > STRETCH_SD_MAX:
        return (
            f"The move is stretched: {seen.stretch_sd:.1f} standard deviations from the 20-bar mean; "
            f"allowed: {STRETCH_SD_MAX:g}."
        )
    return ""


def _verdict(signal: Signal, seen: Readings, found: Verdict) -> Verdict:
    """Return the verdict with its written report and its audit record."""
    state = {"analyst": NAME, "rules": {"sl_volatilities": SL_VOLATILITIES}, "readings": msgspec.to_builtins(seen)}
    return msgspec.structs.replace(
        found, report=_report(signal, seen, found), state_json=msgspec.json.encode(state).decode()
    )


def _report(signal: Signal, seen: Readings, found: Verdict) -> str:
    words = {1: "up", -1: "down", 0: "flat"}
    lines = [
        f"# {signal.symbol}: {found.side}",
        "",
        f"Written by the {NAME}. Bars of {signal.source} up to {signal.bar_time}.",
        "",
        found.reason,
        "",
        "| reading | value | says |",
        "|---|---|---|",
        *(f"| {name} | {signal.features[name]:+.4f} | {words[vote]} |" for name, vote in seen.votes.items()),
        f"| vol_ratio_20_120 | {seen.volatility_ratio:.2f} | at most {VOLATILITY_RATIO_MAX:g} |",
        f"| z_20 | {signal.features['z_20']:+.2f} | at most {STRETCH_SD_MAX:g} in the trade's direction |",
        f"| scanner | {signal.score:+.4f} | {signal.side_hint}, {signal.confidence} |",
    ]
    if found.side != "HOLD":
        lines += [
            "",
            f"Stop {found.sl_pips:g} pips ({SL_VOLATILITIES:g} x the {timeframes.volatility(signal.timeframe)}, "
            f"{signal.volatility_pips:.1f} pips), target {found.tp_pips:g} pips ({REWARD_TO_RISK:g} x the stop).",
        ]
    return "\n".join(lines) + "\n"
