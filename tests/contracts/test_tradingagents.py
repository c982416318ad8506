"""The bridge to TradingAgents against a module of its shape, in a real environment and real processes of its own."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from actors.analysts import registry, tradingagents, tradingagents_process, verdict
from actors.analysts.analyst import AnalysisError, Analyst
from actors.analysts.verdict import Verdict
from actors.console import foreign
from bus.clock import SystemClock
from config.load import ConfigError
from config.settings import Llm, Settings
from tests.kit import bridge, pipeline, proposals
from tests.kit.analysis import a_signal, an_intent
from tests.kit.eventually import eventually, eventually_async

DEADLINE_S = 30.0
COMMAND = "pip install 'git+https://github.com/TauricResearch/TradingAgents'"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bridge.environment(tmp_path_factory.mktemp("ta") / "venv")


@pytest.fixture(scope="module")
def with_figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bridge.environment(tmp_path_factory.mktemp("ta") / "venv", takes_figures=True)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PILOT_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "tradingagents"


@pytest.fixture
def log() -> Any:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), format="{message}")
    yield lines
    logger.remove(sink)


Make = Callable[..., Any]


@pytest.fixture
async def analyst(python: Path, tmp_path: Path) -> AsyncIterator[Make]:
    """Return a function that makes an analyst: `config` is the project's, everything else settings of ours."""
    made: list[Analyst] = []

    async def make(config: dict[str, Any] | None = None, *, starts: bool = True, **settings: Any) -> Analyst:
        path = bridge.config(tmp_path, **(config or {}))
        usual = {"tradingagents_python": str(python), "tradingagents_config": path}
        found = registry.build(Llm(analyst="tradingagents", **(usual | settings)), SystemClock())
        made.append(found)
        if starts:
            await found.start()
        return found

    yield make
    for one in made:
        await one.close()


async def judged(analyst: Analyst, deadline_s: float = DEADLINE_S, **changes: Any) -> Verdict:
    return await analyst.analyse(an_intent(a_signal(**changes)), deadline_s)


def given(data: Path, pair: str = "EURUSD") -> dict[str, Any]:
    """Return what the project was given."""
    return dict(json.loads((data / pair / "results" / "given.json").read_text()))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


# ── what is no trade ────────────────────────────────────────────────────────


@pytest.mark.parametrize("rating", ["REVIEW", "", "Strong Buy", "buy or sell", "BUYBUY"])
async def test_what_is_none_of_the_five_ratings_is_no_trade(analyst: Make, rating: str) -> None:
    found = await judged(await analyst({"rating": rating}))
    assert (found.side, found.sl_pips, found.tp_pips) == ("HOLD", None, None)
    assert "No valid decision" in found.reason
    assert "overweight" in found.reason


async def test_rating_that_is_no_text_is_no_trade(analyst: Make) -> None:
    found = await judged(await analyst({"behaviour": "returns_a_number"}))
    assert found.side == "HOLD"
    assert "int: 5" in found.reason


@pytest.mark.parametrize(
    ("rating", "decision", "says"),
    [
        ("Buy", "**Rating**: Sell", "its text states SELL"),
        ("Buy", "Rating - Underweight", "its text states SELL"),
        ("Overweight", "Long text.\n\nFINAL TRANSACTION PROPOSAL: **HOLD**", "its text states HOLD"),
        ("Sell", "Recommendation: Buy ... Rating: Sell", "its text states BUY"),
        ("Buy", "One should not buy here.", "advises against BUY"),
        ("Sell", "The trend is bullish.", "only says 'bullish'"),
    ],
)
async def test_rating_that_its_own_text_contradicts_is_no_trade(
    analyst: Make, rating: str, decision: str, says: str
) -> None:
    found = await judged(await analyst({"rating": rating, "decision": decision}))
    assert found.side == "HOLD"
    assert says in found.reason


