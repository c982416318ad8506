"""`.env` as honcho reads it, for those lines whose meaning is plain; every other line is refused.

Used by config/load.py only. honcho passes over a line that it does not understand, and cuts a value at a `#` or a quote
without a word: a switch would be off, and a password another one, with nobody told. Never puts a value into an error.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

ASSIGNMENT = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)", re.DOTALL)
QUOTED = re.compile(r"""(?:'[^']*'|"(?:\\.|[^"\\])*")+(?:\s+\#.*)?""", re.DOTALL)
HOW = "allowed: NAME=value, NAME='value with any signs', NAME= and lines that begin with #"


class _Refused(Exception):
    """A line means something else than it seems to. The message begins with its number."""


def read(text: str, is_known: Callable[[str], bool]) -> tuple[dict[str, str], list[str]]:
    """Return the entries by name, and for each line that is refused its number and why. `NAME=` is none, as for honcho.

    Refused are a line that is no assignment, a value that would not be read as it stands there, a second value of one
    name, and a name for which `is_known` is false.
    """
    found: dict[str, str] = {}
    refused = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            if entry := _entry(line, number, is_known):
                name, value = entry
                if name in found:
                    raise _Refused(f"{number}: {name} has a value further up already; allowed: one")
                found[name] = value
        except _Refused as error:
            refused.append(str(error))
    return found, refused


def _entry(line: str, number: int, is_known: Callable[[str], bool]) -> tuple[str, str] | None:
    """Return name and value of a line; None for an empty value. Raises _Refused."""
    if not (matched := ASSIGNMENT.fullmatch(line)):
        raise _Refused(f"{number}: {_why_none(line)}; {HOW}")
    name, raw = matched[1], matched[2].strip()
    if not raw:
        return None
    if not is_known(name):
        raise _Refused(f"{number}: {name} is no variable of ours, and no setting names it; see .env.example")
    return name, _value(name, line, raw, number)


def _why_none(line: str) -> str:
    """Return what is wrong with a line that is no assignment, without any of it: it might be a secret."""
    if line.startswith("\ufeff"):
        return "begins with a byte order mark (save the file as UTF-8 without one)"
    if line.split()[0] == "export":
        return "begins with export (leave that word out)"
    return "is no NAME=value"


def _value(name: str, line: str, raw: str, number: int) -> str:
    from honcho.environ import parse  # the same reader that `honcho start` uses

    try:
        value = {str(key): str(one) for key, one in parse(line).items()}.get(name)
        # In double quotes honcho's \n and \t are wanted; elsewhere they are part of a secret.
        is_plain = value == (_unquoted(raw) if QUOTED.fullmatch(raw) else raw) or _is_escaped(raw)
    except ValueError:  # a quote that is not closed
        value, is_plain = None, False
    if value is None or not is_plain:
        raise _Refused(
            f"{number}: the value of {name} would not be read as it stands there; put it into single quotes, "
            "or where it holds such a quote, \\n or \\t itself, into the environment"
        )
    return value


def _unquoted(raw: str) -> str:
    return shlex.split(raw, comments=True)[0]


def _is_escaped(raw: str) -> bool:
    return raw.startswith('"') and QUOTED.fullmatch(raw) is not None
