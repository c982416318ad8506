"""The analyst behind the project TradingAgents: its rating of a ticker becomes a side, or no trade.

Used by the llm process when `llm.analyst = "tradingagents"`. Each analysis is a process of its own under the project's
own interpreter, see tradingagents_process.py. Never falls back to another analyst; what is not one of the five ratings
is no trade. It gives a side only: stop and target come from the volatility, as with the offline analyst, but from that
of a day: its opinion is about days, whatever bars the signal is from.
"""

from __future__ import annotations

import math
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from loguru import logger

from actors.analysts import distances, timeframes, tradingagents_process, verdict
from actors.analysts.analyst import AnalysisError
from actors.analysts.tradingagents_process import Answer
from actors.analysts.verdict import Verdict
from actors.console import text
from bus.clock import Clock
from bus.records import Signal, TradeIntent
from bus.vocabulary import DecisionSide
from config import load
from config.load import ConfigError
from config.settings import Llm

SOURCE = "git+https://github.com/TauricResearch/TradingAgents"
START_S = 30.0
CONFIG_BYTES_MAX = 1_000_000
STATE_CHARS_MAX = 30_000
SECTION_CHARS_MAX = 2_000  # of one text, when the whole state is too long to be kept
REPORT_SECTION_CHARS_MAX = 6_000
SIDES: dict[str, DecisionSide] = {
    "buy": "BUY", "overweight": "BUY", "hold": "HOLD", "underweight": "SELL", "sell": "SELL",
}  # fmt: skip
SECTIONS = (
    "final_trade_decision", "investment_plan", "trader_investment_plan", "market_report", "news_report",
    "sentiment_report", "fundamentals_report",
)  # fmt: skip
CONTEXTS = {
    "argument": "as qlib_data to propagate()",
    "config": "as qlib_data in its config, since its propagate() takes none",
}
PAIR = re.compile(r"[A-Z]{6}")
NOT_PASSED = re.compile(r"(PILOT_|LD_|PYTHON).*|PATH|HOME|TMPDIR|NOTIFY_SOCKET", re.IGNORECASE)
_SECRET = re.compile(r"key|token|secret|password", re.IGNORECASE)
_STATED = re.compile(
    r"\b(?:rating|final transaction proposal|recommendation|final decision)[\s*_\"'`]*[:=–-][\s*_\"'`]*"
    rf"(?P<rating>{'|'.join(SIDES)})\b",
    re.IGNORECASE,
)


class TradingAgentsAnalyst:
    """TradingAgents under its own interpreter: `propagate(ticker, date)` in a process for each analysis."""

    name = "tradingagents"

    def __init__(self, settings: Llm, clock: Clock) -> None:
        """Check the settings. Starts and writes nothing.

        Raises:
            ConfigError: the interpreter is not named or not there, its config is no JSON object, a named variable is
                not set or may not be passed, or no verdict with these distances could pass the checks.
        """
        _check_distances(settings)
        if not settings.tradingagents_python:
            raise ConfigError(_missing(settings, "is not set", "/opt/tradingagents/bin/python"))
        if not Path(settings.tradingagents_python).is_file():
            raise ConfigError(_missing(settings, "names no file"))
        self._settings = settings
        self._clock = clock
        self._config = _config(settings.tradingagents_config)
        self._env = _environment(settings.tradingagents_env)
        self._runner: tradingagents_process.Runner | None = None

    async def start(self) -> None:
        """Ask the interpreter whether the project is installed there.

        Raises:
            ConfigError: it is not, or this is no interpreter. The message holds the command that installs it.
        """
        logger.info("Analyst ready: TradingAgents {}", await self.version())
        self._runner = self._runner_in(load.data_folder() / "tradingagents")

    def is_available(self) -> bool:
        """Return True: each analysis is a process of its own, and none knows of another's trouble."""
        return True

    async def version(self) -> str:
        """Return the version of the project that is installed there; leaves nothing behind. Raises ConfigError."""
        with tempfile.TemporaryDirectory(prefix="pilot-", ignore_cleanup_errors=True) as folder:
            try:
                answer = await self._runner_in(Path(folder)).run({"look": True}, "look", START_S)
            except (OSError, AnalysisError) as error:
                raise ConfigError(_missing(self._settings, f"is no Python that answers ({error})")) from error
        if not answer.found:
            raise ConfigError(_missing(self._settings, "is a Python without the module tradingagents"))
        return text.line(answer.version, 40)

    def _runner_in(self, folder: Path) -> tradingagents_process.Runner:
        masks = tradingagents_process.Masks((*self._env.values(), *_secrets_in(self._config)))
        return tradingagents_process.Runner(self._settings.tradingagents_python, folder, self._env, masks)

    async def close(self) -> None:
        """Kill what still runs."""
        if self._runner is not None:
            await self._runner.close()

    async def analyse(self, intent: TradeIntent, deadline_s: float) -> Verdict:
        """Return the verdict that the project's rating means; HOLD for a rating that is none of the five.

        Raises:
            AnalysisError: no answer within the deadline, a crash, or an answer of another shape.
        """
        signal = verdict.signal_of(intent)
        if not isinstance(signal, Signal):
            return verdict.hold(signal.reason)
        pair = signal.symbol.partition(".")[0]
        if not PAIR.fullmatch(pair):  # it becomes the name of a folder
            return verdict.hold(f"The symbol was {signal.symbol!r}; allowed: six capital letters, a dot and a suffix.")
        if not (math.isfinite(signal.volatility_pips) and signal.volatility_pips > 0):
            called = timeframes.volatility(signal.timeframe)
            return verdict.hold(f"The {called} was {signal.volatility_pips} pips; no stop can be set on it.")
        daily_pips = timeframes.daily_pips(signal)
        if daily_pips is None:
            return verdict.hold(f"The timeframe was {signal.timeframe!r}; allowed: {', '.join(timeframes.BARS)}.")
        if self._runner is None:
            raise AnalysisError("the analyst was not started")
        ticker = ticker_of(pair, self._settings)
        began = self._clock.monotonic()
        job = {
            "ticker": ticker, "trade_date": intent.trade_date, "qlib_data": figures_of(signal),
            "analysts": self._settings.tradingagents_analysts, "config": self._config,
        }  # fmt: skip
        try:
            # A folder for each pair: the project remembers its decisions in a file that two processes must not share.
            answer = await self._runner.run(job, pair, deadline_s)
        except OSError as error:
            raise AnalysisError(f"TradingAgents could not be started: {error}") from error
        how = CONTEXTS.get(answer.context, "not at all")
        logger.bind(intent_id=intent.id).info("Handed the scanner's figures to TradingAgents {}", how)
        return _verdict(signal, daily_pips, ticker, answer, self._settings, self._clock.monotonic() - began)


