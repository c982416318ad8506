"""The commands of `pilot` and where each is kept: a command's module is imported when it is asked for, and only then.

Used by pilot. Shell completion lists names without importing anything; `pilot --help` imports them all.
"""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperGroup

# In the order of `pilot --help`.
COMMANDS = {
    "status": "glance",
    "top": "glance",
    "positions": "account",
    "account": "account",
    "intents": "intents",
    "show": "intents",
    "why": "intents",
    "alerts": "account",
    "halts": "steer",
    "submit": "trade",
    "cancel": "trade",
    "close": "trade",
    "resolve": "trade",
    "pause": "steer",
    "resume": "steer",
    "flatten": "steer",
    "day": "steer",
    "attest": "steer",
    "rules": "rules",
    "analysts": "analysts_report",
    "doctor": "doctor",
    "verify": "keeping",
    "backup": "keeping",
    "restore": "keeping",
    "bundle": "bundle",
    "config": "configured",
    "init": "beginning",
}
"""Each command and the file under actors/console that holds it as part of its `app`."""


class Commands(TyperGroup):
    """A group that finds its commands in `COMMANDS`, beside those that were added to it."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*COMMANDS, *(name for name in super().list_commands(ctx) if name not in COMMANDS)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"actors.console.{COMMANDS[cmd_name]}")
        found = typer.main.get_group(module.app)
        return found.commands.get(cmd_name, found)  # a module is one command, several, or a group of its own name
