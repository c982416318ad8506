"""The checks of `pilot doctor` that need no network: interpreter, packages, disk, folders, settings, rules, secrets.

Used by pilot only. Reads files and the environment through `config.load`; changes nothing but for the empty data and
run folders, which are made as every process makes them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib import metadata, util
from pathlib import Path

from actors.analysts import endpoints
from actors.compliance import rulebook
from actors.compliance.rulebook import RuleSet
from actors.console import findings, telegram
from actors.console.findings import Finding
from config import load
from config.load import ConfigError
from config.settings import Settings
from store import queries

OURS = "prop-firm-pilot"
PACKAGES = ("supervisor", "config", "bus", "store", "actors", "tests")
PYTHON_MIN = (3, 11)
FREE_BYTES_MIN = 200_000_000
FREE_BYTES_WANTED = 1_000_000_000
NOT_SET = "set-me"  # what stands in the live profile until somebody edits it


def versions() -> list[Finding]:
    """Check the interpreter and the SQLite library."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    found, needed = queries.sqlite_versions()
    wanted = ".".join(str(part) for part in PYTHON_MIN)
    return [
        findings.ok("python", python)
        if sys.version_info >= PYTHON_MIN
        else findings.fail("python", f"{python}; allowed: {wanted} or newer", f"install Python {wanted}, make start"),
        findings.ok("sqlite", found)
        if _numbers(found) >= _numbers(needed)
        else findings.fail("sqlite", f"{found}; allowed: {needed} or newer", "pip install --upgrade apsw"),
    ]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def packages(
    installed: Mapping[str, Sequence[str]] | None = None, origin: Callable[[str], Path | None] | None = None
) -> list[Finding]:
    """Check that our packages are those that get imported, and that no other installed one has their names.

    `installed` are distributions by package, `origin` says where a package is imported from; None: ask Python.
    """
    by_package = metadata.packages_distributions() if installed is None else installed
    origin = origin or _origin
    found = []
    for name in PACKAGES:
        where = origin(name)
        if name != "tests" and (where is None or not where.is_relative_to(load.ROOT)):
            fix = "run it with the virtual environment of this folder, or remove the other package"
            found.append(findings.fail("packages", f"{name} is imported from {where}, not from {load.ROOT}", fix))
        others = sorted(set(by_package.get(name, ())) - {OURS})
        if others and name == "tests":
            said = f"{', '.join(others)} installs a package named tests"
            found.append(findings.warn("packages", said, f"run `make test` only without it: pip uninstall {others[0]}"))
        elif others:
            said = f"{', '.join(others)} installs a package named {name}, which may hide ours"
            found.append(findings.fail("packages", said, f"pip uninstall {' '.join(others)}"))
    return found or [findings.ok("packages", f"{', '.join(PACKAGES)} are ours")]


def _origin(name: str) -> Path | None:
    spec = util.find_spec(name)
    places = [] if spec is None else [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else [])]
    return Path(places[0]).resolve() if places else None


def folders(settings: Settings | None) -> list[Finding]:
    """Check space, owner and modes of the folders of all run-time state, and of the database."""
    try:
        data = load.data_folder()
    except ConfigError as error:
        return [findings.fail("data", str(error), "set PILOT_DATA to a folder of yours")]
    found = [disk(data, shutil.disk_usage(data).free), _mode("data", data)]
    try:
        found.append(findings.ok("run", str(load.run_folder())))
    except ConfigError as error:
        found.append(findings.fail("run", str(error), "set PILOT_RUN to a short folder of yours with mode 0700"))
    if settings is not None and (database := load.db_path(settings)).is_file():
        found.append(_mode("database", database))
    return found


def disk(folder: Path, free_bytes: int) -> Finding:
    """Check the space that is left where the database lies."""
    said = f"{free_bytes / 1e9:.1f} GB free in {folder}"
    fix = "make room, or move the data folder (PILOT_DATA)"
    if free_bytes < FREE_BYTES_MIN:
        return findings.fail("disk", f"{said}; allowed: {FREE_BYTES_MIN / 1e9:.1f} GB or more", fix)
    if free_bytes < FREE_BYTES_WANTED:
        return findings.warn("disk", f"{said}; wanted: {FREE_BYTES_WANTED / 1e9:.1f} GB", fix)
    return findings.ok("disk", said)


