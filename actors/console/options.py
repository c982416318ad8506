"""The options that many commands of `pilot` share, so that they read the same everywhere. Used by pilot."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Reason = Annotated[str, typer.Option(help="Why. It stands in the record for good.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
