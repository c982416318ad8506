"""`pilot init`: settings and `.env` of a live account, step by step or by options. Part of the operator's command line.

Writes two files, both new, and overwrites none. Asks no broker: `pilot doctor` does that next. A secret is never an
option, for others could read it among the processes: it is typed, or comes as lines on standard input.
Exit codes: 0 done, 1 refused, 64 usage, 78 the values do not make settings.
"""

from __future__ import annotations

import getpass
import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from honcho.environ import parse

from actors.compliance import rulebook
from actors.console import asking
from actors.console.options import Yes
from bus.failpoints import reach
from bus.vocabulary import ExitCode
from config import load
from config.load import ConfigError

SECRETS = {
    "platform": "PILOT_BROKER_PASSWORD",
    "trader": "PILOT_BROKER_TOKEN",
    "llm": "PILOT_LLM_API_KEY",
    "telegram": "PILOT_TELEGRAM_TOKEN",
    "chat": "PILOT_TELEGRAM_CHAT",
}
QUESTIONS = {  # option: question, and what stands when nothing is said; None: something must be
    "name": ("Name of the profile", "live"),
    "api": ("API of the account, platform or trader", "platform"),
    "url": ("Address of the broker's API", None),
    "broker_id": ("Broker id, as the login page has it (platform only)", "0"),
    "email": ("Email of the login (platform only)", "-"),
    "account": ("Account id", None),
    "rules": ("Rule set, see pilot rules list", None),
    "llm_url": ("OpenAI-compatible endpoint of the analyst; - for rules without a language model", "-"),
    "llm_model": ("Model at that endpoint", "-"),
}
NONE = "-"

app = typer.Typer(rich_markup_mode=None)


def _option(text: str) -> Any:
    return typer.Option(help=f"{text}. Asked for when left out.", show_default=False)


