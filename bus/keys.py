"""CURVE keys in a private folder: the pair of this host, the store's public key, and who may come from elsewhere.

Used by the store and by analysts on other hosts, and by `supervisor keys`. A secret key is in no message, log or error.

    store.key     secret of the store's host             llm.key     secret of an analysts' host
    store.pub     public half: who the store is          llm.pub     public half of that
    allowed/llm/NAME.pub     public keys that may speak as `llm`, one host a file: the store's allow-list
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from pathlib import Path

import zmq
from msgspec import Struct

from bus import failpoints
from bus.messages import REMOTE
from bus.vocabulary import Role
from config.load import ConfigError

KEY = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")  # Z85, see rfc.zeromq.org/spec/32
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
ALLOWED_MAX = 256
FILE_BYTES_MAX = 200
TRIES_MAX = 100  # one key in 85 begins with "-"
HOLDERS = (Role.STORE, *REMOTE)


class KeyRefused(ConfigError):
    """A key, its name, its file or its folder is not as it must be. The message says what is allowed."""


class Allowed(Struct, frozen=True):
    """One entry of the allow-list: this public key speaks as `role`, and its host is called `name`."""

    role: Role
    name: str
    public: str


class Pair(Struct, frozen=True):
    """A key pair in Z85. Never shown: `repr` would hold the secret."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"Pair({fingerprint(self.public)})"


def fingerprint(public: str) -> str:
    """Return what people compare: the first 16 hexadecimal digits of the key's sha256, in fours."""
    digits = hashlib.sha256(public.encode("ascii")).hexdigest()
    return "-".join(digits[at : at + 4] for at in range(0, 16, 4))


def new_pair(folder: Path, role: Role) -> Pair:
    """Make and keep the pair of this host. Raises KeyRefused when there is one, or for a role that stays at home."""
    _holder(role)
    _private_folder(folder, make=True)
    path = folder / f"{role}.key"
    if path.exists():
        raise KeyRefused(f"{path} exists; to change it, move it away first")
    made = _made()
    _write(path, made.secret)
    _write(folder / f"{role}.pub", made.public)
    return made


def _made() -> Pair:
    """Return a new pair whose public half no command line takes for an option."""
    for _ in range(TRIES_MAX):
        made = Pair(*(half.decode("ascii") for half in zmq.curve_keypair()))
        if not made.public.startswith("-"):
            return made
    raise KeyRefused(f"{TRIES_MAX} public keys in a row began with '-'; is there any chance in this machine?")


def pair(folder: Path, role: Role) -> Pair:
    """Return the pair of this host. Raises KeyRefused, also when others could read the secret."""
    _private_folder(folder)
    path = folder / f"{role}.key"
    secret = _read(path, private=True)
    return Pair(zmq.curve_public(secret.encode("ascii")).decode("ascii"), secret)


def store_key(folder: Path) -> str:
    """Return the store's public key: the one that analysts on this host call. Raises KeyRefused."""
    _private_folder(folder)
    return _read(folder / "store.pub", private=False)


def trust(folder: Path, public: str) -> None:
    """Keep the store's public key on an analysts' host. Raises KeyRefused, also on the store's own host."""
    _private_folder(folder, make=True)
    if (folder / "store.key").exists():
        raise KeyRefused(f"{folder} holds the store's own pair: this is the store's host, it trusts itself")
    _write(folder / "store.pub", checked(public))


def allow(folder: Path, role: Role, name: str, public: str) -> None:
    """Put a public key on the allow-list. Raises KeyRefused: a name that has another key, a key that has another name.

    A host that changes its key is allowed under a new name first; so both are valid until the old one is revoked.
    """
    _remote(role)
    _named(name)
    _private_folder(folder, make=True)
    found = allowed(folder)
    for one in found:
        if (one.role, one.name) == (role, name) and one.public != public:
            raise KeyRefused(
                f"{role} {name} has another key ({fingerprint(one.public)}); revoke it, or take a new name"
            )
        if one.public == public and (one.role, one.name) != (role, name):
            raise KeyRefused(f"this key is allowed as {one.role} {one.name} already")
    if len(found) >= ALLOWED_MAX:
        raise KeyRefused(f"{len(found)} keys are allowed; at most {ALLOWED_MAX}")
    if checked(public) in {_own_public(folder, holder) for holder in HOLDERS}:
        raise KeyRefused("this is a key of this very host; allow the public key of the other one")
    place = folder / "allowed" / role
    for one_folder in (place.parent, place):
        one_folder.mkdir(mode=0o700, exist_ok=True)
    _write(place / f"{name}.pub", public)


