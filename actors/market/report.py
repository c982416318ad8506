"""An evaluation as a page that stands alone: no script, no network, pictures inside.

Runs in `pilot scan --evaluate`. Says first that no edge is promised, and what the controls found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from actors.market import plots
from actors.market.figures import Evaluation

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#1a202c}"
    "table{border-collapse:collapse;margin:1rem 0}th,td{padding:.25rem .8rem;text-align:right;"
    "border-bottom:1px solid #e2e8f0}th:first-child,td:first-child{text-align:left}"
    ".note{background:#fffaf0;border-left:4px solid #c05621;padding:.6rem 1rem}svg{max-width:100%;height:auto}"
)


def page(found: Evaluation) -> str:
    """Return the whole page."""
    title = f"Ranking of {len(found.symbols)} pairs, {found.timeframe}, {found.source}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="note">{escape(found.note)}</p>',
        f"<p>{escape(_about(found))}</p>",
        *(f"<p>Left out: {escape(one)}</p>" for one in found.left_out),
        "<h2>On bars that the model had not seen</h2>",
        _methods(found),
        plots.years(found),
        plots.curves(found),
        "<h2>Controls</h2>",
        "<p>Shuffled labels hold nothing: what is found there must be about zero. A planted signal must be found, "
        "nearly as well as by somebody who knows it. What a model learned from shuffled labels yields on the true "
        "outcomes shows how far chance alone goes.</p>",
        _controls(found),
        "<h2>Confidence</h2>",
        f"<p>{escape(_confidence(found))}</p>",
        _levels(found),
        plots.levels(found),
        "<h2>By year</h2>",
        _years(found),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _about(found: Evaluation) -> str:
    return (
        f"{found.bars} bars from {found.first_bar} to {found.last_bar}; pairs {', '.join(found.symbols)}. The model is "
        f"refitted at the beginning of each year on at most {found.train_bars_max} bars before, with {found.seeds} "
        f"seeds (LightGBM {found.lightgbm}), and {found.horizon_bars} bars of embargo. Top {found.top_k} a bar, held "
        f"for {found.horizon_bars} bars on the side of the trend rule; each replaced pick costs {found.cost_bp:g} "
        f"basis points; no financing. t is Newey and West's. Random scores come from seed {found.random_seed}. Made at "
        f"{found.made_at}."
    )


def _methods(found: Evaluation) -> str:
    head = ("", "rank IC", "t", "picks", "hit rate", "turnover", "gross bp", "net bp", "net t")
    rows = [
        (
            one.name, f"{one.rank_ic:+.4f}", f"{one.t:+.2f}", str(one.picks), f"{one.hit_rate:.1%}",
            f"{one.turnover:.1%}", f"{one.gross_bp:+.2f}", f"{one.net_bp:+.2f}", f"{one.net_t:+.2f}",
        )
        for one in found.methods
    ]  # fmt: skip
    return _table(head, rows)


def _controls(found: Evaluation) -> str:
    rows = [
        (
            f"{one.name} of {one.size:.2f} deviations" if one.size else one.name,
            f"{one.rank_ic:+.4f}", f"{one.t:+.2f}", f"{one.known:+.4f}" if one.size else "",
        )
        for one in found.controls
    ]  # fmt: skip
    return _table(("", "rank IC", "t", "of one who knows"), rows)


def _confidence(found: Evaluation) -> str:
    if found.is_confidence_ordered:
        return (
            "The levels of confidence happen to be ordered by result here. It remains what it is: how clear a ranking "
            "is against past ones; no probability and no factor of size."
        )
    return "The levels of confidence are not ordered by result. confidence is no probability and no factor of size."


def _levels(found: Evaluation) -> str:
    rows = [(one.confidence, str(one.picks), f"{one.hit_rate:.1%}", f"{one.gross_bp:+.2f}") for one in found.levels]
    return _table(("confidence", "picks", "hit rate", "gross bp"), rows)


def _years(found: Evaluation) -> str:
    by_year = {
        method.name: {one.year: f"{one.rank_ic:+.3f} ({one.t:+.1f})" for one in method.years}
        for method in found.methods
    }
    years = sorted({year for one in by_year.values() for year in one})
    rows = [(str(year), *(one.get(year, "") for one in by_year.values())) for year in years]
    return _table(("rank IC (t)", *by_year), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    first = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{first}</tr>{body}</table>"
