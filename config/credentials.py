"""Secrets as files in one folder: one file a secret, its name is the variable's.

The one mechanism for what systemd calls credentials (`LoadCredential`), and for the secrets that container engines and
Kubernetes mount. Used by config/load.py only. Knows no environment, and never puts a value into an error.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

NAME = re.compile(r"[A-Z][A-Z0-9_]{0,99}")  # others, such as Kubernetes' `..data`, are not ours
BYTES_MAX = 65_536
FILES_MAX = 1_000
# Others may do nothing. A group may read: systemd grants by an access list, Kubernetes by fsGroup, and both show so.
FORBIDDEN = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP


class CredentialRefused(Exception):
    """The folder or one of its files cannot be used. The message says what was found and what is allowed."""


def read(folder: Path) -> dict[str, str]:
    """Return the secrets in `folder` by name, each without the line end that editors put behind it.

    Raises:
        CredentialRefused: no such folder, more than `FILES_MAX` entries, or a file that others may read or anybody
            else may change, that is larger than `BYTES_MAX` or no text.
    """
    try:
        entries = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise CredentialRefused(f"CREDENTIALS_DIRECTORY: cannot read {folder}: {error.strerror}") from error
    if len(entries) > FILES_MAX:
        raise CredentialRefused(f"CREDENTIALS_DIRECTORY: {folder} has {len(entries)} entries; allowed: {FILES_MAX}")
    return {name: _content(folder / name) for name in entries if NAME.fullmatch(name)}


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise CredentialRefused(f"{path}: is no file")
            if about.st_mode & FORBIDDEN:
                mode = stat.S_IMODE(about.st_mode)
                raise CredentialRefused(f"{path}: mode is {mode:04o}; allowed 0400, 0440, 0600 (chmod 0400 {path})")
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise CredentialRefused(f"{path}: {error.strerror}") from error
    if len(content) > BYTES_MAX:
        raise CredentialRefused(f"{path}: larger than {BYTES_MAX} bytes")
    try:
        return content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise CredentialRefused(f"{path}: is no UTF-8 text") from None
