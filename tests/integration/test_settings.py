"""Settings, folders and secrets from real files: what is refused says file, key, what was found and what is allowed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.console import machine
from bus.vocabulary import ExitCode
from config import load, settings
from config.load import ConfigError
from supervisor import cli
from tests.kit.real_store import pilot

NOT_ROOT = pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")

ROLES_AT_A = "[llm.roles]\n" + "\n".join(f"{role} = 'a'" for role in ("technical", "macro", "bull", "bear", "judge"))


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PILOT_PROFILE", "PILOT_DATA", "PILOT_RUN", "XDG_RUNTIME_DIR", "PILOT_READONLY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pt", dir="/tmp") as folder:
        yield Path(folder)


def refused(tmp_path: Path, toml: str | bytes) -> str:
    """Return the message, without the folder, for a profile with this content."""
    path = tmp_path / "mine.toml"
    path.write_bytes(toml if isinstance(toml, bytes) else toml.encode())
    with pytest.raises(ConfigError) as error:
        load.settings(str(path))
    return str(error.value).replace(str(tmp_path) + "/", "")


def test_a_clock_that_tests_move_is_refused_for_a_live_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(load.CLOCK_OFFSET, str(tmp_path / "offset"))
    for kind in ("platform", "trader"):
        found = refused(tmp_path, f"[broker]\nkind = '{kind}'")
        assert found.startswith(f"mine.toml: PILOT_CLOCK_OFFSET is set and broker.kind is '{kind}'"), found
    (tmp_path / "paper.toml").write_text("[broker]\nkind = 'paper'")
    assert load.settings(str(tmp_path / "paper.toml")).broker.kind == "paper"


# ── profiles ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[llm]\nslots = 0", "mine.toml: llm.slots was 0; allowed: `int` >= 1"),
        ("[llm]\nslots = 65", "mine.toml: llm.slots was 65; allowed: `int` <= 64"),
        ("[llm]\nslots = 1.0", "mine.toml: llm.slots was 1.0; allowed: `int`, got `float`"),
        ("[llm]\nslots = true", "mine.toml: llm.slots was True; allowed: `int`, got `bool`"),
        ("[llm]\nslots = '1'", "mine.toml: llm.slots was '1'; allowed: `int`, got `str`"),
        ("llm = 3", "mine.toml: llm was 3; allowed: `object`, got `int`"),
        ("[bus]\nbeat_s = nan", "mine.toml: bus.beat_s was nan; allowed: `float` >= 0.01"),
        ("[bus]\nbeat_s = inf", "mine.toml: bus.beat_s was inf; allowed: `float` <= 604800.0"),
        ("[executor]\nrisk_per_trade_ratio = nan", "executor.risk_per_trade_ratio was nan; allowed: `float` > 0.0"),
        ("[executor]\nrisk_per_trade_ratio = 0.5", "executor.risk_per_trade_ratio was 0.5; allowed: `float` <= 0.05"),
        ("[executor]\nrisk_per_trade = 0.01", "executor.risk_per_trade is not a setting; see config/settings.py"),
        ("[brokers]\nkind = 'paper'", "mine.toml: brokers is not a setting"),
        ("[broker]\nkind = 'live'", "broker.kind was 'live'; allowed: "),
        ("symbols = ['EURUSD', 'eurusd']", "symbols[1] was 'eurusd'; allowed: "),
        ("symbols = []", "symbols was []; allowed: "),
        ("symbols = 'EURUSD'", "symbols was 'EURUSD'; allowed: "),
        ("[compliance]\nrules = '../secrets'", "compliance.rules was '../secrets'; allowed: "),
        ("[bus]\ndead_s = 1.5", "mine.toml: bus.dead_s was 1.5; must be at least 2 x bus.beat_s"),
        ("[scanner]\nsources = ['csv']", "scanner.csv_path is missing"),
        ("[scanner]\nsources = ['parquet']", "scanner.parquet_path is missing"),
        ("[scanner]\nsources = []", "scanner.sources was []"),
        ("[scanner]\nsources = ['ecb', 'ecb']", "scanner.sources names one twice"),
        ("[scanner]\nsources = ['yahoo']", "scanner.sources"),
        ("[scanner]\ntimeframes = ['D1', 'M15']", "scanner.timeframes held 'M15'; allowed: D1, H4, H1. Below one hour"),
        ("[scanner]\ntimeframes = ['H1']", "scanner.sources = ['ecb'] has daily bars only"),
        ("[scanner]\nsources = ['synthetic']\n[broker]\nkind = 'platform'", "never ranked for a live account"),
        ("[scanner]\ntwelvedata_url = 'http://api.twelvedata.com'", "plain http is allowed to this machine only"),
        ("[scanner]\nintent_ttl_minutes_h1 = 61", "scanner.intent_ttl_minutes_h1 was 61"),
        ("symbols = ['EURUSD', 'EURUSD', 'GBPUSD', 'USDJPY']", "symbols names one pair twice: EURUSD, EURUSD"),
        ("symbols = ['EURUSD', 'GBPUSD']", "scanner.top_k was 3; "),
        ("[llm]\nsl_volatility_min = 6", "llm.sl_volatility_min was 6.0; must be below llm.sl_volatility_max = 5.0"),
        ("[llm]\ntp_volatility_max = 0.1", "llm.tp_volatility_max was 0.1; must be at least llm.reward_to_risk_min x"),
        (
            "[llm]\nanalyst = 'tradingagents'\n[scanner]\nsources = ['csv']\ncsv_path = '/x'\n"
            "timeframes = ['H4', 'H1']",
            "llm.tradingagents_sl_volatilities was 1.5 of a day, 7.35 of an H1 bar; allowed: llm.sl_volatility_min .. "
            "llm.sl_volatility_max, 0.3..5",
        ),
        (
            "[llm]\nanalyst = 'tradingagents'\ntp_volatility_max = 7\n[scanner]\nsources = ['csv']\ncsv_path = '/x'\n"
            "timeframes = ['H4']",
            "llm.tradingagents_tp_volatilities was 3 of a day, 7.35 of an H4 bar; allowed: at most "
            "llm.tp_volatility_max, 7",
        ),
        ("[llm]\nanalyst = 'panel'", "llm.roles is missing; llm.analyst = 'panel' needs an endpoint for each role"),
        ("[llm.roles]\ntechnical = 'a'\nmacro = 'a'\nbull = 'a'\nbear = 'a'", "llm.roles.judge is missing"),
        (
            f"{ROLES_AT_A}\n[llm.endpoints.b]\nmodel = 'm'",
            "llm.roles.technical was 'a'; endpoints under [llm.endpoints]: b",
        ),
        (f"{ROLES_AT_A}\nrisk = 'a'", "llm.roles.risk is not a setting"),
        ("[llm.endpoints.a]\nprice_in = '-1'", "llm.endpoints[...].price_in is wrong; allowed: "),
        ("[llm.endpoints.a]\nprice_in = 0.15", "llm.endpoints[...].price_in is wrong; allowed: `str | null`, got"),
        ("[llm]\nday_cost_max = 1.5", "llm.day_cost_max was 1.5; allowed: "),
        ("[llm]\nday_tokens_max = -1", "llm.day_tokens_max was -1; allowed: "),
        ("[llm]\nbriefing_path = 'news.md'", "llm.briefing_path was 'news.md'; allowed: "),
        ("[llm]\nroles_folder = 'roles'", "llm.roles_folder was 'roles'; allowed: "),
        ("[monitor]\nequity_poll_s = 86400", "monitor.equity_poll_s was 86400; allowed: `float` <= 300.0"),
        ("[monitor]\nequity_poll_flat_s = 301", "monitor.equity_poll_flat_s was 301; allowed: `float` <= 300.0"),
        ("[monitor]\nequity_poll_near_s = 31", "monitor.equity_poll_near_s was 31; allowed: `float` <= 30.0"),
        (
            "[monitor]\nequity_poll_s = 120\nequity_poll_flat_s = 90",
            "monitor.equity_poll_s was 120.0; must be at most monitor.equity_poll_flat_s = 90.0",
        ),
        ("[monitor]\nflat_close_s = 0", "monitor.flat_close_s was 0; allowed: `float` >= 60.0"),
        ("[monitor]\nflat_close_s = 604800", "monitor.flat_close_s was 604800; allowed: `float` <= 3600.0"),
        ("[executor]\nflat_lead_s = 0", "executor.flat_lead_s was 0.0; must be at least monitor.flat_close_s = 600.0"),
        ("[executor]\ngap_allowance_pips = 0", "executor.gap_allowance_pips was 0; allowed: `float` >= 0.5"),
        (
            "[executor.gap_allowance_pips_by_symbol]\nEURUSD = 0.0",
            "executor.gap_allowance_pips_by_symbol[...] is wrong; allowed: `float` >= 0.5",
        ),
        ("[llm", "mine.toml: "),
        (b"\xff\xfe", "mine.toml: "),
        ("a = 1\na = 2", "mine.toml: "),
        ("#" * 1_000_001, "mine.toml: larger than 1000000 bytes"),
    ],
    ids=lambda value: str(value)[:40].replace("\n", " "),
)
def test_a_wrong_profile_is_refused_with_file_key_and_what_is_allowed(
    tmp_path: Path, toml: str | bytes, message: str
) -> None:
    assert message in refused(tmp_path, toml)


def test_an_unknown_key_does_not_show_its_value(tmp_path: Path) -> None:
    assert "hunter2" not in refused(tmp_path, "[broker]\npassword = 'hunter2'")


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"profile 'papr'.*known profiles: .*paper"):
        load.settings("papr")


def test_the_profile_of_the_environment_is_taken_and_a_given_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("[llm]\nslots = 7")
    monkeypatch.setenv("PILOT_PROFILE", str(mine))
    assert (load.settings().profile, load.settings().llm.slots) == ("mine", 7)
    assert load.settings("paper").profile == "paper"


@pytest.mark.parametrize("name", sorted(path.stem for path in load.PROFILES.glob("*.toml")))
def test_every_profile_of_the_house_can_be_read(name: str) -> None:
    assert load.settings(name).profile == name


def test_settings_never_change() -> None:
    with pytest.raises(AttributeError):
        load.settings("paper").llm.slots = 3  # type: ignore[misc]


def test_a_symlink_loop_or_a_folder_instead_of_a_profile_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    for name in ("folder.toml", "loop.toml"):
        with pytest.raises(ConfigError, match="there is no file"):
            load.settings(str(tmp_path / name))


# ── folders ─────────────────────────────────────────────────────────────────


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").write_text("")
    monkeypatch.setenv("PILOT_DATA", str(tmp_path / "data"))
    with pytest.raises(ConfigError, match="PILOT_DATA: cannot use"):
        load.data_folder()


@NOT_ROOT
def test_a_data_folder_that_we_may_not_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o500)
    monkeypatch.setenv("PILOT_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match="we may not write there"):
        load.data_folder()


def test_folders_are_made_private(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOT_DATA", str(short / "a" / "data"))
    monkeypatch.setenv("PILOT_RUN", str(short))
    for folder in (load.data_folder(), load.run_folder()):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_the_run_folder_belongs_to_one_data_folder(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOT_RUN", str(short))
    found = set()
    for name in ("a", "b", "a"):
        monkeypatch.setenv("PILOT_DATA", str(short / name))
        found.add(load.run_folder())
    assert len(found) == 2


@pytest.mark.parametrize("what", ["open", "link", "file", "missing", "long", "too long to exist"])
def test_a_run_folder_that_could_be_somebody_elses_or_does_not_fit_is_refused(
    short: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("PILOT_DATA", str(short / "data"))
    monkeypatch.setenv("PILOT_RUN", str(short))
    folder = load.run_folder()
    folder.rmdir()
    message = "run folder .*must be a folder of ours with mode 0700"
    if what == "open":
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
    elif what == "link":
        (short / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(short / "elsewhere")
    elif what == "file":
        folder.write_text("")
        message = "run folder .*set PILOT_RUN"
    elif what == "missing":
        monkeypatch.setenv("PILOT_RUN", str(short / "nowhere"))
        message = "run folder .*No such file or directory; set PILOT_RUN"
    elif what == "long":
        (short / ("x" * 60)).mkdir()
        monkeypatch.setenv("PILOT_RUN", str(short / ("x" * 60)))
        message = "too long for a socket path"
    else:
        monkeypatch.setenv("PILOT_RUN", str(short / ("x" * 300)))
        message = "run folder .*set PILOT_RUN"
    with pytest.raises(ConfigError, match=message):
        load.run_folder()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_run_folder_of_another_user_is_refused(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOT_DATA", str(short / "data"))
    monkeypatch.setenv("PILOT_RUN", str(short))
    os.chown(load.run_folder(), 65_534, 65_534)
    with pytest.raises(ConfigError, match="must be a folder of ours"):
        load.run_folder()


# ── secrets ─────────────────────────────────────────────────────────────────


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(load, "ROOT", tmp_path)
    monkeypatch.delenv("PILOT_TEST_SECRET", raising=False)
    return tmp_path


def env_file(root: Path, content: str | bytes, mode: int = 0o600) -> None:
    (root / ".env").write_bytes(content if isinstance(content, bytes) else content.encode())
    (root / ".env").chmod(mode)


def test_a_secret_that_is_set_nowhere_is_refused_by_name(root: Path) -> None:
    with pytest.raises(ConfigError, match="secret PILOT_TEST_SECRET is not set"):
        load.secret("PILOT_TEST_SECRET")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_an_env_file_that_others_can_read_is_refused(root: Path, mode: int) -> None:
    env_file(root, "PILOT_TEST_SECRET=x\n", mode)
    with pytest.raises(ConfigError, match=f"mode is {mode:04o}; allowed 0600") as error:
        load.secret("PILOT_TEST_SECRET")
    assert "chmod 600" in str(error.value)


def test_an_env_file_that_is_not_text_is_refused(root: Path) -> None:
    env_file(root, b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"\.env: "):
        load.secret("PILOT_TEST_SECRET")


def test_an_empty_secret_is_as_good_as_none(root: Path) -> None:
    env_file(root, "PILOT_TEST_SECRET=\n")
    with pytest.raises(ConfigError, match="is not set"):
        load.secret("PILOT_TEST_SECRET")


def test_a_secret_comes_from_the_env_file_and_the_environment_wins(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file(root, "# mine\nPILOT_TEST_SECRET='from file'\n")
    assert load.secret("PILOT_TEST_SECRET") == "from file"
    monkeypatch.setenv("PILOT_TEST_SECRET", "from environment")
    assert load.secret("PILOT_TEST_SECRET") == "from environment"


NOT_AS_IT_STANDS = (
    "2: the value of PILOT_BROKER_PASSWORD would not be read as it stands there; put it into single quotes"
)
REFUSED_LINES = [
    ("export PILOT_READONLY=1", "2: begins with export"),
    ("PILOT_READONLY: 1", "2: is no NAME=value"),
    ("PILOT-READONLY=1", "2: is no NAME=value"),
    ("PILOT_READONLY", "2: is no NAME=value"),
    ("Sw0rdfish", "2: is no NAME=value"),
    ("PILOT_READ_ONLY=1", "2: PILOT_READ_ONLY is no variable of ours"),
    ("PILOT_READONLY=1\nPILOT_READONLY=0", "3: PILOT_READONLY has a value further up"),
    ("PILOT_READONLY=1 # none for now", "2: the value of PILOT_READONLY would not be read"),
    *(
        (f"PILOT_BROKER_PASSWORD={value}", NOT_AS_IT_STANDS)
        for value in (
            "Sw0rdfish#9!xQ", "#Sw0rdfish", "Sw0rd fish x", r"Sw0rd\fish$1", "Sw0rd'fish", "Sw0rd'fi'sh", '"Sw0rdfish',
            "'Sw0rd'fish", "'Sw0rdfish'#9", "'Sw0rd' 'fish'", r"'Sw0rd\nfish'",
        )
    ),
]  # fmt: skip
READ_LINES = [
    ("PILOT_READONLY=1", {"PILOT_READONLY": "1"}),
    ("  PILOT_READONLY = 1  ", {"PILOT_READONLY": "1"}),
    ("PILOT_READONLY='1'  # nothing is written", {"PILOT_READONLY": "1"}),
    ("PILOT_READONLY=\nPILOT_READONLY=1", {"PILOT_READONLY": "1"}),
    ("# PILOT_READ_ONLY=1\n\n\t# more\nPILOT_READ_ONLY=", {}),
    ("PILOT_BROKER_PASSWORD=Tr4de/+=:,.@%!xQ$1-", {"PILOT_BROKER_PASSWORD": "Tr4de/+=:,.@%!xQ$1-"}),
    ("PILOT_BROKER_PASSWORD='Tr4de#9 \\ \"x\"'", {"PILOT_BROKER_PASSWORD": 'Tr4de#9 \\ "x"'}),
    ("""PILOT_BROKER_PASSWORD='it'"'"'s'""", {"PILOT_BROKER_PASSWORD": "it's"}),
    ('PILOT_BROKER_PASSWORD="a\\nb"', {"PILOT_BROKER_PASSWORD": "a\nb"}),
    ("PILOT_FTMO_PASSWORD=x\nOTHERS=y", {"PILOT_FTMO_PASSWORD": "x", "OTHERS": "y"}),
]


@pytest.mark.parametrize(("line", "why"), REFUSED_LINES)
@pytest.mark.parametrize("reader", [load.env_file, load.is_read_only])
def test_a_line_of_the_env_file_that_is_not_plain_is_refused_with_its_number_and_without_its_value(
    root: Path, line: str, why: str, reader: Callable[[], object]
) -> None:
    env_file(root, f"# mine\n{line}\n")
    with pytest.raises(ConfigError) as error:
        reader()
    assert str(error.value).startswith(f"{root / '.env'}:{why}")
    assert "Sw0rd" not in str(error.value) and "fish" not in str(error.value)


def test_an_env_file_with_a_byte_order_mark_is_refused(root: Path) -> None:
    env_file(root, "\ufeffPILOT_READONLY=1\n")
    with pytest.raises(ConfigError, match=r"\.env:1: begins with a byte order mark"):
        load.is_read_only()


@pytest.mark.parametrize(("lines", "expected"), READ_LINES)
def test_a_plain_line_of_the_env_file_is_read_as_it_stands_there(
    root: Path, lines: str, expected: dict[str, str]
) -> None:
    env_file(root, f"{lines}\n")
    assert load.env_file() == expected
    assert load.is_read_only() is ("PILOT_READONLY" in expected)


def test_a_name_that_only_the_profile_at_hand_gives_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file(root, "PILOT_CHANNEL=x\n")
    with pytest.raises(ConfigError, match="no setting names it"):
        load.env_file()
    (root / "mine.toml").write_text("[alerts]\nsecond_env = 'PILOT_CHANNEL'\n")
    monkeypatch.setenv("PILOT_PROFILE", str(root / "mine.toml"))
    assert load.env_file() == {"PILOT_CHANNEL": "x"}


def test_what_steers_a_running_pipeline_passes_over_a_line_that_is_not_plain_and_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PILOT_DATA", "elsewhere")  # to be put back
    env_file(root, f"export PILOT_X=1\nPILOT_DATA={root / 'data'}\n")
    said = f"passed over {root / '.env'}:1: begins with export"
    for verb in ("status", "stop"):
        assert cli.main([verb]) != ExitCode.CONFIG
        err = capsys.readouterr().err
        assert f"supervisor: {said}" in err and (verb == "stop" or f"(data folder {root / 'data'})" in err)
    for command in (("halts",), ("flatten", "--reason", "get me out", "--yes")):
        ended = pilot(*command)
        assert ended.returncode == 3 and ended.stderr.startswith(f"pilot: {said}"), ended.stderr
        assert f"{root / 'data'}/decisions.db: there is no database yet" in ended.stderr


def test_the_example_of_an_env_file_is_read_and_holds_nothing(root: Path) -> None:
    env_file(root, (Path(load.__file__).parent.parent / ".env.example").read_text())
    assert load.env_file() == {}


def test_a_supervisor_and_doctor_end_with_78_at_a_line_that_is_not_plain(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env_file(root, "PILOT_BROKER_PASSWORD=Sw0rd'fish\n")
    assert cli.main([]) == ExitCode.CONFIG
    said = capsys.readouterr().err
    assert ".env:1: the value of PILOT_BROKER_PASSWORD" in said and "Sw0rd" not in said
    (found,) = [machine.env_file()]
    assert found.state == "fail" and ".env:1: " in found.found


# ── the settings themselves ─────────────────────────────────────────────────


def test_every_default_is_within_its_own_range() -> None:
    import msgspec

    raw = msgspec.to_builtins(settings.Settings(profile="x"))
    assert msgspec.convert(raw, settings.Settings) == settings.Settings(profile="x")


def test_every_number_has_limits() -> None:
    import msgspec

    missing = []
    for name in settings.Settings.__struct_fields__:
        section = getattr(settings.Settings(profile="x"), name)
        if not isinstance(section, settings.Section):
            continue
        fields = msgspec.json.schema(type(section))["$defs"][type(section).__name__]["properties"]
        for key, schema in fields.items():
            if schema.get("type") in ("integer", "number"):
                limits = {word[:2] for word in ("minimum", "maximum", "exclusiveMinimum") if word in schema}
                if not ({"mi", "ex"} & limits and "ma" in limits):
                    missing.append(f"{name}.{key}")
    assert missing == []