@pytest.mark.parametrize("decision", ["**Rating**: Overweight\n\nNobody should sell now.", "Momentum.", "", None])
async def test_rating_that_its_own_text_does_not_contradict_is_a_trade(analyst: Make, decision: str | None) -> None:
    assert (await judged(await analyst({"decision": decision}))).side == "BUY"


@pytest.mark.parametrize("volatility", [0.0, -1.0, math.nan, math.inf])
async def test_without_a_volatility_nobody_is_asked(analyst: Make, data: Path, volatility: float) -> None:
    found = await analyst(starts=False)
    intent = an_intent()
    broken = a_signal(volatility_pips=volatility)
    text = intent.signal_json.replace('"volatility_pips":40.0', f'"volatility_pips":{volatility}')
    told = an_intent(broken) if math.isfinite(volatility) else an_intent(signal_json=text)
    assert (await found.analyse(told, DEADLINE_S)).side == "HOLD"
    assert not data.exists()


@pytest.mark.parametrize("symbol", ["../../x", "EUR/USD", "", ".EURUSD", "eurusd", "EURUSDX"])
async def test_a_symbol_that_is_no_pair_reaches_neither_the_project_nor_a_folder(
    analyst: Make, data: Path, symbol: str
) -> None:
    assert (await judged(await analyst(starts=False), symbol=symbol)).side == "HOLD"
    assert not data.exists()


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ("raises", "failed: GraphError: the model is away"),
        ("exits", "exit code 0 and without an answer"),
        ("dies", "signal 11"),
        ("returns_three", "failed: TypeError: propagate returned tuple"),
        ("returns_text", "failed: TypeError: propagate returned str"),
        ("returns_no_state", "final state of TradingAgents is no object"),
        ("is_huge", "more than 2097152 bytes"),
        ("writes_to_the_answer", "the answer of TradingAgents is none"),
    ],
)
async def test_crash_or_an_answer_of_another_shape_is_a_failed_attempt(
    analyst: Make, behaviour: str, says: str
) -> None:
    found = await analyst({"behaviour": behaviour})
    with pytest.raises(AnalysisError, match=says):
        await judged(found)


async def test_a_config_that_breaks_the_project_is_a_failed_attempt_that_says_why(analyst: Make) -> None:
    found = await analyst({"results_dir": 5})
    with pytest.raises(AnalysisError, match="failed: TypeError"):
        await judged(found)


# ── what is a trade ─────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rating", "side"),
    [
        ("Buy", "BUY"), ("Overweight", "BUY"), ("Hold", "HOLD"), ("Underweight", "SELL"), ("Sell", "SELL"),
        ("SELL", "SELL"), (" **Buy**\n", "BUY"),
    ],
)  # fmt: skip
async def test_the_five_ratings_become_sides_with_distances_from_the_volatility(
    analyst: Make, rating: str, side: str
) -> None:
    found = await judged(await analyst({"rating": rating, "decision": ""}))
    assert found.side == side
    assert (found.sl_pips, found.tp_pips) == ((None, None) if side == "HOLD" else (60.0, 120.0))
    state = json.loads(found.state_json)
    assert (state["analyst"], state["version"], state["ticker"]) == ("tradingagents", bridge.VERSION, "EURUSD=X")
    assert state["final_state"]["messages"] == ["Message('hello')"]
    assert state["final_state"]["investment_debate_state"]["nan"] == "nan"
    assert "## market report\n\nMomentum." in found.report


async def test_distances_are_the_settings_multiples(analyst: Make) -> None:
    found = await analyst(tradingagents_sl_volatilities=1.0, tradingagents_tp_volatilities=2.5)
    told = await judged(found, volatility_pips=33.33)
    assert (told.sl_pips, told.tp_pips) == (33.3, 83.3)


