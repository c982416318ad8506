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
PollSeconds = Annotated[float, Meta(ge=0.01, le=300)]  # a longer pause sleeps through loss limits
Ratio = Annotated[float, Meta(gt=0, le=1)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Date = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")]
Symbol = Annotated[str, Meta(pattern=r"^[A-Z]{6}$")]
Day = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\d$")]
Sessions = Literal["always", "fx"]
Points = Annotated[float, Meta(ge=-10_000, le=10_000)]
SpreadFactor = Annotated[float, Meta(ge=0.1, le=100)]
Dollars = Annotated[str, Meta(pattern=r"^[0-9]{1,7}(\.[0-9]{1,6})?$")]
OptionalPath = Annotated[str, Meta(pattern=r"^(|/.{1,400})$")]  # absolute
TcpAddress = Annotated[str, Meta(pattern=r"^(|tcp://([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]|\*):[0-9]{1,5})\Z")]
EnvName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all sections: immutable, keyword-only, unknown keys refused."""


class Bus(Section, frozen=True, kw_only=True):
    """Beats, resends, sizes that all actors share; where analysts on other hosts come in, and keys: docs/hosts.md."""

    beat_s: Seconds = 1.0
    dead_s: Seconds = 5.0
    resend_s: Seconds = 1.0
    message_bytes_max: Annotated[int, Meta(ge=4_096, le=16_777_216)] = 1_048_576
    listen: TcpAddress = ""
    store: TcpAddress = ""
    keys: OptionalPath = ""


class Store(Section, frozen=True, kw_only=True):
    """The decision store. Source of the defaults: blueprint section 8."""

    db_path: str = "decisions.db"
    claim_ttl_minutes: Annotated[int, Meta(ge=1, le=1_440)] = 30
    intent_retention_days: Annotated[int, Meta(ge=1, le=3_650)] = 7
    command_retention_days: Annotated[int, Meta(ge=1, le=3_650)] = 7
    sample_retention_days: Annotated[int, Meta(ge=1, le=3_650)] = 90
    archive_after_days: Annotated[int, Meta(ge=0, le=36_500)] = 400  # 0: nothing is moved; else at least 90
    attempts_max: Annotated[int, Meta(ge=1, le=20)] = 3
    retry_backoff_s: SecondsOrZero = 30.0
    batch_max: Annotated[int, Meta(ge=1, le=4_096)] = 256


BarSource = Literal["broker", "twelvedata", "csv", "parquet", "ecb", "synthetic"]


class Scanner(Section, frozen=True, kw_only=True):
    """The ranking of FX pairs. Cadence: blueprint section 6.2. Sources and timeframes: docs/bars.md. Model, its
    training and the limit of correlation: docs/scanner.md.

    `sources` are tried in this order. An H4 or H1 intent also ends when the next bar of its kind closes.
    """

    interval_s: Seconds = 14_400.0  # the longest time between two looks for D1
    settle_s: Annotated[float, Meta(ge=0, le=900)] = 20.0  # how long after its close a bar is looked for
    timeframes: Annotated[tuple[str, ...], Meta(min_length=1, max_length=3)] = ("D1",)
    sources: Annotated[tuple[BarSource, ...], Meta(min_length=1, max_length=6)] = ("ecb",)
    csv_path: str | None = None
    parquet_path: str | None = None
    twelvedata_url: Annotated[str, Meta(pattern=r"^https?://[^\s/?#@]+$")] = "https://api.twelvedata.com"
    twelvedata_key_env: EnvName = "PILOT_TWELVEDATA_KEY"
    twelvedata_requests_per_minute: Annotated[int, Meta(ge=1, le=10_000)] = 8  # the free plan's
    synthetic_seed: Annotated[int, Meta(ge=0, le=2**31)] = 20_260_216
    top_k: Annotated[int, Meta(ge=1, le=20)] = 3
    intent_ttl_minutes: Annotated[int, Meta(ge=1, le=1_440)] = 240  # of D1
    intent_ttl_minutes_h4: Annotated[int, Meta(ge=1, le=240)] = 240
    intent_ttl_minutes_h1: Annotated[int, Meta(ge=1, le=60)] = 60
    bar_age_days_max: Annotated[int, Meta(ge=1, le=3_650)] = 4
    bar_age_bars_max: Annotated[int, Meta(ge=1, le=20_000)] = 2  # of bars that know highs and lows, in session time
    history_bars_min: Annotated[int, Meta(ge=300, le=20_000)] = 1_000
    train_bars_max: Annotated[int, Meta(ge=300, le=20_000)] = 2_600
    seeds: Annotated[int, Meta(ge=1, le=20)] = 3
    model: Literal["lambdarank", "momentum"] = "lambdarank"
    retrain_days: Annotated[int, Meta(ge=1, le=365)] = 7  # between the data cut of the model and the newest bar
    correlation_max: Annotated[float, Meta(gt=0, le=1)] = 0.8  # 1: no limit


class LlmEndpoint(Section, frozen=True, kw_only=True):
    """One OpenAI-compatible endpoint and model. Prices are US dollars per million tokens, as text: they are exact.

    `connections_max` is for each worker; None: as many calls as its slots can make at once.
    """

    base_url: str = ""
    model: str = ""
    api_key_env: str = "PILOT_LLM_API_KEY"
    max_tokens: Annotated[int, Meta(ge=64, le=32_768)] = 1_024
    connections_max: Annotated[int, Meta(ge=1, le=256)] | None = None
    price_in: Dollars | None = None
    price_out: Dollars | None = None


class LlmRoles(Section, frozen=True, kw_only=True):
    """Which endpoint each role of the panel asks: names under `[llm.endpoints]`."""

    technical: Name
    macro: Name
    bull: Name
    bear: Name
    judge: Name


class Llm(LlmEndpoint, frozen=True, kw_only=True):
    """The analysts. `offline` is deterministic rules, `openai` one OpenAI-compatible endpoint, named right here,
    `panel` roles at the endpoints of `[llm.endpoints.NAME]`. See docs/analysts.md.
    `tradingagents` is the project of that name in an interpreter of its own, `replay` is `replay_analyst` on recorded
    answers.

    Budgets: None is no limit, 0 lets no call through. A day is one of UTC and all workers share it.
    """

    analyst: Literal["offline", "openai", "panel", "tradingagents", "replay"] = "offline"
    slots: Annotated[int, Meta(ge=1, le=64)] = 1
    deadline_s: Seconds = 600.0
    endpoints: dict[Name, LlmEndpoint] = {}
    roles: LlmRoles | None = None
    roles_folder: OptionalPath = ""
    briefing_path: OptionalPath = ""
    rounds: Annotated[int, Meta(ge=1, le=5)] = 1
    disagreement_max: Annotated[float, Meta(ge=0, le=1)] = 0.4
    day_tokens_max: Annotated[int, Meta(ge=0, le=10**12)] | None = None
    day_cost_max: Dollars | None = None
    decision_tokens_max: Annotated[int, Meta(ge=0, le=10**9)] | None = None
    decision_cost_max: Dollars | None = None
    breaker_failures_max: Annotated[int, Meta(ge=1, le=100)] = 3
    breaker_wait_s: Seconds = 5.0
    breaker_wait_s_max: Seconds = 300.0
    sl_volatility_min: Annotated[float, Meta(gt=0, le=20)] = 0.3
    sl_volatility_max: Annotated[float, Meta(gt=0, le=20)] = 5.0
    tp_volatility_max: Annotated[float, Meta(gt=0, le=100)] = 15.0
    reward_to_risk_min: Annotated[float, Meta(ge=0, le=20)] = 1.0
    # recordings, replay, shadow: docs/recordings.md
    record: bool = True
    record_prompts: bool = True
    recording_bytes_max: Annotated[int, Meta(ge=16_384, le=1_073_741_824)] = 16_777_216
    recordings_kept: Annotated[int, Meta(ge=0, le=1_000)] = 8
    replay_path: str = ""
    replay_analyst: Literal["openai", "panel"] = "openai"
    replay_speed: Annotated[float, Meta(ge=0, le=1_000)] = 0.0
    shadow: bool = False
    shadow_s: Seconds = 120.0
    # the bridge to TradingAgents: docs/tradingagents.md
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
    keyed_retry_s: Annotated[float, Meta(ge=0, le=120)] = 15.0  # since the first send; 0: an order is never repeated
    gap_allowance_pips: Annotated[float, Meta(ge=0.5, le=500)] = 5.0
    gap_allowance_pips_by_symbol: dict[Symbol, Annotated[float, Meta(ge=0.5, le=500)]] = {}
    flat_lead_s: Annotated[float, Meta(ge=0, le=86_400)] = 1_800.0
    orphans: Literal["alert", "adopt", "close"] = "alert"


class Monitor(Section, frozen=True, kw_only=True):
    """Equity, positions and upkeep. Cadences: blueprint section 6.2, stretched to fit the request budget."""

    equity_poll_s: PollSeconds = 60.0
    equity_poll_flat_s: PollSeconds = 300.0
    equity_poll_near_s: Annotated[float, Meta(ge=0.01, le=30)] = 5.0
    flat_close_s: Annotated[float, Meta(ge=60, le=3_600)] = 600.0
    janitor_interval_s: Seconds = 600.0
    backup_interval_s: Seconds = 21_600.0
    backups_kept: Annotated[int, Meta(ge=1, le=1_000)] = 8  # in each folder
    backup_second_folder: OptionalPath = ""  # on another disk; it must exist
    requests_kept_for_trades: Annotated[int, Meta(ge=0, le=100_000)] = 400


Endpoint = Annotated[str, Meta(pattern=r"^(GET|POST|PUT|PATCH|DELETE) /[A-Za-z0-9._~/{}-]{1,200}$")]


class TraderPaths(Section, frozen=True, kw_only=True):
    """Method and path of each call of the Trader API; `{id}` stands for a position or a waiting order.

    Match-Trader documents the calls and their fields, but its pages show few of the paths: docs/broker.md says which
    of these are careful guesses.
    """

    account: Endpoint = "GET /v1/account"
    instruments: Endpoint = "GET /v1/instruments"
    quotes: Endpoint = "GET /v1/quotes"
    candles: Endpoint = "GET /v1/candles"
    positions: Endpoint = "GET /v1/positions"
    closed_positions: Endpoint = "GET /v1/closed-positions"
    pending_orders: Endpoint = "GET /v1/pending-orders"
    open: Endpoint = "POST /v1/positions"
    edit: Endpoint = "PATCH /v1/positions/{id}"
    close: Endpoint = "POST /v1/positions/{id}/close"
    create_pending: Endpoint = "POST /v1/pending-orders"
    edit_pending: Endpoint = "PATCH /v1/pending-orders/{id}"
    cancel_pending: Endpoint = "DELETE /v1/pending-orders/{id}"


class Broker(Section, frozen=True, kw_only=True):
    """Where and as whom we trade. Password and token come from the environment, never from a file of settings.

    `kind` is whose account it is and, for a live one, the API it is spoken to over; `paper_api` says the latter for the
    paper broker, which speaks both.
    """

    kind: Literal["paper", "platform", "trader"] = "paper"
    paper_api: Literal["platform", "trader"] = "platform"
    base_url: str = "http://127.0.0.1:8765"
    login_path: str = "/manager/mtr-login"
    broker_id: str = "0"
    email: str = "paper@example.invalid"
    account_id: str = "PAPER-1"
    password_env: str = "PILOT_BROKER_PASSWORD"  # noqa: S105 - the name of the variable
    token_env: str = "PILOT_BROKER_TOKEN"  # noqa: S105 - the name of the variable
    refreshes_per_hour_max: Annotated[int, Meta(ge=0, le=60)] = 4
    connect_timeout_s: Seconds = 5.0
    request_timeout_s: Seconds = 10.0
    trader: TraderPaths = TraderPaths()

    @property
    def is_live(self) -> bool:
        """Whether this is an account at a firm, not the paper broker's."""
        return self.kind != "paper"

    @property
    def api(self) -> Literal["platform", "trader"]:
        """The API that is spoken."""
        return self.paper_api if self.kind == "paper" else self.kind

    @property
    def secret_env(self) -> str:
        """The variable that holds the one secret this API wants: a password or a token."""
        return self.token_env if self.api == "trader" else self.password_env


class Paper(Section, frozen=True, kw_only=True):
    """The Match-Trader-compatible paper broker with simulated prices. Every line is explained in docs/paper.md.

    `bars_path` is a folder of SYMBOL.csv for the feed `csv`, one file for `ohlc`. `spread_factors` are 24, one an hour
    in UTC; left out, the FX week has wider ones around the rollover and a market that is always open has none.
    """

    host: Literal["127.0.0.1", "::1"] = "127.0.0.1"
    port: Port = 8765
    initial_balance: Annotated[int, Meta(ge=100, le=100_000_000)] = 50_000
    currency: Literal["USD", "EUR", "GBP"] = "USD"
    seed: Annotated[int, Meta(ge=0, le=2**53)] = 20_260_216
    tick_s: Annotated[float, Meta(ge=0.01, le=60)] = 1.0
    speed: Annotated[float, Meta(gt=0, le=100_000)] = 1.0
    prices: Literal["walk", "bars"] = "walk"
    bars_feed: Literal["ecb", "csv", "ohlc"] = "ecb"
    bars_path: str = ""
    bars_start: Annotated[str, Meta(pattern=r"^(|\d{4}-\d\d-\d\d([T ].{1,40})?)$")] = ""
    sessions: Sessions = "always"
    sessions_by_symbol: dict[Symbol, Sessions] = {}
    daily_break_minutes: Annotated[int, Meta(ge=0, le=240)] = 0
    holidays: Annotated[tuple[Day, ...], Meta(max_length=1_000)] = ()
    rollover_hour: Annotated[int, Meta(ge=0, le=23)] = 17
    rollover_zone: Annotated[str, Meta(pattern=r"^[A-Za-z_]{1,30}(/[A-Za-z0-9_+-]{1,30}){0,2}$")] = "America/New_York"
    swap_buy_points: Points = -5.0
    swap_sell_points: Points = -3.0
    swap_points_by_symbol: dict[Symbol, tuple[Points, Points]] = {}
    leverage: Annotated[int, Meta(ge=1, le=1_000)] = 50
    margin_call_level: Annotated[float, Meta(ge=0, le=10)] = 1.0
    stop_out_level: Annotated[float, Meta(ge=0, le=10)] = 0.5
    stops_level_points: Annotated[int, Meta(ge=0, le=10_000)] = 10
    freeze_level_points: Annotated[int, Meta(ge=0, le=10_000)] = 0
    spread_pips: Annotated[float, Meta(gt=0, le=100)] = 1.0
    spread_factors: Annotated[tuple[SpreadFactor, ...], Meta(min_length=24, max_length=24)] | None = None
    week_open_spread_factor: SpreadFactor = 5.0
    commission_per_lot: Annotated[float, Meta(ge=0, le=100)] = 5.0
    symbol_suffix: str = "."
    history_kept: Annotated[int, Meta(ge=100, le=100_000)] = 10_000
    file_bytes_max: Annotated[int, Meta(ge=4_096, le=1_073_741_824)] = 16_777_216
    file_parts_kept: Annotated[int, Meta(ge=1, le=100)] = 4


class Compliance(Section, frozen=True, kw_only=True):
    """Which rule set applies: a name under config/rules/, or the path of a TOML file.

    `holidays` are dates on which no new order is sent, in any time zone of the rule set: the broker's API names none.
    `news_calendar` is the absolute path of a TOML file, see actors/compliance/news.py; empty when the rules need none.
    """

    holidays: Annotated[tuple[Date, ...], Meta(max_length=400)] = ()
    news_calendar: Annotated[str, Meta(pattern=r"^(|/.{1,400}\.toml)$")] = ""
    rules: Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63}|/.{1,400}\.toml)$")] = "e8-signature-50k"


