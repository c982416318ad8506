"""Every setting with its default, unit and allowed range, as frozen structs.

Read by every process through `config.load`; nothing here touches a file or the environment.
One section per process, named like the process. Unknown keys and out-of-range values are refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

PositiveInt = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(ge=0.01, le=604_800)]
SecondsOrZero = Annotated[float, Meta(ge=0, le=604_800)]
Ratio = Annotated[float, Meta(gt=0, le=1)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Symbol = Annotated[str, Meta(pattern=r"^[A-Z]{6}$")]
OptionalPath = Annotated[str, Meta(pattern=r"^(|/.{1,400})$")]  # absolute
EnvName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all sections: immutable, keyword-only, unknown keys refused."""


class Bus(Section, frozen=True, kw_only=True):
    """Beats, resends and sizes that all actors share."""

    beat_s: Seconds = 1.0
    dead_s: Seconds = 5.0
    resend_s: Seconds = 1.0
    message_bytes_max: Annotated[int, Meta(ge=4_096, le=16_777_216)] = 1_048_576


class Store(Section, frozen=True, kw_only=True):
    """The decision store. Source of the defaults: blueprint section 8."""

    db_path: str = "decisions.db"
    claim_ttl_minutes: Annotated[int, Meta(ge=1, le=1_440)] = 30
    intent_retention_days: Annotated[int, Meta(ge=1, le=3_650)] = 7
    command_retention_days: Annotated[int, Meta(ge=1, le=3_650)] = 7
    sample_retention_days: Annotated[int, Meta(ge=1, le=3_650)] = 90
    attempts_max: Annotated[int, Meta(ge=1, le=20)] = 3
    retry_backoff_s: SecondsOrZero = 30.0
    batch_max: Annotated[int, Meta(ge=1, le=4_096)] = 256


class Scanner(Section, frozen=True, kw_only=True):
    """The ranking of FX pairs. Cadence: blueprint section 6.2."""

    interval_s: Seconds = 14_400.0
    timeframe: Literal["D1"] = "D1"
    feed: Literal["ecb", "csv"] = "ecb"
    csv_path: str | None = None
    top_k: Annotated[int, Meta(ge=1, le=20)] = 3
    intent_ttl_minutes: Annotated[int, Meta(ge=1, le=1_440)] = 240
    bar_age_days_max: Annotated[int, Meta(ge=1, le=3_650)] = 4
    history_bars_min: Annotated[int, Meta(ge=300, le=20_000)] = 1_000
    train_bars_max: Annotated[int, Meta(ge=300, le=20_000)] = 2_600
    seeds: Annotated[int, Meta(ge=1, le=20)] = 3


class Llm(Section, frozen=True, kw_only=True):
    """The analysts. `offline` is deterministic rules, `openai` any OpenAI-compatible endpoint.

    `tradingagents` is the project of that name in an interpreter of its own, see docs/tradingagents.md.
    """

    analyst: Literal["offline", "openai", "tradingagents"] = "offline"
    slots: Annotated[int, Meta(ge=1, le=64)] = 1
    deadline_s: Seconds = 600.0
    base_url: str = ""
    model: str = ""
    api_key_env: str = "PILOT_LLM_API_KEY"
    max_tokens: Annotated[int, Meta(ge=64, le=32_768)] = 1_024
    sl_volatility_min: Annotated[float, Meta(gt=0, le=20)] = 0.3
    sl_volatility_max: Annotated[float, Meta(gt=0, le=20)] = 5.0
    reward_to_risk_min: Annotated[float, Meta(ge=0, le=20)] = 1.0
    tradingagents_python: OptionalPath = ""
    tradingagents_analysts: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=20)] = ("market", "news")
    tradingagents_config: OptionalPath = ""
    tradingagents_env: Annotated[tuple[EnvName, ...], Meta(max_length=40)] = ()
    tradingagents_ticker: Annotated[str, Meta(pattern=r"^[^{}\s]*\{symbol\}[^{}\s]*$", max_length=40)] = "{symbol}=X"
    tradingagents_tickers: dict[Symbol, Annotated[str, Meta(pattern=r"^\S{1,40}$")]] = field(
        default_factory=lambda: {"XAUUSD": "GC=F"}
    )
    tradingagents_sl_volatilities: Annotated[float, Meta(gt=0, le=20)] = 1.5
    tradingagents_tp_volatilities: Annotated[float, Meta(gt=0, le=60)] = 3.0


