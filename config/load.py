"""Read settings, folders and secrets. The only reader of TOML files and of the environment.

Used once by every process at start. Never logs or returns a secret unless it is asked for that one by name.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tomllib
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from config.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PROFILES = ROOT / "config" / "profiles"
RULES = ROOT / "config" / "rules"
SOCKET_PATH_BYTES_MAX = 107
TOML_BYTES_MAX = 1_000_000
READ_ONLY = "PILOT_READONLY"
SECRET_ENDINGS = ("KEY", "PASSWORD", "SECRET", "TOKEN")
SECRET_CHARS_MIN = 8
ARCHIVE_DAYS_MIN = 90  # far beyond whatever a firm's day, a resend or a broker's history still asks for
OURS = ("PILOT_", "LOG_")
PLAIN = ("PILOT_PROFILE", "PILOT_DATA", "PILOT_RUN", READ_ONLY, "LOG_LEVEL", "LOG_FORMAT")  # any other may be a secret

T = TypeVar("T")


class ConfigError(Exception):
    """A setting, secret or folder is missing or wrong. The message says what was found and what is allowed."""


def settings(profile: str | None = None) -> Settings:
    """Return the settings of a profile: a name under config/profiles, or the path of a TOML file.

    Without an argument the profile is `PILOT_PROFILE`, else `paper`.

    Raises:
        ConfigError: no such profile, not TOML, unknown key, wrong type or value out of range.
    """
    path = profile_file(profile)
    return checked(read_toml(path), path)


def profile_file(profile: str | None = None) -> Path:
    """Return the file of a profile, see `settings`. Raises ConfigError when there is none."""
    wanted = profile or os.environ.get("PILOT_PROFILE") or "paper"
    path = Path(wanted) if wanted.endswith(".toml") else PROFILES / f"{wanted}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PROFILES.glob("*.toml")))
        raise ConfigError(f"profile {wanted!r}: there is no file {path}; known profiles: {known}")
    return path


def checked(raw: dict[str, Any], path: Path) -> Settings:
    """Return what was read from a profile at `path` as settings. Raises ConfigError."""
    raw.setdefault("profile", path.stem)
    found = convert(raw, Settings, path)
    _check_together(found, path)
    return found


def _check_together(found: Settings, path: Path) -> None:
    """Refuse values that are each allowed but not together."""
    _check_panel(found, path)
    if found.llm.sl_volatility_min >= found.llm.sl_volatility_max:
        raise ConfigError(
            f"{path}: llm.sl_volatility_min was {found.llm.sl_volatility_min}; "
            f"must be below llm.sl_volatility_max = {found.llm.sl_volatility_max}"
        )
    if found.llm.tp_volatility_max < found.llm.reward_to_risk_min * found.llm.sl_volatility_min:
        raise ConfigError(
            f"{path}: llm.tp_volatility_max was {found.llm.tp_volatility_max}; "
            "must be at least llm.reward_to_risk_min x llm.sl_volatility_min, or no target is allowed"
        )
    if found.bus.dead_s < 2 * found.bus.beat_s:
        raise ConfigError(f"{path}: bus.dead_s was {found.bus.dead_s}; must be at least 2 x bus.beat_s")
    if 0 < found.store.archive_after_days < ARCHIVE_DAYS_MIN:
        raise ConfigError(
            f"{path}: store.archive_after_days was {found.store.archive_after_days}; "
            f"allowed: 0 (nothing is moved), or at least {ARCHIVE_DAYS_MIN}"
        )
    if found.supervisor.watchdog_s < 2 * found.bus.beat_s:
        raise ConfigError(
            f"{path}: supervisor.watchdog_s was {found.supervisor.watchdog_s}; must be at least 2 x bus.beat_s"
        )
    _check_bars(found, path)
    if found.scanner.top_k >= len(found.symbols):
        raise ConfigError(
            f"{path}: scanner.top_k was {found.scanner.top_k}; allowed below {len(found.symbols)}, the symbols"
        )
    for day in found.compliance.holidays:
        try:
            date.fromisoformat(day)
        except ValueError as error:
            raise ConfigError(f"{path}: compliance.holidays holds {day!r}: {error}") from error
    if len(set(found.symbols)) != len(found.symbols):
        raise ConfigError(f"{path}: symbols names one pair twice: {', '.join(found.symbols)}")


DAILY_ONLY = frozenset({"ecb"})
TIMEFRAMES = ("D1", "H4", "H1")


def _check_bars(found: Settings, path: Path) -> None:
    """Refuse timeframes that are not served, and sources that cannot serve what is wanted."""
    wanted = found.scanner
    for name in wanted.timeframes:
        if name not in TIMEFRAMES:
            raise ConfigError(
                f"{path}: scanner.timeframes held {name!r}; allowed: D1, H4, H1. Below one hour the analysts' delay "
                "breaks any strategy (blueprint section 7.2)"
            )
        if set(wanted.sources) <= DAILY_ONLY and name != "D1":
            raise ConfigError(
                f"{path}: scanner.timeframes held {name!r}; scanner.sources = ['ecb'] has daily bars only"
            )
    for key, values in (("timeframes", wanted.timeframes), ("sources", wanted.sources)):
        if len(set(values)) != len(values):
            raise ConfigError(f"{path}: scanner.{key} names one twice: {', '.join(values)}")
    if "csv" in wanted.sources and not wanted.csv_path:
        raise ConfigError(f"{path}: scanner.csv_path is missing; the source 'csv' needs a folder of SYMBOL.csv files")
    if "parquet" in wanted.sources and not wanted.parquet_path:
        raise ConfigError(f"{path}: scanner.parquet_path is missing; 'parquet' needs a folder of SYMBOL.parquet files")
    if "synthetic" in wanted.sources and found.broker.is_live:
        raise ConfigError(
            f"{path}: scanner.sources holds 'synthetic' and broker.kind is {found.broker.kind!r}; invented prices are "
            "never ranked for a live account"
        )
    is_plain = wanted.twelvedata_url.startswith("http://")
    if is_plain and not re.match(r"http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$", wanted.twelvedata_url):
        raise ConfigError(
            f"{path}: scanner.twelvedata_url was {wanted.twelvedata_url!r}; plain http is allowed to this machine "
            "only, because the key goes with every request"
        )


def _check_panel(found: Settings, path: Path) -> None:
    """Refuse a panel without its roles, and a role at an endpoint that has no settings."""
    if found.llm.analyst == "panel" and found.llm.roles is None:
        raise ConfigError(f"{path}: llm.roles is missing; llm.analyst = 'panel' needs an endpoint for each role")
    if found.llm.roles is None:
        return
    known = ", ".join(sorted(found.llm.endpoints)) or "none"
    for role in found.llm.roles.__struct_fields__:
        if (name := getattr(found.llm.roles, role)) not in found.llm.endpoints:
            raise ConfigError(f"{path}: llm.roles.{role} was {name!r}; endpoints under [llm.endpoints]: {known}")


class RulesFile(NamedTuple):
    """A rule set's file as it was read: `fingerprint` is the sha256 of exactly the bytes that `raw` was read from."""

    path: Path
    raw: dict[str, Any]
    fingerprint: str


