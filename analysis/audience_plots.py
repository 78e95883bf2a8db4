"""Pictures of the user base, as matplotlib figures; nothing is shown or written here."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, PercentFormatter

from analysis.cohorts import Cohorts
from analysis.people import People
from analysis.structure import NEW_STAGES, NOT_THERE, Structure
from features.audience.rfm import SEGMENTS
from features.audience.stages import STAGES
from features.timeline import Array

BLUE, AMBER, GREY, PLUM = "#0b6e8a", "#c0792a", "#7d8b99", "#a34b6c"
STAGE_COLOURS = {
    NOT_THERE: "#d3dadf",
    "anonymous": "#c4ccd2",
    "registered": "#9aa7b0",
    "introduction": "#9bd0dd",
    "growth": "#4ba7be",
    "maturity": BLUE,
    "dormancy": "#dba35f",
    "lost": PLUM,
}
WIDTH = 5.4  # inches: so narrow that letters can be read on a telephone
SIZE = (WIDTH, 4.4)
MOST_COHORTS, MOST_CATEGORIES = 18, 12
WRITTEN_COHORTS = 13  # up to so many, the shares are written into the cells
GAP = 0.015  # of the height, between stages of the flow diagram
LIGHT = 0.55  # luminance from which on black is read best


def structure_plot(found: Structure) -> Figure:
    """Users by stage at every moment, without anonymous devices."""
    figure, axes = _axes("Registered users by stage")
    days = _days(found.moments)
    below = np.zeros(len(days))
    for place, stage in enumerate(STAGES):
        if stage != "anonymous":
            height = found.stages[:, place]
            axes.bar(range(len(days)), height, 0.82, bottom=below, color=STAGE_COLOURS[stage], label=stage)
            below = below + height
    axes.plot(range(len(days)), found.paying, color="#222", lw=1.4, marker="o", ms=3, label="paying in the period")
    _day_ticks(axes, days)
    axes.yaxis.set_major_formatter(_thousands())
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def flow_plot(found: Structure, step: int = -1) -> Figure:
    """Who moved from which stage to which between two successive moments: ribbons as wide as there are users.

    Without anonymous devices, which move nowhere.
    """
    flow = found.flows[step].copy()
    flow[:, STAGES.index("anonymous")] = 0
    start, stop = _days([found.moments[step - 1], found.moments[step]])
    figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=f"Stages on {start} and {stop}", xlim=(-0.68, 1.6), ylim=(-0.02, 1.03), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    left, right = _stacked(flow.sum(axis=1)), _stacked(flow.sum(axis=0))
    scale = min(left[2], right[2])
    out, into = left[0].copy(), right[0].copy()
    for before, after in zip(*np.nonzero(flow), strict=True):
        height = flow[before, after] * scale
        stays = NEW_STAGES[before] == STAGES[after]
        colour = STAGE_COLOURS[NEW_STAGES[before]]
        axes.add_patch(_ribbon(out[before], into[after], height, colour, 0.3 if stays else 0.65))
        out[before] -= height
        into[after] -= height
    _stage_column(axes, 0.0, NEW_STAGES, flow.sum(axis=1), left[0], scale)
    _stage_column(axes, 1.0, STAGES, flow.sum(axis=0), right[0], scale)
    return figure


def _stacked(users: Array) -> tuple[Array, Array, float]:
    """Tops of stages from above, their users, and the height of one user."""
    some = users > 0
    scale = (1 - GAP * max(int(some.sum()) - 1, 0)) / max(int(users.sum()), 1)
    heights = users * scale + np.where(some, GAP, 0)
    return 1 - np.concatenate([[0], np.cumsum(heights)[:-1]]), users, scale


def _ribbon(left: float, right: float, height: float, colour: str, alpha: float) -> PathPatch:
    """From a place on the left to one on the right; both are tops."""
    x0, x1, middle = 0.04, 0.96, 0.5
    points = [
        *((x0, left), (middle, left), (middle, right), (x1, right)),
        *((x1, right - height), (middle, right - height), (middle, left - height), (x0, left - height), (x0, left)),
    ]
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
    return PathPatch(Path(points, codes), facecolor=colour, edgecolor="none", alpha=alpha)


def _stage_column(axes: Axes, x: float, names: Sequence[str], users: Array, tops: Array, scale: float) -> None:
    """Blocks of one side with names and counts beside them."""
    outside, align = (x - 0.06, "right") if x == 0 else (x + 0.06, "left")
    lowest = 2.0
    for name, count, top in zip(names, users.tolist(), tops.tolist(), strict=True):
        height = count * scale
        if not count:
            continue
        axes.add_patch(Rectangle((x - 0.04, top - height), 0.08, height, facecolor=STAGE_COLOURS[name], lw=0))
        at = min(top - height / 2, lowest - 0.036)  # names of thin stages are moved apart
        if at > 0:
            axes.text(outside, at, f"{name} {count:,}", ha=align, va="center", fontsize=10)
            lowest = at


def cohort_plot(found: Cohorts) -> Figure:
    """Retention by cohort as a heat map, the newest cohorts."""
    shown = slice(max(0, len(found.starts) - MOST_COHORTS), None)
    retention, starts, users = found.retention[shown, 1:], found.starts[shown], found.users[shown]
    known = np.isfinite(retention)
    steps = int(np.flatnonzero(known.any(axis=0)).max(initial=-1)) + 1
    some = known.any(axis=1)
    retention, starts, users = retention[some], starts[some], users[some]
    figure = Figure(figsize=(WIDTH, 1.6 + 0.27 * len(starts)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(f"Customers who buy again, by {found.unit} of first purchase", fontsize=11)
    if not steps:
        axes.text(0.5, 0.5, f"No {found.unit} after a first purchase is over yet.", ha="center", va="center")
        axes.set(xticks=[], yticks=[])
        return figure
    retention = retention[:, :steps]
    low, high = float(np.nanmin(retention)), float(np.nanmax(retention))
    image = axes.imshow(retention, cmap="GnBu", vmin=0.8 * low, vmax=high, aspect="auto")
    form = "datetime64[M]" if found.unit == "month" else "datetime64[D]"
    axes.set_yticks(range(len(starts)), [f"{s.astype(form)}  ({n:,})" for s, n in zip(starts, users, strict=True)])
    every = 1 if steps <= WRITTEN_COHORTS else 2
    axes.set_xticks(range(0, steps, every), [str(step + 1) for step in range(0, steps, every)])
    axes.tick_params(labelsize=9, length=0)
    axes.set_xlabel(f"{found.unit}s after; in brackets: customers")
    axes.spines[:].set_visible(False)
    if steps <= WRITTEN_COHORTS:
        _write_cells(axes, retention)
    figure.colorbar(image, ax=axes, format=PercentFormatter(1, 0), pad=0.02, fraction=0.05)
    return figure


def _write_cells(axes: Axes, shares: Array) -> None:
    for row, column in zip(*np.nonzero(np.isfinite(shares)), strict=True):
        share = shares[row, column]
        dark = share - 0.8 * np.nanmin(shares) > LIGHT * (np.nanmax(shares) - 0.8 * np.nanmin(shares))
        axes.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=8, color="w" if dark else "#222")


def rfm_plot(found: People) -> Figure:
    """Customers by scores of recency and frequency: as large as there are customers, as dark as they spend."""
    figure, axes = _axes(
        "Customers by recency and frequency", "R: recency score (5: bought lately)", "F: frequency score (5: often)"
    )
    bought = found.customers
    cell = (found.rfm[0, bought].astype(int) - 1) * 5 + found.rfm[1, bought] - 1
    users = np.bincount(cell, minlength=25)
    spend = np.bincount(cell, found.spend[bought], minlength=25) / np.maximum(users, 1)
    some = np.flatnonzero(users)
    sizes = 1_900 * users[some] / max(users.max(), 1)
    points = axes.scatter(
        some // 5 + 1, some % 5 + 1, s=sizes, c=spend[some], cmap="GnBu", vmin=0, edgecolors=GREY, lw=0.6
    )
    for place in some:
        small = users[place] < 0.12 * users.max()
        dark = spend[place] > LIGHT * spend[some].max() and not small
        axes.annotate(
            f"{users[place]:,}",
            (place // 5 + 1, place % 5 + 1),
            xytext=(0, -13 if small else 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8.5,
            color="w" if dark else "#222",
        )  # fmt: skip
    axes.set(xlim=(0.4, 5.6), ylim=(0.4, 5.6), xticks=range(1, 6), yticks=range(1, 6))
    if some.size:
        figure.colorbar(points, ax=axes, label="mean spend of the last year", format=_thousands(), pad=0.02)
    return figure


def penetration_plot(found: Structure) -> Figure:
    """Share of paying users who bought in each of the largest categories: in the last period, and in the first."""
    names, shares = found.categories[:MOST_CATEGORIES], found.penetration[:, :MOST_CATEGORIES]
    figure = Figure(figsize=(WIDTH, 1.4 + 0.36 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title("Share of paying users who buy in a category")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="x", alpha=0.25)
    place = np.arange(len(names))[::-1]
    first, last = _days([found.moments[0], found.moments[-1]])
    axes.barh(place, shares[-1], 0.7, color=BLUE, label=f"period to {last}")
    if len(found.moments) > 1:
        axes.plot(shares[0], place, "o", ms=5, color=AMBER, label=f"period to {first}")
    axes.set_yticks(place, _labels(names), fontsize=8.5, parse_math=False)  # $ in a name is money
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def risk_plot(found: People) -> Figure:
    """Churn probability by segment: the middle half, the middle four fifths, and the median."""
    rows = []
    for code, name in enumerate(SEGMENTS):
        chances = found.probability[(found.segment == code) & np.isfinite(found.probability)]
        if chances.size:
            rows.append((name.replace("_", " "), chances.size, np.quantile(chances, (0.1, 0.25, 0.5, 0.75, 0.9))))
    rows.sort(key=lambda row: row[2][2])
    figure = Figure(figsize=(WIDTH, 1.5 + 0.36 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title="Probability of leaving by segment", xlim=(0, 1), xlabel="middle half, middle four fifths, median")
    for place, (_, _, (low, lower, middle, upper, high)) in enumerate(rows):
        axes.hlines(place, low, high, color=GREY, lw=1.5)
        axes.hlines(place, lower, upper, color=BLUE, lw=9)
        axes.plot(middle, place, "o", ms=5, color="w", markeredgecolor=BLUE)
    axes.set_yticks(range(len(rows)), [f"{name}  ({users:,})" for name, users, _ in rows], fontsize=9)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _axes(title: str, x: str = "", y: str = "") -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _labels(categories: Sequence[str]) -> list[str]:
    """The last part of each path, or where that is not enough to tell them apart, the last two."""
    leaves = [name.rpartition(" > ")[2] for name in categories]
    if len(set(leaves)) < len(leaves):
        leaves = ["\n".join(name.split(" > ")[-2:]) for name in categories]
    return ["\n".join(textwrap.shorten(line, 26, placeholder="…") for line in leaf.split("\n")) for leaf in leaves]


def _thousands() -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{value:,.0f}")


def _day_ticks(axes: Axes, days: Sequence[str]) -> None:
    """At most seven dates, the last among them."""
    every = -(-len(days) // 7)
    ticks = range((len(days) - 1) % every, len(days), every)
    axes.set_xticks(ticks, [days[tick] for tick in ticks], rotation=20, fontsize=9)


def _days(moments: Sequence[int]) -> list[str]:
    return [str(np.datetime64(moment, "us").astype("datetime64[D]")) for moment in moments]
