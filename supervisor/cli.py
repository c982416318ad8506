"""The command `supervisor`: read the command line, take the locks, run the tree or ask the one that runs.

Starts fast on purpose (every Procfile line is one): argparse, and what only some commands need is imported by them.
Exit codes: 0, 3 not running, 64 usage, 70 gave up or not reached, 75 lock held, 78 configuration.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bus.errors import LockHeld
from bus.vocabulary import ExitCode
from config import load
from supervisor import formation

if TYPE_CHECKING:
    from supervisor.client import Client
    from supervisor.process import Commands

MARGIN_S = 5.0  # what waiting for an answer may take beyond the supervisor's own limits
STEERING = ("status", "scale", "restart", "stop")  # verbs for what runs: a line of .env must not keep them from it
EXAMPLES = """\
examples:
  supervisor                        run all names of the Procfile (paper profile) until Ctrl-C
  supervisor --scale llm=3          the same with three analysts; when one runs already: change that one
  supervisor --spares               a warm spare each of store, llm, executor, monitor: replaced in milliseconds
  supervisor --monitor-only         watch positions; no scanner, analysts, executor
  supervisor --once                 one daily cycle: scan, decide, execute, exit
  supervisor --profile e8-signature-50k   the live account, with Procfile.live
  supervisor --only llm=3           analysts for a store on another host; see docs/hosts.md
  supervisor run executor           one process, restarted in place (what a Procfile line does)
  supervisor status --json
  supervisor scale llm=5
  supervisor restart executor
  supervisor stop
  supervisor export systemd --profile mine.toml --output units

exit codes: 0 wanted, 3 not running, 64 usage, 70 gave up, 75 lock held by another, 78 configuration
"""


class _Parser(argparse.ArgumentParser):
    """argparse with our exit code for a wrong command line."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ExitCode.USAGE, f"{self.prog}: {message}\n")