def rules_file(name: str, folder: Path = RULES) -> RulesFile:
    """Return the file of a rule set: a name under config/rules, or the path of a TOML file. Nothing in it is judged.

    Raises:
        ConfigError: no such file, unreadable, too large or not TOML.
    """
    path, content = _rules_bytes(name, folder)
    return RulesFile(path=path, raw=toml(content, path), fingerprint=hashlib.sha256(content).hexdigest())


def rules_fingerprint(name: str, folder: Path = RULES) -> str:
    """Return the sha256 of a rule set's file as it is now, without reading it as TOML. Raises ConfigError."""
    return hashlib.sha256(_rules_bytes(name, folder)[1]).hexdigest()


def _rules_bytes(name: str, folder: Path) -> tuple[Path, bytes]:
    path = Path(name) if name.endswith(".toml") else folder / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in folder.glob("*.toml"))) or "none"
        raise ConfigError(f"compliance.rules was {name!r}; there is no file {path}; known sets: {known}")
    return path, _read_bytes(path)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file. Raises ConfigError when it is unreadable, too large or not TOML."""
    return toml(_read_bytes(path), path)


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(TOML_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error}") from error
    if len(content) > TOML_BYTES_MAX:
        raise ConfigError(f"{path}: larger than {TOML_BYTES_MAX} bytes")
    return content


def toml(content: bytes, path: Path) -> dict[str, Any]:
    """Return the content of a TOML file that was read from `path`. Raises ConfigError."""
    try:
        return tomllib.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def convert(raw: dict[str, Any], kind: type[T], path: Path) -> T:
    """Return `raw` as `kind`. Raises ConfigError naming file, key, the value found and what is allowed."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(str(error), raw)}") from error


def _explain(message: str, raw: dict[str, Any]) -> str:
    """Turn "Expected `int` >= 1 - at `$.llm.slots`" into "llm.slots was 0; allowed: `int` >= 1"."""
    what, _, where = message.partition(" - at ")
    dotted = where.strip("`").removeprefix("$").lstrip(".")
    if match := re.fullmatch(r"Object contains unknown field `(.+)`", what):
        key = f"{dotted}.{match[1]}" if dotted else match[1]
        return f"{key} is not a setting; see config/settings.py for all of them"
    if match := re.fullmatch(r"Object missing required field `(.+)`", what):
        return f"{dotted + '.' if dotted else ''}{match[1]} is missing"
    if "[...]" in dotted:  # inside a table whose keys are the operator's: which one it was is not said
        return f"{dotted} is wrong; allowed: {what.removeprefix('Expected ')}"
    found: Any = raw
    for part in re.findall(r"[^.\[\]]+", dotted):
        if isinstance(found, dict):
            found = found.get(part)
        elif isinstance(found, list) and part.isdigit():
            found = found[int(part)]
    return f"{dotted or 'the file'} was {found!r}; allowed: {what.removeprefix('Expected ')}"


