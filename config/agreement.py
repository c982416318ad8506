"""Which settings that are each allowed are not allowed together. Pure; used when a profile is read.

Knows values only: which file they come from is said by whoever read it.
"""

from __future__ import annotations

import math
import re
from datetime import date

from config import addresses
from config.settings import Bus, Settings

ARCHIVE_DAYS_MIN = 90  # far beyond whatever a firm's day, a resend or a broker's history still asks for
DAILY_ONLY = frozenset({"ecb"})
BARS_A_DAY = {"D1": 1, "H4": 6, "H1": 24}


class Disagreement(Exception):
    """Two settings do not go together. The message names the key, what was found and what is allowed."""


def check(found: Settings, *, is_clock_moved: bool) -> None:
    """Return when the settings agree with each other, and with whether tests move the clock.

    Raises:
        Disagreement: they do not.
    """
    if found.broker.is_live and is_clock_moved:
        raise Disagreement(
            f"PILOT_CLOCK_OFFSET is set and broker.kind is {found.broker.kind!r}; a clock that tests move is never "
            "a live account's. Unset it"
        )
    _check_panel(found)
    _check_hosts(found.bus)
    if why := addresses.refusal(found):
        raise Disagreement(why)
    if found.llm.sl_volatility_min >= found.llm.sl_volatility_max:
        raise Disagreement(
            f"llm.sl_volatility_min was {found.llm.sl_volatility_min}; "
            f"must be below llm.sl_volatility_max = {found.llm.sl_volatility_max}"
        )
    if found.llm.tp_volatility_max < found.llm.reward_to_risk_min * found.llm.sl_volatility_min:
        raise Disagreement(
            f"llm.tp_volatility_max was {found.llm.tp_volatility_max}; "
            "must be at least llm.reward_to_risk_min x llm.sl_volatility_min, or no target is allowed"
        )
    if found.bus.dead_s < 2 * found.bus.beat_s:
        raise Disagreement(f"bus.dead_s was {found.bus.dead_s}; must be at least 2 x bus.beat_s")
    if 0 < found.store.archive_after_days < ARCHIVE_DAYS_MIN:
        raise Disagreement(
            f"store.archive_after_days was {found.store.archive_after_days}; "
            f"allowed: 0 (nothing is moved), or at least {ARCHIVE_DAYS_MIN}"
        )
    if found.supervisor.watchdog_s < 2 * found.bus.beat_s:
        raise Disagreement(f"supervisor.watchdog_s was {found.supervisor.watchdog_s}; must be at least 2 x bus.beat_s")
    _check_watch(found)
    _check_bars(found)
    _check_bridge(found)
    if found.scanner.top_k >= len(found.symbols):
        raise Disagreement(f"scanner.top_k was {found.scanner.top_k}; allowed below {len(found.symbols)}, the symbols")
    for day in found.compliance.holidays:
        try:
            date.fromisoformat(day)
        except ValueError as error:
            raise Disagreement(f"compliance.holidays holds {day!r}: {error}") from error
    if len(set(found.symbols)) != len(found.symbols):
        raise Disagreement(f"symbols names one pair twice: {', '.join(found.symbols)}")


def _check_watch(found: Settings) -> None:
    """Refuse to look less often at an open position than at none, and orders that the flat time closes at once."""
    monitor, lead_s = found.monitor, found.executor.flat_lead_s
    if monitor.equity_poll_s > monitor.equity_poll_flat_s:
        raise Disagreement(
            f"monitor.equity_poll_s was {monitor.equity_poll_s}; must be at most monitor.equity_poll_flat_s = "
            f"{monitor.equity_poll_flat_s}, the pace with nothing open"
        )
    if lead_s < monitor.flat_close_s:
        raise Disagreement(
            f"executor.flat_lead_s was {lead_s}; must be at least monitor.flat_close_s = {monitor.flat_close_s}, or "
            "orders are sent while everything is being closed"
        )


