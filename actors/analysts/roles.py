"""The roles of the panel: a prompt in Markdown each, with a front part that says what the role may see.

Used by the llm process. The texts are the delivered ones or a folder of the operator's. A placeholder stands for a
figure of ours; text of others never gets into a role's own text. What is unknown in a file is refused at the start.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Literal

from msgspec import Struct

from actors.analysts import timeframes
from bus.records import Signal
from config.load import ConfigError
from config.settings import Llm

Role = Literal["technical", "macro", "bull", "bear", "judge"]
Sight = Literal["signal", "briefing", "views", "opponent", "debate"]

DELIVERED = Path(__file__).parent / "roles"
BYTES_MAX = 16_384
MAY_SEE: dict[Role, frozenset[str]] = {
    "technical": frozenset({"signal", "briefing"}),
    "macro": frozenset({"signal", "briefing"}),
    "bull": frozenset({"signal", "briefing", "views", "opponent"}),
    "bear": frozenset({"signal", "briefing", "views", "opponent"}),
    "judge": frozenset({"signal", "briefing", "views", "debate"}),
}
"""`views` are what technical and macro said, `opponent` is the other advocate's last word, `debate` both last words."""
PLACEHOLDERS = frozenset(
    {
        "symbol", "timeframe", "bar", "bar_time", "volatility_pips", "sl_min_pips", "sl_max_pips", "tp_max_pips",
        "reward_to_risk_min", "round", "rounds",
    }
)  # fmt: skip


class Prompt(Struct, frozen=True):
    """A role's own text, with placeholders, and what it may see."""

    role: Role
    text: str
    sees: frozenset[str]

    def told(self, signal: Signal, limits: Llm, round_number: int = 1) -> str:
        """Return the text for a signal."""
        volatility = signal.volatility_pips
        return self.text.format_map(
            {
                "symbol": signal.symbol,
                "timeframe": signal.timeframe,
                "bar": timeframes.bar(signal.timeframe),
                "bar_time": signal.bar_time,
                "volatility_pips": f"{volatility:.1f}",
                "sl_min_pips": f"{limits.sl_volatility_min * volatility:.1f}",
                "sl_max_pips": f"{limits.sl_volatility_max * volatility:.1f}",
                "tp_max_pips": f"{limits.tp_volatility_max * volatility:.1f}",
                "reward_to_risk_min": f"{limits.reward_to_risk_min:g}",
                "round": str(round_number),
                "rounds": str(limits.rounds),
            }
        )


def load(folder: str = "") -> dict[Role, Prompt]:
    """Return the prompts of all roles, from a folder of the operator's or (empty) the delivered ones.

    Raises:
        ConfigError: a file is missing, too large, or holds something that is unknown.
    """
    return {role: _read(Path(folder) if folder else DELIVERED, role) for role in MAY_SEE}


def _read(folder: Path, role: Role) -> Prompt:
    path = folder / f"{role}.md"
    try:
        with path.open("rb") as file:
            raw = file.read(BYTES_MAX + 1)
        given = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}; llm.roles_folder needs a file for each of {', '.join(MAY_SEE)}") from error
    if len(raw) > BYTES_MAX:
        raise ConfigError(f"{path}: larger than {BYTES_MAX} bytes")
    front, body = _split(path, given)
    if front.get("name") != role:
        raise ConfigError(f"{path}: name was {front.get('name')!r}; must be {role!r}, as the file is called")
    sees = frozenset(one.strip() for one in front.get("sees", "").split(",")) - {""}
    if wrong := sorted(sees - MAY_SEE[role]):
        raise ConfigError(
            f"{path}: sees was {', '.join(wrong)}; allowed for {role}: {', '.join(sorted(MAY_SEE[role]))}"
        )
    if "signal" not in sees:
        raise ConfigError(f"{path}: sees must hold signal: a role that sees no figures judges nothing")
    _check_placeholders(path, body)
    return Prompt(role, body, sees)


def _split(path: Path, given: str) -> tuple[dict[str, str], str]:
    """Return the fields of the front part, and the text below it."""
    opening, _, rest = given.replace("\r\n", "\n").partition("---\n")
    front, closing, body = rest.partition("\n---\n")
    if opening or not closing or not body.strip():
        raise ConfigError(f"{path}: must begin with a front part between two lines of '---', then the role's text")
    found: dict[str, str] = {}
    for line in front.splitlines():
        key, colon, value = line.partition(":")
        if not colon or key not in ("name", "sees") or key in found:
            raise ConfigError(f"{path}: the front part holds {line!r}; allowed: 'name: ...' and 'sees: ...', once each")
        found[key] = value.strip()
    return found, body.strip()


def _check_placeholders(path: Path, body: str) -> None:
    try:
        parts = list(string.Formatter().parse(body))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; write {{{{ and }}}} for a brace that stands for itself") from error
    for _, name, form, conversion in parts:
        if name is not None and (name not in PLACEHOLDERS or form or conversion):
            raise ConfigError(
                f"{path}: {{{name}}} is no placeholder; allowed: {', '.join(sorted(PLACEHOLDERS))}, "
                "and {{ and }} for a brace that stands for itself"
            )