def ticker_of(symbol: str, settings: Llm) -> str:
    """Return the project's name of a pair, without the dot that brokers put behind it."""
    bare = symbol.partition(".")[0]
    return settings.tradingagents_tickers.get(bare) or settings.tradingagents_ticker.format(symbol=bare)


def figures_of(signal: Signal) -> dict[str, float | str]:
    """Return the scanner's figures as the project calls them. Source: blueprint section 6.4."""
    return {
        "score": signal.score,
        "signal_strength": signal.confidence,
        "confidence": signal.confidence,
        "score_gap": signal.score_gap,
        "drop_distance": signal.drop_distance,
        "topk_spread": signal.topk_spread,
    }


# ── from a rating to a verdict ──────────────────────────────────────────────


def _verdict(
    signal: Signal, daily_pips: float, ticker: str, answer: Answer, settings: Llm, latency_s: float
) -> Verdict:
    rating = text.line(answer.signal or "", 200)
    state = _state(answer.final_state)
    said = f"TradingAgents {text.line(answer.version, 40)} rated {ticker} {rating!r}"
    side: DecisionSide = SIDES.get(rating.strip("*_ ").casefold(), "HOLD")
    if rating.strip("*_ ").casefold() not in SIDES:
        said = f"No valid decision: {said}; known are {', '.join(SIDES)}"
    elif side != "HOLD" and (objection := _objection(side, state)):
        said, side = f"No valid decision: {said}, but {objection}", "HOLD"
    sl_pips = distances.pips(daily_pips, settings.tradingagents_sl_volatilities)
    tp_pips = distances.pips(daily_pips, settings.tradingagents_tp_volatilities)
    kept = {
        "analyst": TradingAgentsAnalyst.name, "version": text.line(answer.version, 40), "ticker": ticker,
        "rating": rating, "figures": answer.context, "latency_ms": round(1_000 * latency_s), "final_state": _cut(state),
    }  # fmt: skip
    state_json = msgspec.json.encode(kept).decode()
    lines = [f"# {signal.symbol}: {side}", "", f"{said}. Bars of {signal.source} up to {signal.bar_time}."]
    if side == "HOLD":
        return verdict.hold(f"{said}.", report=_report(lines, state), state_json=state_json)
    scale = f"the daily volatility of {daily_pips:.1f} pips"
    if signal.timeframe != "D1":
        called = timeframes.volatility(signal.timeframe)
        scale += f" (the {called}, {signal.volatility_pips:.1f} pips, by the square root of time)"
    lines += ["", f"It gives a side only: stop {sl_pips:g} and target {tp_pips:g} pips are "
              f"{settings.tradingagents_sl_volatilities:g} and {settings.tradingagents_tp_volatilities:g} times "
              f"{scale}."]  # fmt: skip
    return Verdict(
        side=side, reason=f"{said}.", sl_pips=sl_pips, tp_pips=tp_pips, report=_report(lines, state),
        state_json=state_json,
    )  # fmt: skip


