"""`supervisor keys`: make the keys of a host, say which hosts may come in, take that back. Secrets are never shown.

Run by the command line on both kinds of hosts; touches files only. A running store follows the allow-list by itself.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bus import keys, messages
from bus.vocabulary import ExitCode, Role
from config import load
from supervisor import formation


def run(options: argparse.Namespace) -> int:
    """Carry out one verb. Raises ConfigError, KeyRefused, UsageError."""
    folder = _folder(options)
    if options.verb == "new":
        role = _role(options.role, keys.HOLDERS)
        made = keys.new_pair(folder, role)
        _say(f"made {folder / f'{role}.key'}, fingerprint {keys.fingerprint(made.public)}\npublic key: {made.public}")
        _say(_next_step(role, made.public))
    elif options.verb == "trust":
        keys.trust(folder, options.public)
        _say(f"trusts the store with fingerprint {keys.fingerprint(options.public)}")
    elif options.verb == "allow":
        keys.allow(folder, _role(options.role, messages.REMOTE), options.name, options.public)
        _say(f"allowed: {options.role} {options.name}, fingerprint {keys.fingerprint(options.public)}")
    elif options.verb == "revoke":
        keys.revoke(folder, _role(options.role, messages.REMOTE), options.name)
        _say(f"revoked: {options.role} {options.name}; a running store lets it go within a second")
    else:
        _list(folder)
    return ExitCode.OK


def _folder(options: argparse.Namespace) -> Path:
    if options.keys is not None:
        return Path(options.keys).expanduser().absolute()
    found = load.settings(options.profile).bus.keys
    if not found:
        raise load.ConfigError("bus.keys is not set; name the folder there, or with --keys FOLDER")
    return Path(found)


def _role(name: str, known: tuple[Role, ...]) -> Role:
    return formation.role_of(name, known)


def _next_step(role: Role, public: str) -> str:
    if role is Role.STORE:
        return f"on each host of analysts: supervisor keys trust '{public}'"
    return f"on the store's host: supervisor keys allow {role} NAME '{public}'"


def _list(folder: Path) -> None:
    for role in keys.HOLDERS:
        if (folder / f"{role}.key").exists():
            _say(f"this host: {role}, fingerprint {keys.fingerprint(keys.pair(folder, role).public)}")
        elif role is Role.STORE and (folder / "store.pub").exists():
            _say(f"trusts: the store with fingerprint {keys.fingerprint(keys.store_key(folder))}")
    found = keys.allowed(folder)
    for one in found:
        _say(f"allowed: {one.role} {one.name}, fingerprint {keys.fingerprint(one.public)}")
    if not found:
        _say("allowed: nobody")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
