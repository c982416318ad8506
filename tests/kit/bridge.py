"""An environment of its own with a module of TradingAgents' shape, for tests of the bridge. Made once a test run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SHAPE = Path(__file__).parent / "shape" / "tradingagents"
VERSION = "0.4.1"


def environment(folder: Path, *, installed: bool = True, takes_figures: bool = False) -> Path:
    """Make a virtual environment in `folder`, without pip and with the shape `installed`; return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    if installed:
        shutil.copytree(SHAPE, packages / "tradingagents", ignore=shutil.ignore_patterns("__pycache__"))
        info = packages / f"tradingagents-{VERSION}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tradingagents\nVersion: {VERSION}\n")
    if takes_figures:
        (packages / "tradingagents" / "graph" / "takes_figures").touch()
    return folder / "bin" / "python"


def config(folder: Path, **values: Any) -> str:
    """Write the project's config; return its path. `behaviour` and `rating` say what the shape does."""
    path = folder / "config.json"
    path.write_text(json.dumps(values))
    return str(path)