def _state(raw: msgspec.Raw) -> dict[str, object]:
    try:
        return msgspec.json.decode(raw, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError) as error:
        raise AnalysisError(f"the final state of TradingAgents is no object: {error}") from error


def _objection(side: DecisionSide, state: Mapping[str, object]) -> str:
    """Return what in the final decision speaks against the side; empty when nothing does.

    The rating was read from that text by a pattern that falls back to the first of the five words anywhere in it.
    """
    decision = state.get("final_trade_decision")
    if not isinstance(decision, str):
        return ""
    stated = {SIDES[one["rating"].casefold()] for one in _STATED.finditer(decision)}
    if stated - {side}:
        return f"its text states {' and '.join(sorted(stated - {side}))}"
    refusal = None if stated else verdict.contradiction(side, decision)
    return refusal.reason if refusal else ""


def _cut(state: dict[str, object]) -> dict[str, object]:
    """Return the state when it is short enough to be kept, else the beginnings of its texts."""
    if len(msgspec.json.encode(state)) <= STATE_CHARS_MAX:
        return state
    return {name: text.clean(said, SECTION_CHARS_MAX) for name, said in _sections(state)}


def _sections(state: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name in SECTIONS:
        said = state.get(name)
        if isinstance(said, str) and said.strip():
            yield name, said


def _report(lines: list[str], state: Mapping[str, object]) -> str:
    for name, said in _sections(state):
        lines = [*lines, "", f"## {name.replace('_', ' ')}", "", text.clean(said, REPORT_SECTION_CHARS_MAX)]
    return "\n".join(lines) + "\n"


# ── settings ────────────────────────────────────────────────────────────────


def _check_distances(settings: Llm) -> None:
    sl, tp = settings.tradingagents_sl_volatilities, settings.tradingagents_tp_volatilities
    if not settings.sl_volatility_min <= sl <= settings.sl_volatility_max:
        raise ConfigError(
            f"llm.tradingagents_sl_volatilities was {sl:g}; allowed: llm.sl_volatility_min .. llm.sl_volatility_max, "
            f"{settings.sl_volatility_min:g}..{settings.sl_volatility_max:g}"
        )
    if tp < settings.reward_to_risk_min * sl:
        raise ConfigError(
            f"llm.tradingagents_tp_volatilities was {tp:g}; allowed: at least {settings.reward_to_risk_min * sl:g}, "
            "which is llm.reward_to_risk_min x llm.tradingagents_sl_volatilities"
        )


def _missing(settings: Llm, what: str, python: str = "") -> str:
    """Return what is wrong with the interpreter, and the command that makes one with the project in it."""
    wanted = Path(python or settings.tradingagents_python)
    place = shlex.quote(str(wanted.parent.parent))
    return (
        f"llm.tradingagents_python was {settings.tradingagents_python!r}: it {what}. To install TradingAgents: "
        f"python3 -m venv {place} && {place}/bin/python -m pip install {SOURCE!r}"
        f' and set llm.tradingagents_python = "{wanted.parent.parent}/bin/python"'
    )


def _config(path: str) -> dict[str, object]:
    """Return the project's config from a file of JSON; nothing without one. Raises ConfigError."""
    if not path:
        return {}
    try:
        with Path(path).open("rb") as file:
            content = file.read(CONFIG_BYTES_MAX + 1)
        if len(content) > CONFIG_BYTES_MAX:
            raise ConfigError(f"llm.tradingagents_config: {path} is larger than {CONFIG_BYTES_MAX} bytes")
        return msgspec.json.decode(content, type=dict[str, object])
    except (OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ConfigError(f"llm.tradingagents_config: {path}: {error}; needed: a JSON object") from error


def _environment(names: tuple[str, ...]) -> dict[str, str]:
    """Return the variables that are named to be passed. Raises ConfigError for one not set, or not to be passed."""
    if refused := [name for name in names if NOT_PASSED.fullmatch(name)]:
        raise ConfigError(f"llm.tradingagents_env names {refused[0]}, which is never passed to foreign code")
    return {name: load.secret(name) for name in names}


def _secrets_in(value: object, name: str = "") -> Iterator[str]:
    """Yield the texts in the project's config whose names say that they are secrets."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _secrets_in(one, str(key))
    elif isinstance(value, list):
        for one in value:
            yield from _secrets_in(one, name)
    elif isinstance(value, str) and _SECRET.search(name):
        yield value
