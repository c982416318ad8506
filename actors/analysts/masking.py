"""Takes out of a text whatever looks like a secret before it is written down.

Used by the llm process. Pure. Better one word too many than one key: a masked text is no longer what was said, and a
replay of it may miss.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from bus import masking

MASK = masking.MASK
# A token has a digit somewhere; so "bearer instruments" and "risk-adjusted" stay what they are.
_LONG_WORD = r"(?=[A-Za-z0-9._~+/=-]*[0-9])[A-Za-z0-9._~+/=-]{16,}"
_LOOKS_LIKE = re.compile(
    rf"(?P<lead>\bbearer\s+){_LONG_WORD}|(?<![A-Za-z0-9])(?:sk|pk|rk|ghp|xox[a-z])[-_]{_LONG_WORD}", re.IGNORECASE
)


class Masker:
    """Knows the secrets of this process and the looks of others."""

    def __init__(self, secrets: Collection[str]) -> None:
        self._hidden = masking.forms(secrets)

    def __call__(self, text: str) -> str:
        """Return the text with `***` for each secret."""
        return _LOOKS_LIKE.sub(lambda found: (found["lead"] or "") + MASK, masking.over(text, self._hidden))
