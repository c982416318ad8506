"""What the parts of the watch work with: broker, store, settings, rules and clock of one monitor."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from actors.broker.account import Account
from actors.compliance.rulebook import RuleSet
from actors.desk.settling import HISTORY_MARGIN_S
from actors.watch.tell import Teller
from actors.watch.wishes import Wishes
from bus.clock import Clock
from config.settings import Settings

CLOCK_SKEW = timedelta(seconds=HISTORY_MARGIN_S)  # clocks differ, and one of them may be wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One account at one broker, watched under one rule set."""

    client: Account
    tell: Teller
    settings: Settings
    rules: RuleSet
    clock: Clock
    wishes: Wishes = field(default_factory=Wishes)

    @property
    def account_id(self) -> str:
        return self.settings.broker.account_id
