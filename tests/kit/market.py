"""Builders of bars, CSV folders and scan jobs. Prices are synthetic, from a seed."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from actors.market.bars import Bars
from actors.market.job import ScanJob
from config.settings import Scanner

LAST_DAY = date(2026, 2, 13)  # a Friday
TODAY = date(2026, 2, 14)
FIVE = ("EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "USDCHF")


def business_days(count: int, last: date = LAST_DAY) -> np.ndarray[Any, np.dtype[np.datetime64]]:
    """Return the `count` Mondays to Fridays up to `last`."""
    return np.busday_offset(np.datetime64(last), np.arange(-count + 1, 1), roll="backward").astype("datetime64[D]")


def closes(
    count: int = 700, *, seed: int = 7, first: float = 1.1, drift: float = 0.0
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a random walk with 0.5% a day."""
    steps = np.random.default_rng(seed).normal(drift, 0.005, count)
    found: np.ndarray[Any, np.dtype[np.float64]] = first * np.exp(np.cumsum(steps) - steps[0])
    return found


def some_bars(symbol: str = "EURUSD", count: int = 700, *, last: date = LAST_DAY, **walk: Any) -> Bars:
    """Return close-only bars of a random walk."""
    return Bars.of_closes(symbol, "test", business_days(count, last), closes(count, **walk))


def ohlc_bars(symbol: str = "EURUSD", count: int = 700, *, last: date = LAST_DAY, **walk: Any) -> Bars:
    """Return bars with open, high and low around a random walk."""
    close = closes(count, **walk)
    opened = np.concatenate([close[:1], close[:-1]])
    high, low = np.maximum(opened, close) * 1.001, np.minimum(opened, close) * 0.999
    return Bars(symbol, "test", "D1", business_days(count, last), opened, high, low, close, closes_only=False)


def write_csv(folder: Path, bars: Bars) -> Path:
    """Write SYMBOL.csv as the CSV feed reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{bars.symbol}.csv"
    if bars.closes_only:
        lines = ["time,close", *(f"{t},{c!r}" for t, c in zip(bars.time, bars.close.tolist(), strict=True))]
    else:
        columns = (bars.time, bars.open.tolist(), bars.high.tolist(), bars.low.tolist(), bars.close.tolist())
        lines = [
            "time,open,high,low,close",
            *(f"{t},{o!r},{h!r},{lo!r},{c!r}" for t, o, h, lo, c in zip(*columns, strict=True)),
        ]
    path.write_text("\n".join(lines) + "\n")
    return path


def csv_folder(folder: Path, symbols: tuple[str, ...] = FIVE, count: int = 700, *, last: date = LAST_DAY) -> Path:
    """Write one random walk a symbol and return the folder."""
    for seed, symbol in enumerate(symbols, start=1):
        write_csv(
            folder, some_bars(symbol, count, last=last, seed=seed, first=150.0 if symbol.endswith("JPY") else 1.1)
        )
    return folder


def small_scanner(csv_path: Path, **changes: Any) -> Scanner:
    """Return settings with which a cold scan takes about a second."""
    base: dict[str, Any] = {
        "sources": ("csv",),
        "csv_path": str(csv_path),
        "top_k": 2,
        "history_bars_min": 300,
        "train_bars_max": 400,
        "seeds": 1,
    }
    return Scanner(**(base | changes))


def a_job(tmp_path: Path, scanner: Scanner | None = None, **changes: Any) -> ScanJob:
    """Return a scan of five CSV pairs under `tmp_path`, written unless they are there."""
    folder = tmp_path / "bars"
    if not folder.is_dir():
        csv_folder(folder)
    base: dict[str, Any] = {
        "symbols": FIVE,
        "scanner": scanner or small_scanner(folder),
        "today": TODAY.isoformat(),
        "models_folder": str(tmp_path / "models"),
    }
    return ScanJob(**(base | changes))