def revoke(folder: Path, role: Role, name: str) -> None:
    """Take a host off the allow-list. Raises KeyRefused when it is not on it."""
    _remote(role)
    _named(name)
    _private_folder(folder)
    failpoints.reach("supervisor.before_revoke")  # taking a key off the allow-list, by the operator's command
    try:
        (folder / "allowed" / role / f"{name}.pub").unlink()
    except FileNotFoundError as error:
        raise KeyRefused(f"{role} {name} is not allowed; `supervisor keys list` shows who is") from error
    failpoints.reach("supervisor.after_revoke")


def allowed(folder: Path) -> list[Allowed]:
    """Return the allow-list by role and name. Raises KeyRefused: a file in it that is no key stops all."""
    found = []
    for role in REMOTE:
        for path in sorted((folder / "allowed" / role).glob("*.pub")):
            _named(path.stem)
            found.append(Allowed(role, path.stem, _read(path, private=False)))
    if len(found) > ALLOWED_MAX:
        raise KeyRefused(f"{folder / 'allowed'} holds {len(found)} keys; at most {ALLOWED_MAX}")
    return found


def changed(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Return what is another value after every change of the allow-list: names, inodes, sizes and times."""
    found: list[tuple[str, int, int, int]] = []
    for role in REMOTE:
        with contextlib.suppress(FileNotFoundError), os.scandir(folder / "allowed" / role) as entries:
            for entry in entries:
                seen = entry.stat(follow_symlinks=True)
                found.append((f"{role}/{entry.name}", seen.st_ino, seen.st_size, seen.st_mtime_ns))
    return tuple(sorted(found))


def checked(text: str) -> str:
    """Return a public key. Raises KeyRefused when it is none; a secret key by mistake cannot be told from one."""
    if not KEY.fullmatch(text):
        raise KeyRefused(f"{len(text)} characters are no public key; it has 40 of Z85, as `keys new` printed it")
    return text


def _own_public(folder: Path, role: Role) -> str:
    try:
        return pair(folder, role).public
    except KeyRefused:
        return ""


def _holder(role: Role) -> None:
    if role not in HOLDERS:
        raise KeyRefused(f"{role} has no keys: it runs on the store's host only; allowed: {', '.join(HOLDERS)}")


def _remote(role: Role) -> None:
    if role not in REMOTE:
        raise KeyRefused(f"{role} may not come from another host; allowed: {', '.join(REMOTE)}")


def _named(name: str) -> None:
    if not NAME.fullmatch(name):
        raise KeyRefused(f"the name {name!r} cannot be; allowed: up to 32 of A-Z a-z 0-9 _ -, the first no sign")


def _private_folder(folder: Path, *, make: bool = False) -> None:
    """Refuse a folder of keys that others may look into."""
    try:
        if make:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise KeyRefused(
            f"bus.keys: cannot use {folder}: {error.strerror}; make it with `supervisor keys new`"
        ) from error
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or mode & 0o077:
        raise KeyRefused(
            f"bus.keys: {folder} has mode {mode:04o} or another owner; allowed: a folder of ours with 0700"
        )


def _read(path: Path, *, private: bool) -> str:
    """Return the key in a file. Never says what else stands there: it might be a secret."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            if private and mode & 0o077:
                raise KeyRefused(f"{path}: mode is {mode:04o}; allowed 0600 (run: chmod 600 {path})")
            text = file.read(FILE_BYTES_MAX).decode("ascii", errors="replace").strip()
    except OSError as error:
        raise KeyRefused(f"{path}: {error.strerror}; docs/hosts.md says which command makes it") from error
    if not KEY.fullmatch(text):
        raise KeyRefused(f"{path}: does not hold a key of 40 characters in Z85")
    return text


def _write(path: Path, key: str) -> None:
    """Put a key in place, whole or not at all, for nobody else to read."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    failpoints.reach("supervisor.before_write_key")  # a file of keys or of the allow-list, by the operator's command
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    failpoints.reach("supervisor.after_write_key")
