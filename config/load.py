"""Read settings, folders and secrets. The only reader of TOML files and of the environment.

Used once by every process at start. Never logs or returns a secret unless it is asked for that one by name.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from config import agreement, dotenv, entitled, private
from config import credentials as folder_of_secrets
from config.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PROFILES = ROOT / "config" / "profiles"
RULES = ROOT / "config" / "rules"
SOCKET_PATH_BYTES_MAX = 107
TOML_BYTES_MAX = 1_000_000
ENV_BYTES_MAX = 65_536
READ_ONLY = "PILOT_READONLY"
CLOCK_OFFSET = "PILOT_CLOCK_OFFSET"  # read by bus.clock; of tests only
CREDENTIALS = "CREDENTIALS_DIRECTORY"  # systemd's name for a folder of secrets
SECRET_CHARS_MIN = 8
OURS = ("PILOT_", "LOG_")
OF_TESTS = (CLOCK_OFFSET, "PILOT_FAILPOINTS", "PILOT_PAPER_FAULTS", "PILOT_ACK_LOG")
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
    return _settings_in(path, _read_bytes(path))


@functools.lru_cache(maxsize=4)
def _settings_in(path: Path, content: bytes) -> Settings:
    """Return the settings in these bytes. A spare reads the file again at its turn, but parses only what changed."""
    return checked(toml(content, path), path)


def profile_file(profile: str | None = None) -> Path:
    """Return the file of a profile, see `settings`. Raises ConfigError when there is none."""
    wanted = profile or os.environ.get("PILOT_PROFILE") or "paper"
    path = Path(wanted) if wanted.endswith(".toml") else PROFILES / f"{wanted}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PROFILES.glob("*.toml")))
        raise ConfigError(f"profile {wanted!r}: there is no file {path}; known profiles: {known}")
    return path


def profile_name(path: Path) -> str:
    """Return what `--profile` is given for this file: a name, or its path where it lies elsewhere."""
    return path.stem if path.parent.resolve() == PROFILES.resolve() else str(path)


def checked(raw: dict[str, Any], path: Path) -> Settings:
    """Return what was read from a profile at `path` as settings. Raises ConfigError."""
    raw.setdefault("profile", path.stem)
    found = convert(raw, Settings, path)
    try:
        agreement.check(found, is_clock_moved=bool(os.environ.get(CLOCK_OFFSET)))
    except agreement.Disagreement as error:
        raise ConfigError(f"{path}: {error}") from error
    return found


class RulesFile(NamedTuple):
    """A rule set's file as it was read: all of it speaks of exactly these bytes."""

    path: Path
    content: bytes

    @property
    def raw(self) -> dict[str, Any]:
        """The content as TOML has it. Raises ConfigError when it is none."""
        return toml(self.content, self.path)

    @property
    def fingerprint(self) -> str:
        """The sha256 of the content."""
        return hashlib.sha256(self.content).hexdigest()


def rules_file(name: str, folder: Path = RULES) -> RulesFile:
    """Return the file of a rule set: a name under config/rules, or the path of a TOML file. Nothing in it is judged.

    Raises:
        ConfigError: no such file, unreadable or too large.
    """
    path = Path(name) if name.endswith(".toml") else folder / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in folder.glob("*.toml"))) or "none"
        raise ConfigError(f"compliance.rules was {name!r}; there is no file {path}; known sets: {known}")
    return RulesFile(path, _read_bytes(path))


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
    """Return the folder of all run-time state (`PILOT_DATA`, else data/), created with mode 0700.

    Raises:
        ConfigError: it cannot be used, is not ours, or others may write there: they could swap what we read.
    """
    folder = Path(os.environ.get("PILOT_DATA") or ROOT / "data").expanduser().resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder == ROOT / "data" and folder.stat().st_uid == os.getuid():
            folder.chmod(0o700)  # a checkout makes it with whatever umask it had
        found = folder.stat()
    except OSError as error:
        raise ConfigError(f"PILOT_DATA: cannot use {folder}: {error.strerror}") from error
    if why := private.refusal(folder, found, os.getuid(), private.WRITABLE_BY_OTHERS):
        raise ConfigError(f"PILOT_DATA: {why}")
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
    """Return the secret `name`: from the environment, else the folder of credentials, else `.env`.

    Raises:
        ConfigError: it is set nowhere, or a file that holds secrets can be read by others.
    """
    value = optional_secret(name)
    if not value:
        raise ConfigError(f"secret {name} is not set; put it into the environment or into {ROOT / '.env'} (mode 0600)")
    return value


