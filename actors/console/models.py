"""`pilot models`: which ranking models are saved, what they are, and which one ranks.

Used by pilot. Reads the folder of models; writes only pins, which the scanner's processes never touch. Works beside the
pipeline and while it is down; a pin counts from the next new bar on.
Exit codes: 0 done, 1 there is no such model or it cannot be used, 64 usage.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors.console import asking, tables, text
from actors.market import card as cards
from actors.market import choice
from actors.market.card import Card
from actors.market.errors import ModelMismatch
from bus import failpoints
from bus.clock import SystemClock, iso
from bus.vocabulary import ExitCode
from config import load
from config.load import ConfigError

CHARS_MAX = 400

app = typer.Typer(
    name="models",
    help="Look at the ranking models, and say which one ranks.",
    epilog="Examples: pilot models list; pilot models use lgbm-0a1b; pilot models use --latest",
    no_args_is_help=True,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


class Listed(Struct, frozen=True, kw_only=True):
    """One saved model. `state`: it ranks (`current`, `pinned`), waits for a pin to go, or is kept for a rollback."""

    model_id: str
    state: str
    timeframe: str = ""
    source: str = ""
    last_day: str = ""
    pairs: int = 0
    rank_ic: float | None = None
    pinned_by: str = ""
    pinned_at: str = ""
    refused: str = ""  # why its card cannot be read


class Shown(Struct, frozen=True, kw_only=True):
    """One model with its whole card."""

    state: str
    card: Card


@app.callback()
def options() -> None:
    """Look at the ranking models, and say which one ranks."""


@app.command("list", epilog="Examples: pilot models list; pilot models list --json")
def list_models(as_json: AsJson = False) -> None:
    """List the saved models, newest first."""
    found = listed(_folder())
    if as_json:
        asking.print_json(found)
    else:
        _show_list(tables.console(sys.stdout), found)


@app.command(epilog="Example: pilot models show lgbm-0a1b")
def show(
    model_id: Annotated[str, typer.Argument(metavar="MODEL_ID", help="The model's id, or the beginning of it.")],
    as_json: AsJson = False,
) -> None:
    """Show what a model is: data cut, pairs, columns, parameters, and how it did on bars it had not seen."""
    folder = _folder()
    found = _card(folder, _full_id(folder, model_id))
    shown = Shown(state=_states(folder).get(found.model_id, "kept"), card=found)
    if as_json:
        asking.print_json(shown)
    else:
        _show_card(tables.console(sys.stdout), shown)


@app.command(epilog="Examples: pilot models use lgbm-0a1b; pilot models use --latest")
def use(
    model_id: Annotated[
        str | None, typer.Argument(metavar="[MODEL_ID]", help="Rank with this one until told otherwise.")
    ] = None,
    latest: Annotated[bool, typer.Option("--latest", help="Take all pins away: the newest training ranks.")] = False,
) -> None:
    """Roll back to an older model, or go on with the newest. Trainings go on all the while."""
    if (model_id is None) == (not latest):
        asking.fail("give either MODEL_ID or --latest", ExitCode.USAGE)
    folder = _folder()
    if model_id is None:
        _unpin(folder)
    else:
        _pin(folder, _card(folder, _full_id(folder, model_id)))


def listed(folder: Path) -> list[Listed]:
    """Return every saved model, newest first."""
    states = _states(folder)
    pins = {pin.model_id: pin for pin in choice.read_all(folder, "pinned")}
    found = []
    for place in cards.places(folder):
        try:
            card = cards.read(place)
        except ModelMismatch as error:
            found.append(Listed(model_id=place.name, state="refused", refused=str(error)))
            continue
        pin = pins.get(card.model_id)
        found.append(
            Listed(
                model_id=card.model_id,
                state=states.get(card.model_id, "kept"),
                timeframe=card.timeframe,
                source=card.source,
                last_day=card.last_day,
                pairs=len(card.symbols),
                rank_ic=card.metrics.rank_ic,
                pinned_by=pin.operator if pin else "",
                pinned_at=pin.at if pin else "",
            )
        )
    return found


def _states(folder: Path) -> dict[str, str]:
    """Return what the pointers say of models: a current one behind a pin of its timeframe and source waits."""
    pins = choice.read_all(folder, "pinned")
    held = {(pin.timeframe, pin.source) for pin in pins}
    found = {
        one.model_id: "waiting" if (one.timeframe, one.source) in held else "current"
        for one in choice.read_all(folder, "current")
    }
    return found | {pin.model_id: "pinned" for pin in pins}


def _pin(folder: Path, card: Card) -> None:
    """Pin a model that can be loaded here. Looked at again afterwards: a training may just have dropped it."""
    from actors.market import model

    pin = choice.Choice(
        model_id=card.model_id,
        timeframe=card.timeframe,
        source=card.source,
        operator=asking.operator(),
        at=iso(SystemClock().now()),
    )
    try:
        model.require_lightgbm()
        model.load(folder, card.model_id)
        failpoints.reach("pilot.before_pin")  # the operator's choice of a model
        choice.write(folder, "pinned", pin)
        failpoints.reach("pilot.after_pin")
        cards.read(folder / card.model_id)
    except (ModelMismatch, OSError) as error:
        asking.fail(f"{card.model_id} cannot be used: {error}", asking.REFUSED)
    except ConfigError as error:
        asking.fail(str(error), ExitCode.CONFIG)
    sys.stdout.write(
        f"{card.model_id} ranks {card.timeframe} {card.source} from the next new bar on, until: "
        "pilot models use --latest\n"
    )


def _unpin(folder: Path) -> None:
    places = sorted(folder.glob("pinned-*.json")) if folder.is_dir() else []
    for place in places[: choice.CHOICES_MAX]:
        try:
            failpoints.reach("pilot.before_unpin")  # taking the operator's choice away
            place.unlink(missing_ok=True)
            failpoints.reach("pilot.after_unpin")
        except OSError as error:
            asking.fail(f"{place.name} cannot be removed: {error}", asking.REFUSED)
    pins = "1 pin" if len(places) == 1 else f"{len(places)} pins"
    sys.stdout.write(
        f"{pins} removed: the newest training ranks from the next new bar on\n" if places else "no model was pinned\n"
    )


def _folder() -> Path:
    return load.data_folder() / "models"


def _full_id(folder: Path, beginning: str) -> str:
    """Return the one id that begins so, or end with a clear message."""
    found = [place.name for place in cards.places(folder) if beginning and place.name.startswith(beginning)]
    if beginning in found:
        return beginning
    if not found:
        asking.fail(f"there is no model {beginning!r}; see: pilot models list", asking.REFUSED)
    if len(found) > 1:
        asking.fail(
            f"{beginning!r} begins {len(found)} ids; write more of it: {', '.join(found[:5])}", asking.REFUSED
        )  # fmt: skip
    return found[0]


def _card(folder: Path, model_id: str) -> Card:
    try:
        return cards.read(folder / model_id)
    except ModelMismatch as error:
        asking.fail(str(error), asking.REFUSED)


# ── printing ────────────────────────────────────────────────────────────────


def _show_list(out: Console, found: list[Listed]) -> None:
    if not found:
        out.print("no models: the first scan trains one")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title in ("model", "state", "bars", "data cut", "pairs", "rank IC"):
        table.add_column(title, no_wrap=title == "model")
    for one in found:
        rank_ic = "" if one.rank_ic is None else f"{one.rank_ic:+.3f}"
        table.add_row(
            one.model_id, one.state, f"{one.timeframe} {one.source}".strip(), one.last_day,
            str(one.pairs or ""), rank_ic,
        )  # fmt: skip
    out.print(table)
    for one in found:
        if one.refused:
            out.print(Text(text.line(f"refused: {one.refused}", CHARS_MAX), "yellow"))
        if one.pinned_by:
            out.print(Text(text.line(f"{one.model_id} was pinned by {one.pinned_by} at {one.pinned_at}", CHARS_MAX)))
    out.print(Text("rank IC: on bars its trial had not seen; no edge is promised"))


def _show_card(out: Console, shown: Shown) -> None:
    card = shown.card
    rows = [
        ("model", f"{card.model_id}, {shown.state}"),
        ("bars", f"{card.timeframe} {card.source}, {card.first_day} to {card.last_day}"),
        ("learned up to", f"{card.last_known_day}: {card.horizon_bars} bars later its outcome was known"),
        ("pairs", ", ".join(card.symbols)),
        ("rank IC", f"{card.metrics.rank_ic:+.4f} on {card.metrics.days} unseen bars, t {card.metrics.rank_ic_t:+.2f}"),
        ("columns", f"{len(card.columns)}: {', '.join(card.columns)}"),
        ("parameters", ", ".join(f"{name} {value}" for name, value in card.parameters.items())),
        ("made with", f"{card.rounds} rounds, {card.seeds} seeds, LightGBM {card.lightgbm}, format {card.format}"),
        ("data sha256", card.fingerprint),
    ]
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    out.print(table)
    out.print(Text("No edge is promised."))
