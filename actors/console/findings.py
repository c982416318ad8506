"""What one check of `pilot doctor` found, and what to do about it. Pure.

Used by pilot only. A finding never holds a secret: whoever makes one names the variable, not its value.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from actors.console import text
from bus.vocabulary import ExitCode

UNREACHABLE = 69  # broker or endpoint of the language model did not answer, or something in front of them said no
LOGIN_REFUSED = 77  # the broker does not know us, or this login has not this account
CHARS_MAX = 600
SECRET_CHARS_MIN = 4  # a shorter one would blot out half of every text

# What must be put right first decides the exit code: with wrong settings nothing else means anything.
FIRST = (ExitCode.CONFIG, LOGIN_REFUSED, UNREACHABLE)


class Finding(Struct, frozen=True, kw_only=True):
    """One line. `fix` is "" and `code` 0 when all is well; `code` is a failure's class, see `FIRST`."""

    check: str
    state: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""
    code: int = 0


def ok(check: str, found: str) -> Finding:
    """Return that all is well."""
    return Finding(check=check, state="ok", found=text.line(found, CHARS_MAX))


def warn(check: str, found: str, fix: str) -> Finding:
    """Return that somebody should look, which keeps nothing from running."""
    return Finding(check=check, state="warn", found=text.line(found, CHARS_MAX), fix=fix)


def fail(check: str, found: str, fix: str, code: int = ExitCode.CONFIG) -> Finding:
    """Return that the pipeline would not run, or would run wrongly."""
    return Finding(check=check, state="fail", found=text.line(found, CHARS_MAX), fix=fix, code=code)


def exit_code(found: Iterable[Finding]) -> int:
    """Return 0 when nothing failed, else the class that must be put right first."""
    codes = {one.code for one in found if one.state == "fail"}
    return next((code for code in FIRST if code in codes), ExitCode.OK)


def without_secrets(found: Finding, secrets: Iterable[str]) -> Finding:
    """Return the finding with secrets blotted out: a server may quote back what it was sent."""
    said = found.found
    for secret in secrets:
        if len(secret) >= SECRET_CHARS_MIN:
            said = said.replace(secret, "***")
    return Finding(check=found.check, state=found.state, found=said, fix=found.fix, code=found.code)