def optional_secret(name: str) -> str:
    """Return the secret `name` from where `secret` looks, else nothing. Raises as `secret` does."""
    return os.environ.get(name) or credentials().get(name) or env_file().get(name, "")


def credentials() -> dict[str, str]:
    """Return the secrets in the folder that `CREDENTIALS_DIRECTORY` names, by variable; nothing when it is not set.

    They are not put into the environment: a child reads those that it needs from the folder itself.

    Raises:
        ConfigError: the folder or a file in it cannot be used, see config/credentials.py.
    """
    folder = os.environ.get(CREDENTIALS)
    if not folder:
        return {}
    try:
        return folder_of_secrets.read(Path(folder))
    except folder_of_secrets.CredentialRefused as error:
        raise ConfigError(str(error)) from error


def secret_values(names: Iterable[str] = ()) -> frozenset[str]:
    """Return what must never be written down: the values of the variables `names`, and of all named like a secret.

    Those end in KEY, PASSWORD, SECRET or TOKEN, in the environment or in `.env`; credentials are all secret. Values
    shorter than `SECRET_CHARS_MIN` are left out: they could not be told from ordinary words.

    Raises:
        ConfigError: `.env` can be read by others.
    """
    secrets = credentials()
    wanted = frozenset(names) | secrets.keys()
    values = (
        value.strip()
        for where in (os.environ, secrets, env_file())
        for name, value in where.items()
        if name in wanted or name.upper().endswith(entitled.ENDINGS)
    )
    return frozenset(value for value in values if len(value) >= SECRET_CHARS_MIN)


class Variable(NamedTuple):
    """One variable of ours: `value` is "***" when it is a secret, `origin` is environment, credentials or .env."""

    name: str
    value: str
    origin: str


def variables() -> list[Variable]:
    """Return the variables that steer us and are set, without the value of any secret. The environment comes first.

    Raises:
        ConfigError: `.env` can be read by others.
    """
    found = {}
    for origin, where in ((".env", env_file()), ("credentials", credentials()), ("environment", os.environ)):
        for name, value in where.items():
            if name.startswith(OURS) and value:
                shown = value if name in PLAIN else "***"
                found[name] = Variable(name, shown, origin)
    return [found[name] for name in sorted(found)]


def is_read_only() -> bool:
    """Return whether `PILOT_READONLY` forbids every write to the broker.

    It may stand in the environment, among the credentials or in `.env`; one that says yes is enough.

    Raises:
        ConfigError: it is neither 0 nor 1, or `.env` can be read by others.
    """
    said = [where.get(READ_ONLY, "").strip() for where in (os.environ, credentials(), _env_file())]
    if wrong := [one for one in said if one not in ("", "0", "1")]:
        raise ConfigError(f"{READ_ONLY} was {wrong[0]!r}; allowed: 1 (nothing is written to the broker), 0 or nothing")
    return "1" in said


def env_file(tell: Callable[[str], None] | None = None) -> dict[str, str]:
    """Return the entries of `.env` beside the Procfile that no credential replaces.

    With `tell` a line that is not plain is told and passed over: what steers a pipeline that runs, such as flatten or
    stop, must not wait until somebody has mended it.

    Whoever starts processes puts them into the environment, where they would otherwise hide the credentials.

    Raises:
        ConfigError: others may read the file, a line in it is not plain (config/dotenv.py) and there is no `tell`, or
            the credentials cannot be used.
    """
    secrets = credentials()
    return {name: value for name, value in _env_file(tell).items() if name not in secrets}


def _env_file(tell: Callable[[str], None] | None = None) -> dict[str, str]:
    path = ROOT / ".env"
    if not path.is_file():
        return {}
    if why := private.refusal(path, path.stat(), os.getuid(), private.OPEN_TO_OTHERS):
        raise ConfigError(why)
    if path.stat().st_size > ENV_BYTES_MAX:
        raise ConfigError(f"{path}: larger than {ENV_BYTES_MAX} bytes")
    try:
        found, refused = dotenv.read(path.read_text(encoding="utf-8"), _is_known)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if tell is not None:
        for one in refused:
            tell(f"passed over {path}:{one}")
    elif refused:
        raise ConfigError(f"{path}:{refused[0]}")
    return found


def _is_known(name: str) -> bool:
    """Return whether somebody may ever look at this variable: not at `PILOT_READ_ONLY`, which switches nothing.

    Of names that end like a secret or an address any may: another profile than the one at hand may name it.
    """
    if not name.startswith("PILOT_") or name in (*PLAIN, *OF_TESTS, *entitled.USUAL):
        return True
    if name.endswith((*entitled.ENDINGS, "URL", "URLS")):
        return True
    try:
        return name in entitled.everything(settings())
    except ConfigError:
        return False
