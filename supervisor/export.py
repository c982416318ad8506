"""`supervisor export KIND`: write the files that run this pipeline under systemd, compose or Kubernetes.

Run by hand, once, at the command line. Takes the effective settings, checks that they can be run so, fills in the texts
under templates/, and writes new files only. Starts nothing, installs nothing, and never writes the value of a secret.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bus import failpoints
from bus.vocabulary import ExitCode, Role
from config import load
from config.load import ConfigError
from config.settings import Settings
from supervisor import apart, formation, needs, procfile

KINDS = ("systemd", "compose", "kubernetes")
TEMPLATES = Path(__file__).parent / "templates"
FILES = {
    "systemd": ("prop-firm-pilot.service", "prop-firm-pilot-backup.service", "prop-firm-pilot-backup.timer"),
    "compose": ("compose.yaml",),
    "kubernetes": ("config.yaml", "secret.yaml.example", "pipeline.yaml", "policy.yaml"),
}
ETC = "/etc/prop-firm-pilot"
VOLUME = "/var/lib/prop-firm-pilot"  # as the Containerfile has it
CONTAINER_RUN = "/run/prop-firm-pilot"
IMAGE_UID = 10_001
MARGIN_S = 10.0
HOMES = ("/home", "/root", "/run/user")


class Wanted(Struct, frozen=True, kw_only=True):
    """What was asked for on the command line. `analysts`: how many at first; `image`: for containers."""

    kind: str
    output: Path
    profile: str | None = None
    procfile: Path | None = None
    analysts: int = 1
    data: Path = Path(VOLUME)
    run: Path = Path("/run/prop-firm-pilot")
    user: str = "prop-firm-pilot"
    image: str = ""
    force: bool = False


class Written(Struct, frozen=True, kw_only=True):
    """What was written, and the commands that come next."""

    kind: str
    files: tuple[str, ...]
    next: tuple[str, ...]


def export(wanted: Wanted, *, as_json: bool) -> int:
    """Write the files, say which and what to do with them; return the exit code.

    Raises:
        ConfigError, UsageError: these settings cannot be run so, or a file is there already; nothing was written.
    """
    texts = render(wanted)
    write(texts, wanted.output, force=wanted.force)
    done = Written(
        kind=wanted.kind, files=tuple(str(wanted.output / name) for name in texts), next=_next_commands(wanted)
    )
    if as_json:
        sys.stdout.write(msgspec.json.encode(done).decode() + "\n")
        return ExitCode.OK
    lines = [*(f"wrote {name}" for name in done.files), "next:", *(f"  {command}" for command in done.next)]
    sys.stdout.write("\n".join(lines) + "\n")
    return ExitCode.OK


def render(wanted: Wanted) -> dict[str, str]:
    """Return the files by name. Raises ConfigError, UsageError."""
    formation.check(Role.LLM, wanted.analysts)
    path = load.profile_file(wanted.profile)
    settings = load.settings(str(path))
    default = procfile.default_path(load.ROOT, paper=not settings.broker.is_live)
    roles = procfile.roles(wanted.procfile or default, None)  # a copy of a live profile runs with the same names
    if wanted.kind != "systemd":
        needs.check_inside_image(settings)
    return _filled(wanted, path, settings, roles)


def _filled(wanted: Wanted, path: Path, settings: Settings, roles: tuple[Role, ...]) -> dict[str, str]:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Units and YAML; what stands in them was checked by settings or by `_checked`.
        autoescape=False,  # nosec B701
    )
    profile_text = path.read_text(encoding="utf-8")
    names = environment.get_template("Procfile.j2").render(roles=roles)
    facts = {**_facts(wanted, path, settings, roles), "procfile": names, "profile_text": profile_text}
    files = FILES[wanted.kind]
    if facts["by_tcp"]:
        facts |= apart.facts(settings, profile_text, analysts=wanted.analysts, mounts=(ETC, VOLUME, CONTAINER_RUN))
        files = (*files, "analysts.yaml")
    found = {name: environment.get_template(f"{wanted.kind}/{name}.j2").render(facts) for name in files}
    if wanted.kind != "kubernetes":  # there they are in the ConfigMap
        found |= {"Procfile": names, f"{path.stem}.toml": profile_text}
    return found


def _facts(wanted: Wanted, path: Path, settings: Settings, roles: tuple[Role, ...]) -> dict[str, Any]:
    limits = settings.supervisor
    secrets = needs.secrets(settings, lambda name: bool(load.optional_secret(name)))
    by_tcp = wanted.kind == "kubernetes" and bool(apart.listen(settings))
    if by_tcp:
        secrets = secrets.without(needs.of_analysts(settings))
    published = Role.DASHBOARD in roles and not needs.is_loopback(settings.dashboard.host)
    return {
        "profile": _checked("--profile", path.stem, "-_."),
        "roles": roles,
        "root": load.ROOT,
        "bin": Path(sys.executable).parent,
        "etc": ETC,
        "volume": VOLUME,
        "container_run": CONTAINER_RUN,
        "uid": IMAGE_UID,
        "user": _checked("--user", wanted.user, "-_."),
        "image": _checked(
            "--image", wanted.image or f"prop-firm-pilot:{metadata.version('prop-firm-pilot')}", "-_./:@"
        ),
        "analysts": wanted.analysts,
        "analysts_inside": 0 if by_tcp else wanted.analysts,
        "data": _checked("--data", str(wanted.data), "-_./"),
        "run": _checked("--run", str(wanted.run), "-_./"),
        "state": _below(wanted.data, Path("/var/lib")),
        "runtime": _below(wanted.run, Path("/run")),
        "home": "read-only" if any(load.ROOT.is_relative_to(one) for one in HOMES) else "yes",
        "secrets": secrets,
        "granted": secrets.granted,
        "published": published,
        "ports": [
            *([("page", settings.dashboard.port)] if published else []),
            *([("store", apart.port(settings))] if by_tcp else []),
        ],
        "by_tcp": by_tcp,
        "port": settings.dashboard.port,
        "egress": needs.ports_out(settings, load.optional_secret),
        "pod_security": _POD_SECURITY,
        "container_security": _CONTAINER_SECURITY,
        **_times(limits.start_s, limits.stop_s, limits.backoff_s_max, limits.watchdog_s),
    }


_POD_SECURITY = msgspec.json.encode(
    {
        "runAsNonRoot": True, "runAsUser": IMAGE_UID, "runAsGroup": IMAGE_UID, "fsGroup": IMAGE_UID,
        "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
    }
).decode()  # fmt: skip
_CONTAINER_SECURITY = msgspec.json.encode(
    {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
).decode()


def _times(start_s: float, stop_s: float, backoff_s_max: float, watchdog_s: float) -> dict[str, int]:
    """Return how long the outer manager waits: always longer than the supervisor itself, which knows better."""
    return {
        "start_s": int(2 * start_s + MARGIN_S),  # the store first, then the others
        "stop_s": int(2 * stop_s + MARGIN_S),  # the others, then the store
        "watchdog_s": int(start_s + backoff_s_max + watchdog_s + MARGIN_S),
    }


def _checked(option: str, value: str, others: str) -> str:
    """Return a value that needs no quoting in any of the files. Raises UsageError."""
    if not value or not value.isascii() or not all(one.isalnum() or one in others for one in value):
        raise formation.UsageError(f"{option} was {value!r}; allowed: letters, digits and {' '.join(others)}")
    if option in ("--data", "--run") and not value.startswith("/"):
        raise formation.UsageError(f"{option} was {value!r}; allowed: an absolute path")
    return value


def _below(path: Path, parent: Path) -> str:
    """Return the path below `parent`, where systemd makes the folder itself; empty when it lies elsewhere."""
    return str(path.relative_to(parent)) if path.is_relative_to(parent) and path != parent else ""


def write(texts: Mapping[str, str], folder: Path, *, force: bool) -> None:
    """Write the files into `folder`; none of them when one is there and `force` is not set.

    Raises:
        UsageError: one is there.
        ConfigError: the folder cannot be written to.
    """
    there = [name for name in texts if (folder / name).exists()]
    if there and not force:
        raise formation.UsageError(f"{folder} holds {', '.join(there)} already; --force overwrites them")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            failpoints.reach("supervisor.before_export")  # one file of an export
            (folder / name).write_text(text, encoding="utf-8")
            failpoints.reach("supervisor.after_export")
    except OSError as error:
        raise ConfigError(f"--output {folder}: {error.strerror}") from error


def _next_commands(wanted: Wanted) -> tuple[str, ...]:
    """Return the commands that bring the files to life, in order. docs/deployment.md explains each."""
    output = wanted.output
    if wanted.kind == "systemd":
        return (
            f"sudo useradd --system --user-group --shell /usr/sbin/nologin {wanted.user}; "
            f"sudo install -d -m 0700 {ETC}/secrets; "
            f"sudo install -d -m 0700 -o {wanted.user} -g {wanted.user} /var/backups/prop-firm-pilot",
            f"sudo install -m 0644 {output}/*.toml {output}/Procfile {ETC}/; "
            f"sudo install -m 0644 {output}/*.service {output}/*.timer /etc/systemd/system/",
            "sudo systemctl daemon-reload && sudo systemctl enable --now prop-firm-pilot prop-firm-pilot-backup.timer",
        )
    if wanted.kind == "compose":
        return (
            f"docker build -f {load.ROOT}/Containerfile -t {_image(wanted)} {load.ROOT}",
            f"docker compose -f {output}/compose.yaml config --quiet",
            f"docker compose -f {output}/compose.yaml up --detach --wait",
        )
    return (
        f"docker build -f {load.ROOT}/Containerfile -t {_image(wanted)} {load.ROOT} && docker push {_image(wanted)}",
        f"install -m 0600 {output}/secret.yaml.example {output}/secret.yaml && ${{EDITOR:-vi}} {output}/secret.yaml",
        f"kubectl apply -f {output}",
    )


def _image(wanted: Wanted) -> str:
    return wanted.image or f"prop-firm-pilot:{metadata.version('prop-firm-pilot')}"
