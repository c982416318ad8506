"""A panel's cast: what each role answers, by its prompt, on a real server; and the settings of such a panel."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import msgspec

from actors.analysts import endpoints
from actors.analysts.analyst import Ask
from actors.analysts.panel import PanelAnalyst
from bus.clock import SystemClock
from config.settings import Llm, LlmEndpoint, LlmRoles
from tests.kit.analysis import granted
from tests.kit.llm_server import LlmServer, Request, Step, completion, decision

ROLES = ("technical", "macro", "bull", "bear", "judge")
STANCES = {"technical": 0.6, "macro": 0.2, "bull": 0.8, "bear": -0.3}
_WHO = re.compile(r"You are the (?:risk )?(technical|macro|bull|bear|judge)")


def opinion(**changes: Any) -> str:
    """Return the JSON text of a valid opinion, changed as given."""
    return msgspec.json.encode({"argument": "Momentum is positive.", "stance": 0.5} | changes).decode()


def role_of(request: Request) -> str:
    """Return whose prompt a request carries."""
    found = _WHO.search(request.body["messages"][0]["content"])
    assert found is not None, request.body
    return found[1]


class Cast:
    """Answers by role. `says` are texts (or whole steps), the newest one for every further question."""

    def __init__(self) -> None:
        self.says: dict[str, list[str | Step]] = {
            role: [opinion(argument=f"The {role} speaks.", stance=stance)] for role, stance in STANCES.items()
        }
        self.says["judge"] = [decision()]
        self.asked: defaultdict[str, list[Request]] = defaultdict(list)

    def respond(self, request: Request) -> Step:
        role = role_of(request)
        self.asked[role].append(request)
        given = self.says[role][min(len(self.asked[role]), len(self.says[role])) - 1]
        return given if isinstance(given, Step) else completion(given)

    def order(self) -> list[str]:
        """Return the roles that were asked at all, in the order of `ROLES`."""
        return [role for role in ROLES if self.asked[role]]

    def shown(self, role: str, number: int = 0) -> str:
        """Return what a role was told, without its own text."""
        return "\n".join(message["content"] for message in self.asked[role][number].body["messages"][1:])


def settings(*servers: LlmServer, roles: dict[str, str] | None = None, **changes: Any) -> Llm:
    """Return the settings of a panel: every role at the first server, called e1, unless `roles` says otherwise."""
    spec: dict[str, Any] = changes.pop("spec", {})
    named = {
        f"e{number}": LlmEndpoint(**({"base_url": server.url, "model": "test-model"} | spec))
        for number, server in enumerate(servers, start=1)
    }
    chosen = dict.fromkeys(ROLES, "e1") | (roles or {})
    return Llm(analyst="panel", endpoints=named, roles=LlmRoles(**chosen), **changes)


def a_panel(found: Llm, ask: Ask = granted, backoff_s: float = 0.001) -> PanelAnalyst:
    """Return a panel over these settings."""
    clock = SystemClock()
    served = {
        name: endpoints.service(name, spec, found, clock, backoff_s=backoff_s)
        for name, spec in endpoints.specs(found).items()
    }
    return PanelAnalyst(found, clock, served, ask)
