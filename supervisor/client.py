"""Ask running supervisors: status, scale, restart, stop. One under `supervisor`, several under `honcho start`.

Run by the command line. Waits by asking again until what was wanted is true; never touches a process itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from bus.vocabulary import ExitCode, Role
from supervisor import control, formation, pidfile
from supervisor.slots import Phase

ANSWER_S = 10.0  # a supervisor that ends leftovers at its start does not answer meanwhile
LOOK_S = 0.1
SPARES_LAST = 100
NOT_RUNNING = 3
"""Exit code of `status`, `scale` and `restart` when no supervisor runs for this data folder."""


class Unreachable(Exception):
    """A supervisor does not answer, or what was asked for was not reached. The message says which."""


class NotRunning(Exception):
    """No supervisor runs for this data folder."""


class Client:
    """All supervisors of one data folder."""

    def __init__(self, run_folder: Path, wait_s: float) -> None:
        """`wait_s`: how long to wait until what was asked for is reached."""
        self._run_folder = run_folder
        self._wait_s = wait_s

    def status(self) -> list[control.Report]:
        """Return the state of every supervisor. Raises NotRunning, Unreachable."""
        found = pidfile.supervisors(self._run_folder)
        if not found:
            raise NotRunning
        return [self._ask(scope, control.Status(reply_to=control.new_reply_name())) for scope in found]

    def scale(self, changes: Mapping[Role, int], profile: str | None = None, *, patience_s: float = 0.0) -> None:
        """Change the formation and return when it is reached. `patience_s`: for one that is only just starting.

        Raises:
            UsageError: refused, also because the running one has another `profile`.
            NotRunning, Unreachable: nothing was changed, or it was not reached.
        """
        deadline = time.monotonic() + patience_s
        while not (found := pidfile.supervisors(self._run_folder)):
            if time.monotonic() >= deadline:
                raise NotRunning
            time.sleep(LOOK_S)
        scope = "all" if "all" in found else next(iter(found))
        if profile is not None:
            running = self._ask(scope, control.Status(reply_to=control.new_reply_name())).profile
            if running != profile:
                raise formation.UsageError(
                    f"the running supervisor has profile {running}, not {profile}; stop it first"
                )
        self._ask(scope, control.Scale(reply_to=control.new_reply_name(), changes=dict(changes)))

        def reached(children: Sequence[control.ChildStatus]) -> bool:
            counts = {
                role: [c for c in children if slot_of(c)[0] == role and slot_of(c)[1].isdigit()] for role in changes
            }
            return all(
                len(counts[role]) == count and all(child.state == Phase.READY for child in counts[role])
                for role, count in changes.items()
            )

        self._wait(reached, scopes=(scope,), names=tuple(changes))

    def restart(self, name: str) -> None:
        """Restart a slot or all slots of a name; return when the new ones are ready. Raises like `scale`."""
        before = {
            report.scope: [
                child
                for child in report.children
                if name in (child.name, slot_of(child)[0]) and slot_of(child)[1].isdigit()
            ]
            for report in self.status()
        }
        scopes = tuple(scope for scope, children in before.items() if children)
        if not scopes:
            names = ", ".join(child.name for report in self.status() for child in report.children)
            raise formation.UsageError(f"{name!r} is not running here; there are: {names or 'none'}")
        for scope in scopes:
            self._ask(scope, control.Restart(reply_to=control.new_reply_name(), name=name))
        old_pids = {child.pid for children in before.values() for child in children}
        wanted = {child.name for children in before.values() for child in children}

        def reached(children: Sequence[control.ChildStatus]) -> bool:
            renewed = {c.name for c in children if c.state == Phase.READY and c.pid not in old_pids}
            return wanted <= renewed

        self._wait(reached, scopes=scopes, names=(name,))

    def stop(self) -> list[int]:
        """Stop everything; return the pids of the supervisors that have ended. Raises Unreachable."""
        found = pidfile.supervisors(self._run_folder)
        # The store's own supervisor last: the others still hand in results.
        for scope in sorted(found, key=lambda scope: scope.startswith(f"{Role.STORE}.")):
            try:
                self._ask(scope, control.Stop(reply_to=control.new_reply_name()))
            except Unreachable:
                if scope in pidfile.supervisors(self._run_folder):
                    raise
        deadline = time.monotonic() + self._wait_s
        while left := pidfile.supervisors(self._run_folder).keys() & found.keys():
            if time.monotonic() > deadline:
                raise Unreachable(f"still stopping after {self._wait_s:.0f} s: {', '.join(sorted(left))}")
            time.sleep(LOOK_S)
        return sorted(found.values())

    def _ask(self, scope: str, request: control.Request) -> control.Report:
        answer = control.ask(self._run_folder, scope, request, ANSWER_S)
        if isinstance(answer, control.Refused):
            raise formation.UsageError(answer.reason) if answer.code == ExitCode.USAGE else Unreachable(answer.reason)
        if answer is None:
            pid = pidfile.supervisors(self._run_folder).get(scope)
            raise Unreachable(
                f"the supervisor of {scope} (pid {pid}) did not answer within {ANSWER_S:.0f} s; "
                f"if it is stopped: kill -CONT {pid}"
                if pid
                else f"the supervisor of {scope} has ended"
            )
        return answer

    def _wait(
        self, reached: Callable[[Sequence[control.ChildStatus]], bool], *, scopes: Sequence[str], names: Sequence[str]
    ) -> None:
        deadline = time.monotonic() + self._wait_s
        while True:
            reports = [self._ask(scope, control.Status(reply_to=control.new_reply_name())) for scope in scopes]
            children = [child for report in reports for child in report.children]
            if reached(children):
                return
            given_up = [
                child.name
                for child in children
                if child.state == Phase.GIVEN_UP and (child.name in names or child.name.partition(".")[0] in names)
            ]
            if given_up:
                raise Unreachable(f"{', '.join(given_up)} died again and again and was given up; its log says why")
            if any(report.stopping for report in reports):
                raise Unreachable("the supervisor is stopping; its log says why")
            if time.monotonic() > deadline:
                states = ", ".join(f"{child.name} {child.state}" for child in children)
                raise Unreachable(f"not reached within {self._wait_s:.0f} s: {states}")
            time.sleep(LOOK_S)


def slot_of(child: control.ChildStatus) -> tuple[str, str]:
    """Return the two halves of a name: `("llm", "2")`, and `("llm", "spare")`."""
    role, _, number = child.name.partition(".")
    return role, number


def children_of(reports: Sequence[control.Report]) -> list[control.ChildStatus]:
    """Return the processes of all supervisors, in the order of the pipeline."""
    order = {role.value: index for index, role in enumerate(formation.ACTORS)}

    def place(child: control.ChildStatus) -> tuple[int, int]:
        role, number = slot_of(child)
        return order.get(role, len(order)), int(number) if number.isdigit() else SPARES_LAST

    return sorted((child for report in reports for child in report.children), key=place)


def are_ready(reports: Sequence[control.Report]) -> bool:
    """Return whether nothing is being stopped and every process is ready. Spares do not count."""
    children = [child for report in reports for child in report.children if slot_of(child)[1] != control.SPARE]
    return (
        bool(children)
        and all(child.state == Phase.READY for child in children)
        and not any(report.stopping for report in reports)
    )


def write_status(reports: Sequence[control.Report], *, as_json: bool) -> None:
    """Write the processes to standard output: a JSON list, or a table for people."""
    children = children_of(reports)
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(children), indent=2).decode() + "\n")
        return
    rows = [("NAME", "PID", "STATE", "RESTARTS", "UPTIME", "LAST BEAT")]
    rows += [
        (
            child.name,
            str(child.pid or "-"),
            child.state,
            str(child.restarts),
            duration(child.uptime_s),
            "-" if child.last_beat_age_s is None else f"{child.last_beat_age_s:.1f} s ago",
        )
        for child in children
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def duration(seconds: float | None) -> str:
    """Return seconds for people: `42 s`, `3 min 05 s`, `2 h 07 min`, `3 d 04 h`."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60:02} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3_600:02} h"