def _mode(check: str, path: Path) -> Finding:
    about = path.stat()
    mode, best = stat.S_IMODE(about.st_mode), "0700" if path.is_dir() else "0600"
    fix = f"chmod {best[1:]} {path}"
    if about.st_uid != os.getuid():
        return findings.fail(check, f"{path} belongs to uid {about.st_uid}, we are {os.getuid()}", f"chown it, {fix}")
    if mode & stat.S_IWOTH:
        return findings.fail(check, f"{path} has mode {mode:04o}: everybody may write; allowed: {best}", fix)
    if mode & 0o077:
        return findings.warn(check, f"{path} has mode {mode:04o}: others may look; wanted: {best}", fix)
    return findings.ok(check, f"{path}, mode {mode:04o}")


def env_file() -> Finding:
    """Check the file of secrets: that it can be read, by nobody else."""
    path = load.ROOT / ".env"
    try:
        entries = load.env_file()
    except ConfigError as error:
        return findings.fail(".env", str(error), f"chmod 600 {path}, and put the line that is named right")
    return findings.ok(".env", f"{path}, {len(entries)} entries" if path.is_file() else "none: environment only")


def settings(profile: str | None) -> tuple[Settings | None, list[Finding]]:
    """Load the profile; return it, or None when it is refused."""
    try:
        found = load.settings(profile)
    except ConfigError as error:
        return None, [findings.fail("settings", str(error), "put it right in the profile; see config/settings.py")]
    return found, [findings.ok("settings", f"profile {found.profile}"), *_placeholders(found)]


def _placeholders(found: Settings) -> list[Finding]:
    """Return what still stands in a live profile as we delivered it."""
    broker = found.broker
    if not broker.is_live:
        return []
    wrong = []
    if broker.account_id == NOT_SET:
        fix = "set broker.account_id to the account's number on the firm's dashboard"
        wrong.append(findings.fail("settings", f"broker.account_id was {NOT_SET!r}", fix))
    if broker.api == "platform" and broker.email.endswith("example.invalid"):
        fix = "set broker.email to the e-mail of your login at the broker"
        wrong.append(findings.fail("settings", f"broker.email was {broker.email!r}", fix))
    return wrong


def rules(settings: Settings, today: date) -> tuple[RuleSet | None, list[Finding]]:
    """Load the rule set; return it, or None when it is refused. What somebody should look at is a warning each."""
    name = settings.compliance.rules
    try:
        found = rulebook.load(name)
    except ConfigError as error:
        return None, [findings.fail("rules", str(error), "put it right, then run: pilot rules check")]
    warnings = [
        findings.warn("rules", one, "compare it with the firm's dashboard, then write it down; see: pilot rules show")
        for one in found.warnings(today)
    ]
    return found, [findings.ok("rules", f"{found.name}, sha256 {found.fingerprint[:12]}"), *warnings]


def secrets(settings: Settings) -> tuple[dict[str, str], list[Finding]]:
    """Return the secrets that this profile needs, by variable, and whether they are there. They are never shown."""
    names = [settings.broker.secret_env] if settings.broker.is_live else []
    found, said = {}, []
    specs = endpoints.specs(settings.llm).values()
    names += sorted({spec.api_key_env for spec in specs if not endpoints.is_here(spec)})
    if settings.llm.analyst == "tradingagents":
        names.extend(settings.llm.tradingagents_env)
    for name in names:
        try:
            found[name] = load.secret(name)
        except ConfigError as error:
            fix = f"put {name}=... into {load.ROOT / '.env'} and run: chmod 600 {load.ROOT / '.env'}"
            said.append(findings.fail("secrets", str(error), fix))
        else:
            said.append(findings.ok("secrets", f"{name} is set"))
    for name in (telegram.TOKEN, telegram.CHAT):  # nobody needs them: told by their own check
        with contextlib.suppress(ConfigError):
            found[name] = load.secret(name)
    return found, said or [findings.ok("secrets", "this profile needs none")]


def read_only() -> Finding:
    """Say whether writing to the broker is forbidden."""
    try:
        is_set = load.is_read_only()
    except ConfigError as error:
        return findings.fail("read-only", str(error), "set it to 1, or take it out")
    if is_set:
        said = f"{load.READ_ONLY} is set: nothing is written to the broker, no close either"
        return findings.warn("read-only", said, "take it out, and start again, when you want to trade")
    return findings.ok("read-only", f"{load.READ_ONLY} is not set")