class Executor(Section, frozen=True, kw_only=True):
    """Order placement. Order of the steps: docs/architecture.md."""

    risk_per_trade_ratio: Annotated[float, Meta(gt=0, le=0.05)] = 0.005
    volume_jitter_ratio: Annotated[float, Meta(ge=0, le=0.5)] = 0.05
    random_delay_s_max: Annotated[float, Meta(ge=0, le=600)] = 30.0
    licence_s: Annotated[float, Meta(ge=0.1, le=10)] = 2.0
    quiet_s: Annotated[float, Meta(ge=0.5, le=3_600)] = 60.0
    look_interval_s: Annotated[float, Meta(ge=0.05, le=60)] = 2.0
    quote_age_s_max: Annotated[float, Meta(gt=0, le=600)] = 30.0
    figures_age_s_max: Annotated[float, Meta(ge=1, le=15)] = 15.0
    gap_allowance_pips: Annotated[float, Meta(ge=0, le=500)] = 5.0
    gap_allowance_pips_by_symbol: dict[Symbol, Annotated[float, Meta(ge=0, le=500)]] = {}
    flat_lead_s: Annotated[float, Meta(ge=0, le=86_400)] = 1_800.0
    orphans: Literal["alert", "adopt", "close"] = "alert"


class Monitor(Section, frozen=True, kw_only=True):
    """Equity, positions and upkeep. Cadences: blueprint section 6.2, stretched to fit the request budget."""

    equity_poll_s: Seconds = 60.0
    equity_poll_flat_s: Seconds = 300.0
    equity_poll_near_s: Seconds = 5.0
    flat_close_s: SecondsOrZero = 600.0
    janitor_interval_s: Seconds = 600.0
    backup_interval_s: Seconds = 21_600.0
    backups_kept: Annotated[int, Meta(ge=1, le=1_000)] = 8
    requests_kept_for_trades: Annotated[int, Meta(ge=0, le=100_000)] = 400


class Broker(Section, frozen=True, kw_only=True):
    """Where and as whom we trade. The password comes from the environment, never from a file of settings."""

    kind: Literal["paper", "platform"] = "paper"
    base_url: str = "http://127.0.0.1:8765"
    login_path: str = "/manager/mtr-login"
    broker_id: str = "0"
    email: str = "paper@example.invalid"
    account_id: str = "PAPER-1"
    password_env: str = "PILOT_BROKER_PASSWORD"  # noqa: S105 - the name of the variable
    connect_timeout_s: Seconds = 5.0
    request_timeout_s: Seconds = 10.0


class Paper(Section, frozen=True, kw_only=True):
    """The Match-Trader-compatible paper broker with simulated prices."""

    host: Literal["127.0.0.1", "::1"] = "127.0.0.1"
    port: Port = 8765
    initial_balance: Annotated[int, Meta(ge=100, le=100_000_000)] = 50_000
    currency: Literal["USD", "EUR", "GBP"] = "USD"
    seed: Annotated[int, Meta(ge=0, le=2**53)] = 20_260_216
    tick_s: Annotated[float, Meta(ge=0.01, le=60)] = 1.0
    speed: Annotated[float, Meta(gt=0, le=100_000)] = 1.0
    sessions: Literal["always", "fx"] = "always"
    leverage: Annotated[int, Meta(ge=1, le=1_000)] = 50
    spread_pips: Annotated[float, Meta(gt=0, le=100)] = 1.0
    commission_per_lot: Annotated[float, Meta(ge=0, le=100)] = 5.0
    symbol_suffix: str = "."


class Compliance(Section, frozen=True, kw_only=True):
    """Which rule set applies: a name under config/rules/, or the path of a TOML file.

    `news_calendar` is the absolute path of a TOML file, see actors/compliance/news.py; empty when the rules need none.
    """

    news_calendar: Annotated[str, Meta(pattern=r"^(|/.{1,400}\.toml)$")] = ""
    rules: Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63}|/.{1,400}\.toml)$")] = "e8-signature-50k"


class Supervisor(Section, frozen=True, kw_only=True):
    """Starting, watching and stopping processes. Numbers: docs/architecture.md."""

    watchdog_s: Seconds = 5.0
    start_s: Seconds = 60.0
    stop_s: Seconds = 4.0
    backoff_s: Seconds = 0.25
    backoff_s_max: Seconds = 30.0
    restarts_max: Annotated[int, Meta(ge=1, le=100)] = 5
    restarts_window_s: Seconds = 60.0
    stable_s: Seconds = 60.0
    spares: bool = False


class Settings(Section, frozen=True, kw_only=True):
    """All settings of one pipeline. `profile` is the name of the file they came from."""

    profile: Name
    symbols: Annotated[tuple[Symbol, ...], Meta(min_length=1, max_length=40)] = (
        "EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "USDCAD", "USDCHF", "NZDUSD", "EURJPY", "GBPJPY", "EURGBP",
    )  # fmt: skip
    bus: Bus = Bus()
    store: Store = Store()
    scanner: Scanner = Scanner()
    llm: Llm = Llm()
    executor: Executor = Executor()
    monitor: Monitor = Monitor()
    broker: Broker = Broker()
    paper: Paper = Paper()
    compliance: Compliance = Compliance()
    supervisor: Supervisor = Supervisor()