class Alerts(Section, frozen=True, kw_only=True):
    """Telling people, and what they may order by Telegram. See docs/alerts.md.

    PILOT_TELEGRAM_TOKEN and PILOT_TELEGRAM_CHAT, both or none, stand in the environment; `second_env` names the
    variable with addresses of a second channel, `ping_env` that with the address that is asked while all is well.
    """

    telegram_url: Annotated[str, Meta(pattern=r"^https?://[^\s/?#@]+$")] = "https://api.telegram.org"
    level: Literal["info", "warning", "error"] = "info"
    coalesce_s: SecondsOrZero = 3.0
    old_s: Seconds = 3_600.0
    gap_s: SecondsOrZero = 1.0
    group_per_minute: Annotated[int, Meta(ge=1, le=60)] = 20
    request_s: Seconds = 10.0
    retry_after_s_max: Seconds = 300.0
    breaker_failures_max: Annotated[int, Meta(ge=1, le=100)] = 3
    breaker_wait_s: Seconds = 5.0
    breaker_wait_s_max: Seconds = 120.0
    second_env: EnvName = "PILOT_ALERT_URLS"
    second_s: Seconds = 20.0
    escalate_s: SecondsOrZero = 300.0
    backlog_s: Seconds = 900.0
    commands: bool = True
    poll_s: Annotated[float, Meta(ge=0, le=50)] = 25.0
    command_age_s_max: Seconds = 300.0
    confirm_s: Seconds = 60.0
    ping_env: EnvName = "PILOT_PING_URL"
    ping_s: Seconds = 60.0


class Dashboard(Section, frozen=True, kw_only=True):
    """The web page. Any other `host` than loopback needs a token in the variable `token_env`, for reading, too.

    `hosts` are further names under which browsers may ask for it, such as that of a proxy in front of it.
    """

    host: Annotated[str, Meta(pattern=r"^[0-9A-Za-z.:-]{1,253}$")] = "127.0.0.1"
    port: Port = 8780
    hosts: Annotated[tuple[Annotated[str, Meta(pattern=r"^[0-9a-z.:-]{1,253}$")], ...], Meta(max_length=16)] = ()
    token_env: EnvName = "PILOT_DASHBOARD_TOKEN"  # noqa: S105 - the name of the variable
    session_s: Annotated[float, Meta(ge=60, le=604_800)] = 43_200.0
    form_s: Annotated[float, Meta(ge=10, le=3_600)] = 600.0
    poll_s: Annotated[float, Meta(ge=0.05, le=5)] = 0.25
    clients_max: Annotated[int, Meta(ge=1, le=32)] = 16
    send_timeout_s: Annotated[float, Meta(ge=0.1, le=60)] = 10.0


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
    alerts: Alerts = Alerts()
    dashboard: Dashboard = Dashboard()
    supervisor: Supervisor = Supervisor()
