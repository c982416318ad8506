"""The commands of `pilot` and where each is kept: a command's module is imported when it is asked for, and only then.

Used by pilot. Listing them, for help or completion, imports none.
"""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperGroup

# In the order of `pilot --help`.
COMMANDS = {
    "status": ("glance", "Show processes, account, room to each limit, positions, today."),
    "top": ("glance", "Show `status` again and again, until Ctrl-C."),
    "positions": ("account", "List the open positions of intents."),
    "account": ("account", "Show the account against its rules: floors, marks, room, requests."),
    "intents": ("intents", "List intents, newest first."),
    "show": ("intents", "Show the whole life of one intent."),
    "why": ("intents", "Say why a pair or an intent was traded or not."),
    "alerts": ("account", "List what people were told, newest first."),
    "halts": ("steer", "List the halts that stand."),
    "submit": ("trade", "Propose and decide a trade yourself."),
    "cancel": ("trade", "Take back an intent that no order was reserved for."),
    "close": ("trade", "Have the open position of one intent closed."),
    "resolve": ("trade", "Say what became of an order that nobody else can tell."),
    "pause": ("steer", "Stop new orders."),
    "resume": ("steer", "Lift halts."),
    "flatten": ("steer", "Close every position and stop new orders."),
    "day": ("steer", "Say what today's firm day started with."),
    "attest": ("steer", "Record that you compared the rules with the dashboard."),
    "stats": ("records", "Count intents, results by pair, requests."),
    "journal": ("records", "Tell one day: decisions, reasons, results."),
    "export": ("records", "Write the whole record as CSV or Parquet."),
    "rules": ("rules", "Look at the firms' rules."),
    "analysts": ("analysts_report", "Look at what the analysts' verdicts were worth."),
    "scan": ("scan", "Rank the pairs by hand, or measure the ranking; proposes nothing."),
    "models": ("models", "Look at the ranking models, or choose one."),
    "doctor": ("doctor", "Check everything that must be right before an account is traded."),
    "verify": ("keeping", "Prove file, journal, states and orders whole."),
    "backup": ("keeping", "Copy the database and prove the copy good."),
    "restore": ("keeping", "Put a backup in the place of the database."),
    "bundle": ("bundle", "Write what a bug report needs into one file, without secrets."),
    "config": ("configured", "Look at the settings, and where each comes from."),
    "init": ("beginning", "Write the settings and the .env of a live account."),
}
"""Each command: the file under actors/console that holds it as part of its `app`, and its line in `pilot --help`."""


class Commands(TyperGroup):
    """A group that finds its commands in `COMMANDS`, beside those that were added to it."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*COMMANDS, *(name for name in super().list_commands(ctx) if name not in COMMANDS)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"actors.console.{COMMANDS[cmd_name][0]}")
        found = typer.main.get_group(module.app)
        return found.commands.get(cmd_name, found)  # a module is one command, several, or a group of its own name

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of `pilot --help`."""
        others = ((name, super(Commands, self).get_command(ctx, name)) for name in super().list_commands(ctx))
        rows = [(name, said) for name, (_, said) in COMMANDS.items()]
        rows += [(name, found.get_short_help_str()) for name, found in others if found and name not in COMMANDS]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