def data_folder() -> Path:
    """Return the folder of all run-time state (`PILOT_DATA`, else data/), created with mode 0700."""
    folder = Path(os.environ.get("PILOT_DATA") or ROOT / "data").expanduser().resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"PILOT_DATA: cannot use {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"PILOT_DATA: cannot use {folder}: we may not write there")
    return folder


def run_folder() -> Path:
    """Return the short private folder of sockets, locks and pid files that belongs to this data folder.

    Mode 0700 and owned by us, or ConfigError: sockets in a folder of somebody else could be taken over.
    """
    base = Path(os.environ.get("PILOT_RUN") or os.environ.get("XDG_RUNTIME_DIR") or "/tmp")  # noqa: S108 - checked below
    digest = hashlib.sha256(str(data_folder()).encode()).hexdigest()[:10]
    folder = base / f"pilot-{os.getuid()}-{digest}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ConfigError(f"run folder {folder}: {error.strerror}; set PILOT_RUN to a short folder of yours") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigError(f"run folder {folder}: must be a folder of ours with mode 0700; remove it and start again")
    # The longest name is an inbox: role, slot number and incarnation.
    if len(str(folder).encode()) + 1 + len("supervisor.99.0123456789ab.in") > SOCKET_PATH_BYTES_MAX:
        raise ConfigError(
            f"run folder {folder}: too long for a socket path ({SOCKET_PATH_BYTES_MAX} bytes); set PILOT_RUN"
        )
    return folder


def db_path(found: Settings) -> Path:
    """Return the path of the decision store's database."""
    return data_folder() / found.store.db_path


def secret(name: str) -> str:
    """Return the secret in environment variable `name`, else from `.env`.

    Raises:
        ConfigError: it is set nowhere, or `.env` can be read by others.
    """
    value = optional_secret(name)
    if not value:
        raise ConfigError(f"secret {name} is not set; put it into the environment or into {ROOT / '.env'} (mode 0600)")
    return value


def optional_secret(name: str) -> str:
    """Return the secret in environment variable `name`, else from `.env`, else nothing. Raises as `secret` does."""
    return os.environ.get(name) or env_file().get(name, "")


def secret_values(names: Iterable[str] = ()) -> frozenset[str]:
    """Return what must never be written down: the values of the variables `names`, and of all named like a secret.

    Those end in KEY, PASSWORD, SECRET or TOKEN, in the environment or in `.env`. Values shorter than
    `SECRET_CHARS_MIN` are left out: they could not be told from ordinary words.

    Raises:
        ConfigError: `.env` can be read by others.
    """
    wanted = frozenset(names)
    values = (
        value.strip()
        for where in (os.environ, env_file())
        for name, value in where.items()
        if name in wanted or name.upper().endswith(SECRET_ENDINGS)
    )
    return frozenset(value for value in values if len(value) >= SECRET_CHARS_MIN)


class Variable(NamedTuple):
    """One variable of ours: `value` is "***" when it is a secret, `origin` is environment or .env."""

    name: str
    value: str
    origin: str


def variables() -> list[Variable]:
    """Return the variables that steer us and are set, without the value of any secret. The environment comes first.

    Raises:
        ConfigError: `.env` can be read by others.
    """
    found = {}
    for origin, where in ((".env", env_file()), ("environment", os.environ)):
        for name, value in where.items():
            if name.startswith(OURS) and value:
                shown = value if name in PLAIN else "***"
                found[name] = Variable(name, shown, origin)
    return [found[name] for name in sorted(found)]


def is_read_only() -> bool:
    """Return whether `PILOT_READONLY`, in the environment or in `.env`, forbids every write to the broker.

    Either of the two that says yes is enough.

    Raises:
        ConfigError: it is neither 0 nor 1, or `.env` can be read by others.
    """
    said = [where.get(READ_ONLY, "").strip() for where in (os.environ, env_file())]
    if wrong := [one for one in said if one not in ("", "0", "1")]:
        raise ConfigError(f"{READ_ONLY} was {wrong[0]!r}; allowed: 1 (nothing is written to the broker), 0 or nothing")
    return "1" in said


def env_file() -> dict[str, str]:
    """Return the entries of `.env` beside the Procfile, or nothing. Raises ConfigError when others may read it."""
    path = ROOT / ".env"
    if not path.is_file():
        return {}
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(
            f"{path}: mode is {stat.S_IMODE(path.stat().st_mode):04o}; allowed 0600 (run: chmod 600 {path})"
        )
    from honcho.environ import parse  # the same reader that `honcho start` uses

    try:
        return {str(k): str(v) for k, v in parse(path.read_text(encoding="utf-8")).items()}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
