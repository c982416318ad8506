"""The pictures of an evaluation as SVG text, to stand inside a page. Only this file knows matplotlib.

Runs in `pilot scan --evaluate`. Touches neither files nor network; the same figures give the same bytes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import matplotlib as mpl

from actors.market.figures import Evaluation

mpl.use("svg")  # no display
mpl.rcParams["svg.hashsalt"] = "prop-firm-pilot"
mpl.rcParams["svg.fonttype"] = "none"  # text stays text

from matplotlib.figure import Figure  # noqa: E402 - after the choice of what draws

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"lambdarank": "#2b6cb0", "momentum": "#c05621", "random": "#a0aec0"}
LABELS_MAX = 12


def years(found: Evaluation) -> str:
    """Return the rank correlation of each year, one bar a method."""
    figure, axes = _axes("Rank correlation by year", "mean Spearman correlation a bar")
    wide = 0.8 / len(found.methods)
    for at, method in enumerate(found.methods):
        places = [one.year + (at - (len(found.methods) - 1) / 2) * wide for one in method.years]
        axes.bar(places, [one.rank_ic for one in method.years], wide, label=method.name, color=COLOURS[method.name])
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.legend(frameon=False, ncols=len(found.methods))
    return _svg(figure)


def curves(found: Evaluation) -> str:
    """Return the running sum of net results, one line a method."""
    figure, axes = _axes(
        f"Running sum after costs of {found.cost_bp:g} bp a replaced pick", "basis points of one pick's size"
    )
    for method in found.methods:
        axes.plot(
            [month for month, _ in method.curve], [total for _, total in method.curve], label=method.name,
            color=COLOURS[method.name], linewidth=1.2,
        )  # fmt: skip
    months = [month for month, _ in found.methods[0].curve]
    axes.set_xticks(months[:: max(1, len(months) // LABELS_MAX)])
    axes.tick_params(axis="x", rotation=45)
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.legend(frameon=False)
    return _svg(figure)


def levels(found: Evaluation) -> str:
    """Return the result before costs of each level of confidence."""
    figure, axes = _axes("Result by confidence, before costs", "basis points a pick")
    names = [f"{one.confidence}\n{one.picks} picks" for one in found.levels]
    axes.bar(names, [one.gross_bp for one in found.levels], 0.5, color=COLOURS["lambdarank"])
    axes.axhline(0.0, color="black", linewidth=0.8)
    return _svg(figure)


def _axes(title: str, unit: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    axes.set_ylabel(unit, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure) -> str:
    """Return the drawing without the XML declaration, as it may stand inside HTML."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
