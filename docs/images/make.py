"""Make answer.png: a user's orders up to a moment, and what is answered of them, from a store and a deployed bundle.

    python docs/images/make.py var/store var/deployed 2011-12-09 16010

Of the other pictures auc_by_moment.png is drawn by `python -m benchmarks.churn`, and recall_by_head.png is a plot of a
tracked run, as MLflow shows it.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cli.options import instant
from features.events.store import Store
from features.timeline import Timeline
from models.answers import CatalogueCodes, ChurnQuestion, churn_answers, recommend_answers
from models.deployed import load_current
from models.recommender import Ask, Mode

BLUE, AMBER = "#0b6e8a", "#c0792a"


def main(store_path: str, deployed: str, day: str, user: str) -> None:
    """Write the picture beside this file."""
    store, models, as_of = Store.open(store_path), load_current(Path(deployed)), instant(day)
    assert models.churn is not None
    assert models.recommender is not None
    timeline = store.timeline_of([user])
    (risk,) = churn_answers(timeline, as_of, models.churn, ChurnQuestion(reasons=3))
    codes = CatalogueCodes(store, models.recommender).of_store
    items = store.table("items")
    names = dict(zip(items["item_id"].to_pylist(), items["name"].to_pylist(), strict=True)) if items else {}

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(1, 1.5))
    _orders(above, timeline, as_of, models.churn.horizon, f"customer {user}")
    below.axis("off")
    lines = [f"{reason.text}  ({reason.effect:+.2f})" for reason in risk.reasons]
    chance = f"{risk.probability:.0%} to buy nothing in the next {models.churn.horizon} days ({risk.risk} risk)"
    _told(below, 1.0, chance, lines)
    offers: tuple[tuple[float, Mode, str], ...] = (
        (0.54, "all", "to offer next"),
        (0.18, "cross_sell", "never bought before"),
    )
    for top, mode, title in offers:
        (answer,) = recommend_answers(timeline, as_of, models.recommender, codes, Ask(mode, 2))
        found = [(names.get(item.item_id, item.item_id).capitalize(), item) for item in answer.items]
        _told(below, top, title, [f"{name}  ({item.head}: {item.evidence})" for name, item in found])
    figure.savefig(Path(__file__).with_name("answer.png"), dpi=100)


def _orders(axes: Axes, timeline: Timeline, as_of: int, horizon: int, title: str) -> None:
    """A stem an instant of purchase, as high as the amount; the moment; and the days that are foretold."""
    ts, amounts = timeline.stream("purchase").ts, timeline.values("purchase", "amount") / 10_000
    orders, owner = np.unique(ts[ts < as_of], return_inverse=True)
    axes.vlines(orders.astype("datetime64[us]"), 0, np.bincount(owner, amounts[ts < as_of]), color=BLUE, lw=2)
    moment = np.datetime64(as_of, "us")
    axes.axvline(moment, color="black", lw=1)
    axes.axvspan(moment, moment + np.timedelta64(horizon, "D"), color=AMBER, alpha=0.15, lw=0)
    axes.text(moment + np.timedelta64(horizon // 2, "D"), 0.5, "?", size=20, color=AMBER, ha="center",
              transform=axes.get_xaxis_transform())  # fmt: skip
    axes.set(title=f"{title}: orders up to the moment", ylabel="order value", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)


def _told(axes: Axes, top: float, title: str, lines: list[str]) -> None:
    axes.text(0, top, title, size=11, weight="bold", color=BLUE, va="top")
    for number, line in enumerate(lines, 1):
        axes.text(0.015, top - 0.11 * number, line, size=9.5, va="top")


if __name__ == "__main__":
    main(*sys.argv[1:])
