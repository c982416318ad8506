"""The forms in which a secret may stand in a text: as it is, in JSON, in an address, in base64.

Used by whoever writes text down that another said. Pure. Better one word too many than one key.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from urllib.parse import quote, quote_plus

MASK = "***"


def forms(secrets: Collection[str]) -> tuple[str, ...]:
    """Return every form of every secret, the longest first: one may be the beginning of another."""
    found = {form for secret in filter(None, secrets) for form in _forms(secret)}
    return tuple(sorted(found, key=lambda form: (-len(form), form)))


def over(text: str, hidden: Collection[str]) -> str:
    """Return the text with `***` for each of the forms in `hidden`."""
    for form in hidden:
        text = text.replace(form, MASK)
    return text


def _forms(secret: str) -> set[str]:
    raw = secret.encode("utf-8", "surrogatepass")
    escaped = json.dumps(secret)[1:-1]
    return {
        secret, escaped, escaped.replace("/", "\\/"), json.dumps(escaped)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1],
        quote(raw, safe=""), quote(raw), quote_plus(raw),
        base64.b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(raw).decode().rstrip("="),
    }  # fmt: skip
