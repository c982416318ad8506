"""How many processes of each name: read `llm=3,dashboard=0`, refuse what cannot be. Pure.

Used by the supervisor's command line and by the running supervisor when it is asked for another formation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bus.errors import PilotError
from bus.vocabulary import Role

LLM_MAX = 32

SINGLETONS = {
    Role.STORE: "it is the only writer of the database, and two would grant the same intent twice",
    Role.SCANNER: "two scanners would rank the same bars and propose every intent twice",
    Role.EXECUTOR: "one account takes strictly one order at a time, and a second executor could place an order twice",
    Role.MONITOR: "two monitors would spend the broker's request budget twice and both close the same intents",
    Role.DASHBOARD: "one page listens on one port",
    Role.ALERTS: "two would tell everything twice, and a bot has one poller",
    Role.PAPER: "the paper account lives in one process, on one port",
}
ACTORS = (
    Role.STORE, Role.SCANNER, Role.LLM, Role.EXECUTOR, Role.MONITOR, Role.ALERTS, Role.DASHBOARD, Role.PAPER,
)  # fmt: skip
TRADING = (Role.SCANNER, Role.LLM, Role.EXECUTOR)
"""What `--monitor-only` leaves out, and what `--once` cannot do without."""

Formation = Mapping[Role, int]


class UsageError(PilotError):
    """What was asked for is not possible (exit 64). The message says what is."""


def parse(texts: Sequence[str]) -> dict[Role, int]:
    """Return the counts in `["llm=3,dashboard=0", "paper=1"]`.

    Raises:
        UsageError: not NAME=COUNT, a name that is not an actor's, twice the same, or a count that cannot be.
    """
    found: dict[Role, int] = {}
    for item in (part.strip() for text in texts for part in text.split(",")):
        name, equals, count = item.partition("=")
        if not equals or not count.strip().isascii() or not count.strip().isdigit():
            raise UsageError(f"--scale: {item!r} is not NAME=COUNT with a count from 0; example: --scale llm=3")
        role = role_of(name.strip())
        if role in found:
            raise UsageError(f"--scale: {role} stands there twice")
        found[role] = int(count)
    for role, wanted in found.items():
        check(role, wanted)
    return found


def role_of(name: str, known: Sequence[Role] = ACTORS) -> Role:
    """Return the role of this name. Raises UsageError listing the known ones."""
    for role in known:
        if role == name:
            return role
    raise UsageError(f"{name!r} is not a name of the formation; known: {', '.join(known)}")


def check(role: Role, count: int) -> None:
    """Raise UsageError when there cannot be `count` of this role."""
    if role is Role.STORE and count == 0:
        raise UsageError("store=0 cannot be: every other process works through the store. To end all: supervisor stop")
    if role in SINGLETONS and count > 1:
        raise UsageError(f"{role}={count} cannot be: {SINGLETONS[role]}. Allowed: {role}=1")
    if role is Role.LLM and count > LLM_MAX:
        raise UsageError(f"llm={count} is too many; allowed: 0..{LLM_MAX}")


def of(roles: Sequence[Role], changes: Formation, *, monitor_only: bool = False) -> dict[Role, int]:
    """Return the formation of these Procfile names: one each, then `changes`.

    Raises:
        UsageError: a change for a name that is not in the Procfile.
    """
    formation = {role: 0 if monitor_only and role in TRADING else 1 for role in roles}
    for role, count in changes.items():
        if role not in formation:
            raise UsageError(f"{role} is not in this Procfile; it has: {', '.join(roles)}")
        if monitor_only and role in TRADING and count:
            raise UsageError(f"--monitor-only runs without {', '.join(TRADING)}; {role}={count} contradicts it")
        formation[role] = count
    return formation


def slots(formation: Formation) -> list[tuple[Role, int]]:
    """Return the slots of a formation in order: `[(store, 1), (llm, 1), (llm, 2), ...]`."""
    return [(role, number) for role, count in formation.items() for number in range(1, count + 1)]


def slots_named(name: str, existing: Sequence[tuple[Role, int]]) -> list[tuple[Role, int]]:
    """Return the slots that `llm` or `llm.2` names. Raises UsageError listing the existing ones when there is none."""
    found = [(role, number) for role, number in existing if name in (role, f"{role}.{number}")]
    if not found:
        names = ", ".join(f"{role}.{number}" for role, number in existing)
        raise UsageError(f"{name!r} is not running here; there are: {names or 'none'}")
    return found