class _Version(argparse.Action):
    """Print the version and end. What knows it is loaded only for that."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib import metadata

        sys.stdout.write(f"{parser.prog} {metadata.version('prop-firm-pilot')}\n")
        parser.exit(ExitCode.OK)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    root = _Parser(
        prog="supervisor",
        description="Start the pipeline's processes, watch them, replace those that die or hang, stop them in order.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action=_Version, nargs=0, help="print the version and end")
    root.add_argument("--profile", help="a name under config/profiles or a TOML file (else PILOT_PROFILE, else paper)")
    root.add_argument("--procfile", type=Path, help="default: Procfile, for a live broker Procfile.live")
    root.add_argument("--scale", action="append", metavar="NAME=N,...", help="how many of which, e.g. llm=3,paper=0")
    root.add_argument("--only", action="append", metavar="NAME=N", help="nothing but these, on a host without a store")
    root.add_argument("--monitor-only", action="store_true", help="run without scanner, analysts and executor")
    root.add_argument("--once", action="store_true", help="one daily cycle, then stop")
    root.add_argument("--spares", action="store_true", help="keep a warm spare of store, llm, executor and monitor")
    root.add_argument("--no-restart", action="store_true", help="end with the first process that ends")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", title="commands (none: run all names)")
    run = commands.add_parser("run", help="run and watch one process of NAME")
    run.add_argument("name", metavar="NAME", help=", ".join(formation.ACTORS))
    run.add_argument("--slot", type=int, help="its number, as in llm.2 (else honcho's, else the lowest free)")
    run.add_argument("--profile", default=argparse.SUPPRESS, help="as above")
    run.add_argument("--spares", action="store_true", default=argparse.SUPPRESS, help="keep a warm spare of it")
    run.add_argument("--no-restart", action="store_true", default=argparse.SUPPRESS, help="for systemd and Kubernetes")
    status = commands.add_parser("status", help="show the processes of the running pipeline")
    status.add_argument("--ready", action="store_true", help="end with 70 unless every process is ready")
    status.add_argument("--json", action="store_true", help="a list of objects")
    scale = commands.add_parser("scale", help="change how many of a name run; returns when they do")
    scale.add_argument("changes", nargs="+", metavar="NAME=N")
    restart = commands.add_parser("restart", help="stop and start NAME; returns when it is ready")
    restart.add_argument("name", metavar="NAME", help="a name (executor) or one slot of it (llm.2)")
    _add_export(commands)
    commands.add_parser("stop", help="stop everything in order; returns when it has ended")
    _add_keys(commands.add_parser("keys", help="keys of analysts on other hosts: new, trust, allow, revoke, list"))
    return root


def _add_export(commands: argparse._SubParsersAction[_Parser]) -> None:
    export = commands.add_parser("export", help="write files for systemd, compose or Kubernetes")
    export.add_argument("kind", choices=("systemd", "compose", "kubernetes"), metavar="KIND", help="one of these three")
    export.add_argument("--output", type=Path, metavar="DIR", help="default: ./KIND")
    export.add_argument("--profile", default=argparse.SUPPRESS, help="as above")
    export.add_argument("--procfile", type=Path, default=argparse.SUPPRESS, help="as above: which names are run")
    export.add_argument("--analysts", type=int, default=1, metavar="N", help="how many at first (default 1)")
    export.add_argument("--data", type=Path, metavar="DIR", help="systemd: the folder of all run-time state")
    export.add_argument("--run", type=Path, metavar="DIR", help="systemd: the short folder of sockets and locks")
    export.add_argument("--user", help="systemd: whom it runs as (default prop-firm-pilot)")
    export.add_argument("--image", help="containers: the image's name (default prop-firm-pilot:VERSION)")
    export.add_argument("--force", action="store_true", help="overwrite files that are there")
    export.add_argument("--json", action="store_true", help="an object")


def _add_keys(root: argparse.ArgumentParser) -> None:
    verbs = root.add_subparsers(dest="verb", metavar="VERB", required=True)
    new = verbs.add_parser("new", help="make the key pair of this host: store, or llm on a host of analysts")
    trust = verbs.add_parser("trust", help="on a host of analysts: the public key of the store that they call")
    allow = verbs.add_parser("allow", help="on the store's host: let the host with this public key in")
    revoke = verbs.add_parser("revoke", help="on the store's host: let it in no longer, from now on")
    shown = verbs.add_parser("list", help="show who is allowed, and this host's own keys; never a secret")
    for verb in (new, allow, revoke):
        verb.add_argument("role", metavar="ROLE")
    for verb in (allow, revoke):
        verb.add_argument("name", metavar="NAME", help="what the host is called in logs and lists")
    for verb in (trust, allow):
        verb.add_argument("public", metavar="PUBLIC", help="its public key, in quotes: 40 signs")
    for verb in (new, trust, allow, revoke, shown):
        verb.add_argument("--keys", type=Path, metavar="FOLDER", help="else bus.keys of the profile")
        verb.add_argument("--profile", default=argparse.SUPPRESS, help="as above")


def main(arguments: Sequence[str] | None = None, *, commands: Commands | None = None) -> int:
    """Run the command line and return its exit code. `commands` says which program a name stands for (None: ours)."""
    options = parser().parse_args(arguments)
    os.umask(0o077)
    try:
        # As honcho does it: what stands in .env reaches every process, whichever way it is started.
        os.environ.update(load.env_file(_tell if options.command in STEERING else None))
        if options.command is None:
            return _run_all(options, commands)
        _refuse_formation_options(options)
        _refuse_contradiction(options)
        if options.command == "run":
            from supervisor import start

            return start.run_one(
                options.name,
                options.slot,
                options.profile,
                restart=not options.no_restart,
                spares=options.spares,
                commands=commands,
            )
        if options.command == "keys":
            from supervisor import keys

            return keys.run(options)
        return _ask(options)
    except formation.UsageError as error:
        return _end(ExitCode.USAGE, error)
    except LockHeld as error:
        held = str(error).partition(": ")[2]  # before it stands who asked: us, who are named anyway
        return _end(ExitCode.LOCKED, f"{held}. To end what runs: supervisor stop")
    except load.ConfigError as error:
        return _end(ExitCode.CONFIG, error)


def _tell(why: object) -> None:
    sys.stderr.write(f"supervisor: {why}\n")


def _end(code: int, why: object) -> int:
    _tell(why)
    return code


def _refuse_formation_options(options: argparse.Namespace) -> None:
    given = [
        name
        for name, value in (
            ("--scale", options.scale),
            ("--only", options.only),
            ("--monitor-only", options.monitor_only),
            ("--once", options.once),
            ("--procfile", options.procfile and options.command != "export"),
            ("--spares", options.spares and options.command != "run"),
        )
        if value
    ]
    if given:
        raise formation.UsageError(f"{', '.join(given)} does not go with `supervisor {options.command}`")


def _refuse_contradiction(options: argparse.Namespace) -> None:
    if options.spares and options.no_restart:
        raise formation.UsageError("--spares and --no-restart contradict each other: a spare is for a restart")


def _run_all(options: argparse.Namespace, commands: Commands | None) -> int:
    changes = formation.parse(options.only or options.scale or [])
    _refuse_contradiction(options)
    if options.only and (options.scale or options.procfile or options.once or options.monitor_only):
        raise formation.UsageError("--only does not go with --scale, --procfile, --once or --monitor-only")
    if options.once and options.monitor_only:
        raise formation.UsageError("--once and --monitor-only contradict each other: one trades, the other does not")
    from supervisor import start

    try:
        return start.run_all(
            changes,
            options.profile,
            options.procfile,
            only=bool(options.only),
            monitor_only=options.monitor_only,
            once=options.once,
            restart=not options.no_restart,
            spares=options.spares,
            commands=commands,
        )
    except start.RunsAlready:
        if not changes or options.once or options.monitor_only or options.spares:
            raise
    # It holds the lock already, and may be about to open its mailbox.
    return _with_client(lambda client: _scale(client, changes, options.profile, patience_s=MARGIN_S), options.profile)


def _ask(options: argparse.Namespace) -> int:
    if options.command == "export":
        return _export(options)
    return _with_client(lambda client: _done(options, client), options.profile)


def _done(options: argparse.Namespace, client: Client) -> int:
    if options.command == "status":
        return _status(client, as_json=options.json, must_be_ready=options.ready)
    if options.command == "scale":
        return _scale(client, formation.parse(options.changes), options.profile)
    if options.command == "restart":
        return _restart(client, options.name)
    return _stop(client)


def _export(options: argparse.Namespace) -> int:
    from supervisor import export

    names = ("profile", "procfile", "analysts", "data", "run", "user", "image", "force")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    wanted = export.Wanted(kind=options.kind, output=options.output or Path(options.kind), **given)
    return export.export(wanted, as_json=options.json)


def _with_client(verb: Callable[[Client], int], profile: str | None) -> int:
    """Run one verb against the running supervisors, wait as long as `profile` says, and return its exit code."""
    from supervisor import client

    limits = load.settings(profile).supervisor
    wait_s = limits.start_s + 2 * limits.stop_s + MARGIN_S
    try:
        return verb(client.Client(load.run_folder(), wait_s))
    except client.NotRunning:
        return _end(client.NOT_RUNNING, f"not running (data folder {load.data_folder()})")
    except client.Unreachable as error:
        return _end(ExitCode.GAVE_UP, error)


def _status(client: Client, *, as_json: bool, must_be_ready: bool) -> int:
    from supervisor.client import are_ready, write_status

    found = client.status()
    write_status(found, as_json=as_json)
    return ExitCode.GAVE_UP if must_be_ready and not are_ready(found) else ExitCode.OK


def _scale(client: Client, changes: formation.Formation, profile: str | None, *, patience_s: float = 0.0) -> int:
    client.scale(changes, load.settings(profile).profile if profile else None, patience_s=patience_s)
    sys.stdout.write(f"running: {', '.join(f'{role}={count}' for role, count in changes.items())}\n")
    return ExitCode.OK


def _restart(client: Client, name: str) -> int:
    client.restart(name)
    sys.stdout.write(f"restarted: {name}\n")
    return ExitCode.OK


def _stop(client: Client) -> int:
    stopped = client.stop()
    sys.stdout.write("stopped\n" if stopped else "nothing was running\n")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
