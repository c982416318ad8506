"""Numbers that describe a pair: columns for the model, a trend rule for the side, and a small set for the analysts.

Runs in the scanner's child process. Never looks ahead: row t uses bars up to t only. Rows before
the 270th have no complete set and hold NaN.

The model's columns are read *along the trend* from logarithms of closes: what has a direction is multiplied by the sign
of the trend rule. So the ranking asks "how good is the trade that the rule proposes", and quoting a pair the other way
round turns the side but changes no column.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from actors.market import windows
from actors.market.bars import Bars, Floats, pip
from bus.vocabulary import DecisionSide

LOOKBACK = windows.LOOKBACK_BARS  # bars for the first complete row
TREND_FLAT = 0.1  # a weaker trend, in standard deviations of its own window, gives no side
VOLATILITY_BARS = 20

RETURNS = (1, 2, 3, 5, 10, 20, 60, 120, 250)
AVERAGES = (5, 10, 20, 60, 120, 250)
RSI = (7, 14, 28)
RANGES = (10, 20, 60, 120, 250)
SLOPES = (10, 20, 60, 120)
ZSCORES = (20, 60, 120)
RATIOS = ((5, 20), (20, 60), (20, 120), (60, 250))
ACROSS = ("ret_5", "ret_20", "ret_60", "ret_250", "sma_20", "rsi_14", "range_60", "z_20", "vol_20", "trend")

DIRECTED = (
    *(f"ret_{n}" for n in RETURNS),
    *(f"sma_{n}" for n in AVERAGES),
    *(f"rsi_{n}" for n in RSI),
    *(f"range_{n}" for n in RANGES),
    *(f"slope_{n}" for n in SLOPES),
    *(f"z_{n}" for n in ZSCORES),
)
PLAIN = (*(f"r2_{n}" for n in SLOPES), *(f"vol_{a}_{b}" for a, b in RATIOS), "vol_20", "vol_z_250", "trend")
OWN = DIRECTED + PLAIN
COLUMNS = OWN + tuple(f"across_{name}" for name in ACROSS)


def mean(x: Floats, n: int) -> Floats:
    """Return the mean of the last n values at every row; NaN before row n - 1."""
    return _padded(_windows(x, n).mean(axis=-1), len(x))


def deviation(x: Floats, n: int) -> Floats:
    """Return the sample standard deviation (n - 1) of the last n values at every row."""
    return _padded(_windows(x, n).std(axis=-1, ddof=1), len(x))


def change(x: Floats, n: int) -> Floats:
    """Return x[t] - x[t - n]."""
    return _padded(x[n:] - x[:-n], len(x))


def volatility(log_close: Floats, n: int) -> Floats:
    """Return the sample standard deviation of the last n one-bar log returns: a fraction a bar, not annualised."""
    return _padded(deviation(np.diff(log_close), n), len(log_close))


def rsi(x: Floats, n: int) -> Floats:
    """Return Wilder's relative strength index, 0..100; 50 where nothing moved.

    First value at row n from the plain means of n gains and n losses, then avg = (avg * (n - 1) + new) / n.
    Source: J. W. Wilder, New Concepts in Technical Trading Systems (1978).
    """
    steps = np.diff(x)
    found = np.full(len(x), np.nan)
    if len(steps) < n:
        return found
    gain, loss = np.maximum(steps, 0.0), np.maximum(-steps, 0.0)
    up, down = float(gain[:n].mean()), float(loss[:n].mean())
    found[n] = _strength(up, down)
    for row, (g, d) in enumerate(zip(gain[n:].tolist(), loss[n:].tolist(), strict=True), start=n + 1):
        up, down = (up * (n - 1) + g) / n, (down * (n - 1) + d) / n
        found[row] = _strength(up, down)
    return found


def _strength(up: float, down: float) -> float:
    return 100.0 * up / (up + down) if up + down > 0 else 50.0


def range_position(x: Floats, high: Floats, low: Floats, n: int) -> Floats:
    """Return (x - lowest low) / (highest high - lowest low) of the last n bars, 0..1; 0.5 in an empty range."""
    top, bottom = _windows(high, n).max(axis=-1), _windows(low, n).min(axis=-1)
    span = top - bottom
    return _padded(np.where(span > 0, (x[n - 1 :] - bottom) / np.where(span > 0, span, 1.0), 0.5), len(x))


def slope_and_r2(x: Floats, n: int) -> tuple[Floats, Floats]:
    """Return slope a bar and R squared of the least-squares line through the last n values; R squared 0 when flat."""
    at = np.arange(n) - (n - 1) / 2
    windows = _windows(x, n)
    slope = (windows * at).sum(axis=-1) / (at * at).sum()
    total = windows.var(axis=-1) * n
    explained = slope * slope * (at * at).sum()
    r2 = np.where(total > 0, explained / np.where(total > 0, total, 1.0), 0.0)
    return _padded(slope, len(x)), _padded(np.minimum(r2, 1.0), len(x))


def zscore(x: Floats, n: int) -> Floats:
    """Return (x - mean) / sample deviation of the last n values; 0 where they are all equal."""
    spread = deviation(x, n)
    away = x - mean(x, n)
    return np.where(spread == 0, 0.0, away / np.where(spread == 0, 1.0, spread))


def trend(log_close: Floats, noise: Floats | None = None) -> Floats:
    """Return the trend rule: the mean of the 60-bar and the 250-bar momentum, each in its own standard deviations.

    momentum_n = (log close[t] - log close[t - n]) / (60-bar volatility * sqrt(n)). Its sign is the side. `noise` is
    that volatility, for whoever has it.
    """
    noise = volatility(log_close, 60) if noise is None else noise
    noise = np.where(noise > 0, noise, np.nan)
    fast, slow = (change(log_close, n) / (noise * np.sqrt(n)) for n in (60, 250))
    found: Floats = 0.5 * (fast + slow)
    return found


def direction(found_trend: Floats) -> Floats:
    """Return +1 (buy), -1 (sell) or 0 (flat: weaker than `TREND_FLAT`) for values of the trend rule."""
    return np.where(np.abs(found_trend) >= TREND_FLAT, np.sign(found_trend), 0.0)


def side(found_trend: float) -> DecisionSide:
    """Return the side that the trend rule proposes; HOLD when it is flat."""
    if abs(found_trend) < TREND_FLAT:
        return "HOLD"
    return "BUY" if found_trend > 0 else "SELL"


def own_columns(bars: Bars) -> Floats:
    """Return the columns `OWN` of one pair, shape (bars, len(OWN)). Directed ones are along the trend."""
    x, high, low = np.log(bars.close), np.log(bars.high), np.log(bars.low)
    noise = {n: volatility(x, n) for n in (5, 20, 60, 120, 250)}
    unit = np.where(noise[60] > 0, noise[60], np.nan)  # no column can be computed for a pair that does not move
    lines = {n: slope_and_r2(x, n) for n in SLOPES}
    rule = trend(x, noise[60])
    directed = [
        *(change(x, n) / (unit * np.sqrt(n)) for n in RETURNS),
        *((x - mean(x, n)) / (unit * np.sqrt(n)) for n in AVERAGES),
        *(rsi(x, n) / 50.0 - 1.0 for n in RSI),
        *(2.0 * range_position(x, high, low, n) - 1.0 for n in RANGES),
        *(lines[n][0] * np.sqrt(n) / unit for n in SLOPES),
        *(zscore(x, n) for n in ZSCORES),
    ]
    plain = [
        *(lines[n][1] for n in SLOPES),
        *(np.log(noise[a] / np.where(noise[b] > 0, noise[b], np.nan)) for a, b in RATIOS),
        noise[20],
        zscore(noise[20], 250),
        np.abs(rule),
    ]
    # A blend of exactly no side still needs a sign, or the columns of flat pairs would all be 0.
    sign = np.where(np.isnan(rule), np.nan, np.where(rule < 0, -1.0, 1.0))
    return np.column_stack([column * sign for column in directed] + plain)


def across(own: Floats) -> Floats:
    """Return z-scores across pairs of the columns `ACROSS`, shape (days, pairs, len(ACROSS)); 0 where all are equal.

    `own` has shape (days, pairs, len(OWN)).
    """
    picked = own[:, :, [OWN.index(name) for name in ACROSS]]
    away = picked - picked.mean(axis=1, keepdims=True)
    spread = picked.std(axis=1, keepdims=True)
    return np.where(spread == 0, 0.0, away / np.where(spread == 0, 1.0, spread))


def for_analysts(bars: Bars) -> dict[str, float]:
    """Return what an analyst sees of the newest bar, in plain units and not along the trend.

    ret_n and momentum_250: close / close n bars before - 1. sma_n_dist: close / mean of n closes - 1. rsi_14: 0..100.
    vol_20: fraction a bar. vol_ratio_20_120: 20-bar over 120-bar volatility. z_20: deviations from the 20-bar mean.
    trend: the rule that gives the side hint. range_60: 0 at the 60-bar low, 1 at the high.
    """
    close, x = bars.close, np.log(bars.close)
    slow = volatility(x, 120)[-1]
    found = {
        **{f"ret_{n}": close[-1] / close[-1 - n] - 1 for n in (1, 5, 20, 60)},
        "momentum_250": close[-1] / close[-1 - 250] - 1,
        **{f"sma_{n}_dist": close[-1] / close[-n:].mean() - 1 for n in (20, 60)},
        "rsi_14": rsi(close, 14)[-1],
        "vol_20": volatility(x, VOLATILITY_BARS)[-1],
        "vol_ratio_20_120": volatility(x, 20)[-1] / slow if slow > 0 else 1.0,
        "z_20": zscore(close, 20)[-1],
        "range_60": range_position(close, bars.high, bars.low, 60)[-1],
        "trend": trend(x)[-1],
    }
    return {name: float(value) for name, value in found.items()}


def volatility_pips(bars: Bars) -> float:
    """Return the 20-bar close-to-close volatility at the newest close, in pips a bar."""
    return float(volatility(np.log(bars.close), VOLATILITY_BARS)[-1] * bars.close[-1] / pip(bars.symbol))


def _windows(x: Floats, n: int) -> Floats:
    """Return every run of n values, shape (len(x) - n + 1, n); none when there are fewer than n."""
    return sliding_window_view(x, n) if len(x) >= n else np.empty((0, n))


def _padded(found: Floats, length: int) -> Floats:
    """Put NaN in front, so that row t of the result belongs to bar t."""
    return np.concatenate([np.full(length - len(found), np.nan), found])