def _check_bars(found: Settings) -> None:
    """Refuse timeframes that are not served, and sources that cannot serve what is wanted."""
    wanted = found.scanner
    for name in wanted.timeframes:
        if name not in BARS_A_DAY:
            raise Disagreement(
                f"scanner.timeframes held {name!r}; allowed: D1, H4, H1. Below one hour the analysts' delay "
                "breaks any strategy (blueprint section 7.2)"
            )
        if set(wanted.sources) <= DAILY_ONLY and name != "D1":
            raise Disagreement(f"scanner.timeframes held {name!r}; scanner.sources = ['ecb'] has daily bars only")
    for key, values in (("timeframes", wanted.timeframes), ("sources", wanted.sources)):
        if len(set(values)) != len(values):
            raise Disagreement(f"scanner.{key} names one twice: {', '.join(values)}")
    if "csv" in wanted.sources and not wanted.csv_path:
        raise Disagreement("scanner.csv_path is missing; the source 'csv' needs a folder of SYMBOL.csv files")
    if "parquet" in wanted.sources and not wanted.parquet_path:
        raise Disagreement("scanner.parquet_path is missing; 'parquet' needs a folder of SYMBOL.parquet files")
    if "synthetic" in wanted.sources and found.broker.is_live:
        raise Disagreement(
            f"scanner.sources holds 'synthetic' and broker.kind is {found.broker.kind!r}; invented prices are "
            "never ranked for a live account"
        )
    is_plain = wanted.twelvedata_url.startswith("http://")
    if is_plain and not re.match(r"http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$", wanted.twelvedata_url):
        raise Disagreement(
            f"scanner.twelvedata_url was {wanted.twelvedata_url!r}; plain http is allowed to this machine "
            "only, because the key goes with every request"
        )


def _check_bridge(found: Settings) -> None:
    """Refuse distances of the bridge to TradingAgents, in a day's volatilities, that lie outside a timeframe's band."""
    llm = found.llm
    for name in found.scanner.timeframes if llm.analyst == "tradingagents" else ():
        bars = math.sqrt(BARS_A_DAY[name])  # the volatility of a day in those of one bar
        sl, tp = llm.tradingagents_sl_volatilities, llm.tradingagents_tp_volatilities
        if not llm.sl_volatility_min <= sl * bars <= llm.sl_volatility_max:
            raise Disagreement(
                f"llm.tradingagents_sl_volatilities was {sl:g} of a day, {sl * bars:.3g} of an {name} bar; allowed: "
                "llm.sl_volatility_min .. llm.sl_volatility_max, "
                f"{llm.sl_volatility_min:g}..{llm.sl_volatility_max:g}"
            )
        if tp * bars > llm.tp_volatility_max:
            raise Disagreement(
                f"llm.tradingagents_tp_volatilities was {tp:g} of a day, {tp * bars:.3g} of an {name} bar; allowed: "
                f"at most llm.tp_volatility_max, {llm.tp_volatility_max:g}"
            )


def _check_panel(found: Settings) -> None:
    """Refuse a panel without its roles, and a role at an endpoint that has no settings."""
    if found.llm.analyst == "panel" and found.llm.roles is None:
        raise Disagreement("llm.roles is missing; llm.analyst = 'panel' needs an endpoint for each role")
    if found.llm.roles is None:
        return
    known = ", ".join(sorted(found.llm.endpoints)) or "none"
    for role in found.llm.roles.__struct_fields__:
        if (name := getattr(found.llm.roles, role)) not in found.llm.endpoints:
            raise Disagreement(f"llm.roles.{role} was {name!r}; endpoints under [llm.endpoints]: {known}")


def _check_hosts(found: Bus) -> None:
    """Refuse tcp without keys, whatever the address, and a host that would be both."""
    for key, address in (("listen", found.listen), ("store", found.store)):
        if not address:
            continue
        if not found.keys:
            raise Disagreement(
                f"bus.{key} was {address!r} and bus.keys is missing; plain tcp is refused: name the folder "
                "that `supervisor keys new` filled"
            )
        if not 1 <= int(address.rpartition(":")[2]) <= 65_535:
            raise Disagreement(f"bus.{key} was {address!r}; allowed: a port from 1 to 65535")
    if found.listen and found.store:
        raise Disagreement("bus.listen is for the store's host and bus.store for any other; allowed: one of them")
    if "*" in found.store or re.match(r"tcp://(0\.0\.0\.0|\[::\]):", found.store):
        raise Disagreement(f"bus.store was {found.store!r}; allowed: the address of one host")