@app.command(
    epilog="Examples: pilot init; printf 'PILOT_BROKER_PASSWORD=%s\\n' \"$PASSWORD\" | pilot init --yes --url "
    "https://mtr.example.com --email me@example.com --account 4711 --rules ftmo-2step --secrets-stdin"
)
def init(
    name: Annotated[str | None, _option(QUESTIONS["name"][0])] = None,
    api: Annotated[str | None, _option(QUESTIONS["api"][0])] = None,
    url: Annotated[str | None, _option(QUESTIONS["url"][0])] = None,
    broker_id: Annotated[str | None, _option(QUESTIONS["broker_id"][0])] = None,
    email: Annotated[str | None, _option(QUESTIONS["email"][0])] = None,
    account: Annotated[str | None, _option(QUESTIONS["account"][0])] = None,
    rules: Annotated[str | None, _option(QUESTIONS["rules"][0])] = None,
    llm_url: Annotated[str | None, _option(QUESTIONS["llm_url"][0])] = None,
    llm_model: Annotated[str | None, _option(QUESTIONS["llm_model"][0])] = None,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: config/profiles/NAME.toml.")] = None,
    secrets_stdin: Annotated[
        bool, typer.Option("--secrets-stdin", help="Read secrets from standard input, as NAME=VALUE lines.")
    ] = False,
    settings_only: Annotated[
        bool, typer.Option("--settings-only", help="Write no .env: secrets come otherwise.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Write the settings and the `.env` (mode 0600) of a live account. Overwrites nothing."""
    env = load.ROOT / ".env"
    if not settings_only and env.exists():
        asking.fail(f"{env} exists; edit it, or give --settings-only. Nothing was written", asking.REFUSED)
    given = {
        "name": name, "api": api, "url": url, "broker_id": broker_id, "email": email, "account": account,
        "rules": rules, "llm_url": llm_url, "llm_model": llm_model,
    }  # fmt: skip
    said = _answers(given, is_asking=not yes and not secrets_stdin)
    path = to or load.PROFILES / f"{said['name']}.toml"
    if path.exists():
        asking.fail(f"{path} exists; edit it, or choose another name. Nothing was written", asking.REFUSED)
    content = _toml(said, path)
    wanted = [SECRETS[said["api"]], *([SECRETS["llm"]] if said["llm_url"] != NONE else [])]
    secrets = {} if settings_only else _secrets(wanted, from_stdin=secrets_stdin, is_asking=not yes)
    lines = _env(secrets)
    what = f"{path}" + ("" if settings_only else f" and {env}")
    if not secrets_stdin:
        asking.consent(f"Write {what}?", yes=yes, otherwise="nothing was written")
    try:
        _write_new(path, content)
        if not settings_only:
            _write_new(env, lines)
    except OSError as error:
        asking.fail(f"{error.filename}: {error.strerror}", asking.REFUSED)
    which = load.profile_name(path)
    sys.stdout.write(
        f"wrote {what}\n"
        "Each account needs a data folder of its own: put PILOT_DATA into .env, unless it is the first one here.\n"
        f"Next: pilot --profile {which} doctor; pilot --profile {which} rules show; put --profile\n"
        f"{which} into every line of Procfile.live; then, with `supervisor --profile {which}`\n"
        f"running: pilot --profile {which} attest\n"
    )


def _answers(given: Mapping[str, str | None], *, is_asking: bool) -> dict[str, str]:
    """Return every answer: as given, else asked for, else what stands when nothing is said. Ends without one."""
    found: dict[str, str] = {}
    missing = []
    for option, (question, otherwise) in QUESTIONS.items():
        said = given[option]
        if said is None and is_asking and not (option == "llm_model" and found["llm_url"] == NONE):
            default = f" [{otherwise}]" if otherwise else ""
            sys.stderr.write(f"{question}{default}: ")
            sys.stderr.flush()
            said = sys.stdin.readline().strip() or None
        if (said or otherwise) is None:
            missing.append(f"--{option.replace('_', '-')}")
        else:
            found[option] = str(said or otherwise)
    if missing:
        asking.fail(f"missing: {', '.join(missing)}", ExitCode.USAGE)
    if found["api"] not in ("platform", "trader"):
        asking.fail(f"--api was {found['api']!r}; allowed: platform, trader", ExitCode.USAGE)
    if found["llm_url"] != NONE and found["llm_model"] == NONE:
        asking.fail("missing: --llm-model, beside --llm-url", ExitCode.USAGE)
    if not found["name"].replace("-", "").replace("_", "").isalnum():
        asking.fail(f"--name was {found['name']!r}; allowed: letters, digits, - and _", ExitCode.USAGE)
    return found


def _toml(said: Mapping[str, str], path: Path) -> str:
    """Return the profile's text, proved to be settings. Ends the command when the values do not make any."""
    quoted = {option: json.dumps(value, ensure_ascii=False) for option, value in said.items()}
    lines = [
        "# The live account. Its secrets stand in .env, never here. Every setting: config/settings.py.",
        "",
        "[llm]",
    ]
    if said["llm_url"] == NONE:
        lines.append('analyst = "offline"')
    else:
        lines += ['analyst = "openai"', f"base_url = {quoted['llm_url']}", f"model = {quoted['llm_model']}"]
    lines += ["", "[broker]", f"kind = {quoted['api']}", f"base_url = {quoted['url']}"]
    if said["api"] == "platform":
        lines += [f"broker_id = {quoted['broker_id']}", f"email = {quoted['email']}"]
    lines += [f"account_id = {quoted['account']}", "", "[compliance]", f"rules = {quoted['rules']}", ""]
    content = "\n".join(lines)
    try:
        load.checked(load.toml(content.encode(), path), path)
        rulebook.load(said["rules"])
    except ConfigError as error:
        asking.fail(str(error), ExitCode.CONFIG)
    if said["api"] == "platform" and "@" not in said["email"]:
        asking.fail(f"--email was {said['email']!r}; the platform API logs in with one", ExitCode.USAGE)
    return content


def _secrets(wanted: list[str], *, from_stdin: bool, is_asking: bool) -> dict[str, str]:
    """Return the secrets by name. Those of Telegram are asked for as well, and may be left out."""
    allowed = (*wanted, SECRETS["telegram"], SECRETS["chat"])
    found: dict[str, str] = {}
    if from_stdin:
        for line in sys.stdin.read().splitlines():
            name, _, value = line.partition("=")
            if line.strip() and name not in allowed:
                _refuse_secret(f"standard input names {name[:40]!r}; allowed: {', '.join(allowed)}")
            found[name] = value
    elif is_asking:
        for name in allowed:
            found[name] = _typed(f"{name}{'' if name in wanted else ' (empty: none)'}: ")
    found = {name: value for name, value in found.items() if value}
    missing = [name for name in wanted[:1] if name not in found]
    if missing:
        _refuse_secret(f"secret {missing[0]} is missing: type it, give --secrets-stdin, or --settings-only")
    return found


def _refuse_secret(message: str) -> NoReturn:
    asking.fail(f"{message}. Nothing was written", ExitCode.USAGE)


def _typed(question: str) -> str:
    """Return a line that is not shown while it is typed; from a pipe as it is."""
    return (getpass.getpass(question) if sys.stdin.isatty() else sys.stdin.readline()).strip()


def _env(secrets: Mapping[str, str]) -> str:
    """Return the lines of `.env`, proved to be read back as they are. Ends the command for a value that is not."""
    lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in secrets.items())
    if (read := {str(name): str(value) for name, value in parse(lines).items()}) != dict(secrets):
        wrong = next(name for name, value in secrets.items() if read.get(name) != value)
        _refuse_secret(f"secret {wrong} holds characters that .env cannot keep; put it into the environment")
    return lines


def _write_new(path: Path, content: str) -> None:
    """Put a file of mode 0600 in place, whole or not at all. Raises OSError, also when there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    reach("pilot.before_init")  # writing a file of the settings beside its place, then giving it its name
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content.encode())
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(part)  # unlike a rename it replaces nothing
    finally:
        part.unlink(missing_ok=True)
    reach("pilot.after_init")
