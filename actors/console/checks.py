"""Figures of the guard's checks as people read them. Pure.

Used by pilot, the page and `why`. The record keeps what the guard wrote: whole cents, whole hashes.
"""

from __future__ import annotations

import re

from actors.compliance import money
from actors.console import text

HASH_CHARS = 12

_CENTS = re.compile(r"-?\d+\Z")
_HASH = re.compile(r"[0-9a-f]{64}\Z")


def figure(check: str, value: str) -> str:
    """Return a limit or a finding of that check: money as an amount, a hash by its beginning, at most five decimals."""
    if check in money.CHECKS_IN_CENTS and _CENTS.match(value):
        return money.amount(int(value))
    if _HASH.match(value):
        return value[:HASH_CHARS]
    return text.rounded(value)
