"""Read a Procfile with honcho's own parser, so that `supervisor` and `honcho start` run the same names.

Used by the supervisor of all names at start. Stricter than honcho, which skips lines that it does not understand:
a name that is silently missing could be the monitor.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from bus.vocabulary import Role
from config import load
from config.load import ConfigError
from supervisor import formation

BYTES_MAX = 100_000


def roles(path: Path, profile: Path | None) -> tuple[Role, ...]:
    """Return the names of a Procfile in its order. `profile`: the file that its lines may name; None: any.

    Raises:
        ConfigError: unreadable, a line that is not `NAME: exec supervisor run NAME`, a name twice or unknown, no
            store, or a line for another profile than the one that is wanted.
    """
    from honcho.environ import parse_procfile

    found: list[Role] = []
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        entries = list(parse_procfile(line).processes.items())
        if not entries:
            raise ConfigError(f"{path}:{number}: {line!r} is not NAME: COMMAND")
        name, command = entries[0]
        try:
            role = formation.role_of(name)
        except formation.UsageError as error:
            raise ConfigError(f"{path}:{number}: {error}") from error
        if role in found:
            raise ConfigError(f"{path}:{number}: {role} stands there twice")
        _check_command(command, role, profile, f"{path}:{number}")
        found.append(role)
    if Role.STORE not in found:
        raise ConfigError(f"{path}: has no store; every other process works through it")
    return tuple(found)


def default_path(folder: Path, *, paper: bool) -> Path:
    """Return `Procfile` for the paper broker, else `Procfile.live`, which has none."""
    return folder / ("Procfile" if paper else "Procfile.live")


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > BYTES_MAX:
            raise ConfigError(f"{path}: larger than {BYTES_MAX} bytes")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _check_command(command: str, role: Role, profile: Path | None, where: str) -> None:
    wanted = f"exec supervisor run {role}"
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"{where}: {command!r}: {error}") from error
    # Without exec honcho would signal the shell, and the process behind it would run on unnoticed.
    if words[:4] != wanted.split():
        raise ConfigError(f"{where}: the command was {command!r}; allowed: {wanted!r}, and --profile NAME after it")
    options = words[4:]
    if options and (len(options) != 2 or options[0] != "--profile"):
        raise ConfigError(f"{where}: options were {' '.join(options)!r}; allowed: --profile NAME, or none")
    if options and profile is not None and not _is_named(profile, options[1], where):
        mine = load.profile_name(profile)
        raise ConfigError(
            f"{where}: is for profile {options[1]}, but the profile is {mine}; put --profile {mine} into every line, "
            f"or start with --profile {options[1]}"
        )


def _is_named(profile: Path, name: str, where: str) -> bool:
    """Return whether a line means this profile, by its name or by a path."""
    try:
        return load.profile_file(name).resolve() == profile.resolve()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