@pytest.mark.parametrize(("timeframe", "stop", "target"), [("D1", 15.0, 30.0), ("H4", 36.7, 73.5), ("H1", 73.5, 147.0)])
async def test_its_opinion_is_of_days_so_distances_are_of_a_days_volatility_whatever_the_bars(
    analyst: Make, timeframe: str, stop: float, target: float
) -> None:
    signal = a_signal(timeframe=timeframe, volatility_pips=10.0)
    found = await (await analyst(sl_volatility_max=7.5)).analyse(an_intent(signal), DEADLINE_S)
    assert (found.sl_pips, found.tp_pips) == (stop, target)
    assert isinstance(verdict.check(found, signal, Llm(sl_volatility_max=7.5)), Verdict)
    assert f"the daily volatility of {stop / 1.5:.1f} pips" in found.report
    assert ("volatility of a 1-hour bar, 10.0 pips" in found.report) == (timeframe == "H1")


async def test_bars_of_unknown_length_are_no_trade_and_nobody_is_asked(analyst: Make, data: Path) -> None:
    found = await judged(await analyst(starts=False), timeframe="M15")
    assert found.side == "HOLD" and "M15" in found.reason
    assert not data.exists()


@pytest.mark.parametrize("behaviour", ["prints", "leaves_threads", "says_much", "is_long", "returns_surrogates"])
async def test_noise_does_not_reach_the_answer(analyst: Make, behaviour: str, log: list[str]) -> None:
    began = time.monotonic()
    found = await judged(await analyst({"behaviour": behaviour}))
    assert found.side == "BUY"
    assert len(found.state_json) < tradingagents.STATE_CHARS_MAX + 1_000
    assert isinstance(json.loads(found.state_json)["final_state"], dict)
    assert time.monotonic() - began < 20
    said = [line for line in log if line.startswith("TradingAgents")]
    assert len(said) <= tradingagents_process.LINES_MAX + 1
    assert all(len(line) < 400 for line in said)


@pytest.mark.parametrize(("symbol", "ticker"), [("GBPUSD", "GBPUSD=X"), ("XAUUSD", "GC=F"), ("USDJPY", "JPY=X")])
async def test_pairs_get_the_projects_names(analyst: Make, data: Path, symbol: str, ticker: str) -> None:
    found = await analyst(tradingagents_tickers={"XAUUSD": "GC=F", "USDJPY": "JPY=X"})
    await judged(found, symbol=symbol)
    told = given(data, symbol)
    assert (told["ticker"], told["trade_date"], told["analysts"]) == (ticker, "2026-11-02", ["market", "news"])


def test_the_brokers_dot_is_taken_off() -> None:
    assert tradingagents.ticker_of("EURUSD.", Llm()) == "EURUSD=X"
    assert tradingagents.ticker_of("XAUUSD.x", Llm()) == "GC=F"
    assert tradingagents.ticker_of("EURUSD", Llm(tradingagents_ticker="C:{symbol}")) == "C:EURUSD"


FIGURES = {
    "score": 0.42, "signal_strength": "high", "confidence": "high", "score_gap": 0.1, "drop_distance": 0.2,
    "topk_spread": 0.3,
}  # fmt: skip


async def test_the_scanners_figures_go_to_a_propagate_that_takes_them(
    analyst: Make, with_figures: Path, data: Path, log: list[str]
) -> None:
    found = await judged(await analyst(tradingagents_python=str(with_figures)))
    assert given(data)["qlib_data"] == FIGURES
    assert "qlib_data" not in given(data)["config"]
    assert json.loads(found.state_json)["figures"] == "argument"
    assert "Handed the scanner's figures to TradingAgents as qlib_data to propagate()\n" in log


async def test_the_scanners_figures_go_into_the_config_otherwise(analyst: Make, data: Path, log: list[str]) -> None:
    found = await judged(await analyst())
    assert given(data)["qlib_data"] is None
    assert given(data)["config"]["qlib_data"] == FIGURES
    assert json.loads(found.state_json)["figures"] == "config"
    assert any("since its propagate() takes none" in line for line in log)


# ── what it gets, and what it does not ──────────────────────────────────────


