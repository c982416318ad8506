"""The operator's briefing for the panel: a text file, read anew for each decision. Hostile until proven otherwise.

Used by the llm process. Never repaired and never cut in silence: what cannot be read whole is an error.
"""

from __future__ import annotations

from pathlib import Path

from config.load import ConfigError

BYTES_MAX = 16_384
CHARS_MAX = 16_384


def read(path: str) -> str:
    """Return the text of the briefing; empty when there is none (`path` is empty).

    Raises:
        ConfigError: it cannot be read, is no UTF-8 or too large.
    """
    if not path:
        return ""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(BYTES_MAX + 1)
        given = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"llm.briefing_path {path}: {error}") from error
    if len(raw) > BYTES_MAX:
        raise ConfigError(f"llm.briefing_path {path}: larger than {BYTES_MAX} bytes")
    return given