async def test_it_gets_only_named_variables_and_folders_of_its_own(
    analyst: Make, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-very-secret")
    monkeypatch.setenv("PILOT_BROKER_PASSWORD", "hunter22")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    await judged(await analyst(tradingagents_env=("TEST_KEY",)))
    told = given(data)
    assert told["environment"]["TEST_KEY"] == "sk-very-secret"
    assert "hunter22" not in told["environment"].values()
    assert {name for name in told["environment"] if name.startswith(("PILOT", "PYTHON"))} == set()
    assert "/somewhere" not in told["path"]
    assert not any("actors" in one for one in told["path"]), "our openai.py would hide the package of that name"
    assert told["stdin"] == ""
    own = str(data / "EURUSD")
    assert told["cwd"] == own
    assert told["config"]["data_cache_dir"] == f"{own}/cache"
    for name in ("HOME", "TMPDIR", "TRADINGAGENTS_MEMORY_LOG_PATH"):
        assert told["environment"][name].startswith(own)


async def test_secrets_are_in_no_log_and_no_record(
    analyst: Make, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-very-secret")
    config = {"behaviour": "says_secrets", "api_key": 'in-the-"config"'}
    found = await judged(await analyst(config, tradingagents_env=("TEST_KEY",)))
    assert any("key *** ***" in line for line in log)
    everything = "".join(log) + found.report + found.state_json
    assert "sk-very" not in everything
    assert "in-the" not in everything
    assert "key ***" in found.report


async def test_a_secret_at_the_end_of_what_is_kept_of_a_line_is_not_told_in_halves(
    analyst: Make, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-very-secret")
    await judged(await analyst({"behaviour": "says_a_long_line"}, tradingagents_env=("TEST_KEY",)))
    said = [line for line in log if line.startswith("TradingAgents:")]
    assert len(said) == 2
    assert said[0].startswith("TradingAgents: yyyy")
    assert said[1] == "TradingAgents: after it\n"


# ── what ends it ────────────────────────────────────────────────────────────


async def hanging(data: Path) -> list[int]:
    """Return the pids of a hanging analysis and of its grandchild, once it hangs."""
    own = data / "EURUSD"
    await eventually_async(lambda: (own / "hangs.pid").exists() and (own / "hangs.pid").read_text(), 20)
    return [int((own / name).read_text()) for name in ("hangs.pid", "grandchild.pid")]


async def test_a_hanging_analysis_is_killed_at_its_deadline_with_its_children(analyst: Make, data: Path) -> None:
    found = await analyst({"behaviour": "hangs"})
    task = asyncio.create_task(judged(found, 4.0))
    pids = await hanging(data)
    assert all(map(is_alive, pids))
    with pytest.raises(AnalysisError, match="within 4 s and was killed"):
        await task
    eventually(lambda: not any(map(is_alive, pids)), 5)


@pytest.mark.parametrize("how", ["cancelled", "closed"])
async def test_a_cancelled_or_closed_analysis_is_killed_with_its_children(analyst: Make, data: Path, how: str) -> None:
    found = await analyst({"behaviour": "hangs"})
    task = asyncio.create_task(judged(found))
    pids = await hanging(data)
    if how == "cancelled":
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        await found.close()
        with pytest.raises(AnalysisError):
            await asyncio.wait_for(task, DEADLINE_S / 3)
    eventually(lambda: not any(map(is_alive, pids)), 5)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_worker_ends_its_analysis_ends_too(python: Path, tmp_path: Path, how: signal.Signals) -> None:
    config = bridge.config(tmp_path, behaviour="hangs")
    llm = {"analyst": "tradingagents", "tradingagents_python": str(python), "tradingagents_config": config}
    with pipeline.running(llm=llm) as run:
        run.start("--scale", "scanner=0,paper=0,executor=0,monitor=0")
        proposals.propose(run, 1)
        own = run.data / "tradingagents" / "EURUSD"
        run.eventually(lambda: (own / "hangs.pid").exists() and (own / "hangs.pid").read_text())
        pids = [int((own / name).read_text()) for name in ("hangs.pid", "grandchild.pid")]
        assert all(map(is_alive, pids))
        (own / "hangs.pid").unlink()
        if how == signal.SIGKILL:
            run.kill("llm")
        else:
            assert run.stop(signal.SIGINT) == 0
        eventually(lambda: not any(map(is_alive, pids)), 10)
        if how == signal.SIGKILL:  # and its intent goes to the next worker
            run.eventually(lambda: (own / "hangs.pid").exists() and (own / "hangs.pid").read_text())
            run.stop(signal.SIGINT)
            eventually(lambda: not is_alive(int((own / "hangs.pid").read_text())), 10)


# ── what is a start-up error ────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["", "/nowhere/venv/bin/python", "/"])
def test_without_an_interpreter_the_start_is_refused_with_the_command_that_makes_one(path: str) -> None:
    with pytest.raises(ConfigError) as found:
        registry.build(Llm(analyst="tradingagents", tradingagents_python=path), SystemClock())
    assert COMMAND in str(found.value)
    if path == "/nowhere/venv/bin/python":
        assert "python3 -m venv /nowhere/venv && /nowhere/venv/bin/python -m pip install" in str(found.value)


async def test_without_the_module_the_start_is_refused_with_the_command_that_installs_it(
    analyst: Make, tmp_path: Path
) -> None:
    bare = bridge.environment(tmp_path / "my venv", installed=False)
    with pytest.raises(ConfigError, match="without the module tradingagents") as found:
        await analyst(tradingagents_python=str(bare))
    assert f"python3 -m venv '{tmp_path}/my venv' && '{tmp_path}/my venv'/bin/python -m {COMMAND}" in str(found.value)


@pytest.mark.parametrize("installed", [True, False])
async def test_doctor_says_whether_it_is_installed_and_leaves_nothing_behind(
    python: Path, tmp_path: Path, data: Path, installed: bool
) -> None:
    chosen = python if installed else bridge.environment(tmp_path / "venv", installed=False)
    llm = Llm(analyst="tradingagents", tradingagents_python=str(chosen))
    (found,) = await foreign.tradingagents(Settings(profile="test", llm=llm), SystemClock())
    assert found.state == ("ok" if installed else "fail")
    assert (f"TradingAgents {bridge.VERSION} in" if installed else COMMAND) in found.found
    assert not data.exists()
    assert await foreign.tradingagents(Settings(profile="test"), SystemClock()) == []


@pytest.mark.parametrize(
    ("script", "says"),
    [("#!/bin/sh\nexit 3\n", "answers"), ("no program", "answers"), ("#!/bin/sh\nsleep 600\n", "within 1 s")],
)
async def test_interpreter_that_is_none_or_hangs_is_refused(
    analyst: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    monkeypatch.setattr(tradingagents, "START_S", 1.0)
    path = tmp_path / "python"
    path.write_text(script)
    path.chmod(0o700)
    with pytest.raises(ConfigError, match=says):
        await analyst(tradingagents_python=str(path))


@pytest.mark.parametrize("name", ["PILOT_BROKER_PASSWORD", "PILOT_LLM_API_KEY", "PYTHONPATH", "LD_PRELOAD", "PATH"])
async def test_variables_that_foreign_code_must_not_have_are_refused(
    analyst: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, os.environ.get(name, "x"))
    with pytest.raises(ConfigError, match="never passed to foreign code"):
        await analyst(tradingagents_env=(name,))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"tradingagents_env": ("TEST_UNSET",)}, "TEST_UNSET is not set"),
        ({"tradingagents_config": "/nowhere.json"}, "No such file"),
        ({"tradingagents_config": __file__}, "needed: a JSON object"),
        ({"tradingagents_sl_volatilities": 6.0}, "allowed: llm.sl_volatility_min"),
        ({"tradingagents_tp_volatilities": 1.0}, "allowed: at least 1.5"),
    ],
)
async def test_settings_that_cannot_work_are_refused(analyst: Make, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        await analyst(**settings)
