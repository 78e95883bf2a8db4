"""Pictures of a run, as matplotlib figures; nothing is shown or written here."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve

from features.timeline import Array
from models.recommender import Aim
from training.churn import MODEL, ChurnRun, MomentResult
from training.contributions import by_family, gain_shares
from training.cross_sell import MODEL as CROSS_SELL
from training.cross_sell import K
from training.metrics import CALIBRATION_BINS, Interval
from training.money import Offer, ProfitCurve, profit_curve, profit_plot
from training.offers import AimFigures, Offers

TITLES: dict[Aim, str] = {"all": "everything bought", "new": "never bought before"}
MODEL_COLOUR, OTHER_COLOURS = "#0b6e8a", ("#c0792a", "#7d8b99", "#a34b6c", "#5f8f4e", "#7a6bb0")


def churn_plots(run: ChurnRun) -> dict[str, Figure]:
    """File name → figure: AUC and level by moment; calibration, lift, precision-recall and profit at the newest
    moment; importance."""
    newest = run.backtest[0]
    return {
        "auc_by_moment.png": _by_moment(run),
        "calibration.png": _calibration(newest),
        "importance_by_family.png": _importance(run),
        "level_by_moment.png": _level(run),
        "lift.png": _lift(newest),
        "precision_recall.png": _precision_recall(newest),
        "profit.png": profit_plot(newest_profit(run), _day(newest)),
    }


def newest_profit(run: ChurnRun) -> ProfitCurve:
    """Profit by the share of users contacted at the newest moment."""
    newest = run.backtest[0]
    return profit_curve(newest.scores[MODEL], Offer(**run.recipe["money"]), newest.matrix.churned)


def _colours(names: list[str]) -> dict[str, str]:
    others = [name for name in names if name != MODEL]
    return {MODEL: MODEL_COLOUR, **{name: OTHER_COLOURS[i % len(OTHER_COLOURS)] for i, name in enumerate(others)}}


def _axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _day(result: MomentResult) -> str:
    return str(np.datetime64(result.matrix.as_of, "us").astype("datetime64[D]"))


def _calibration(result: MomentResult) -> Figure:
    figure, axes = _axes(f"Calibration, {_day(result)}", "predicted probability", "observed share of leavers")
    colours = _colours(list(result.scores))
    axes.plot([0, 1], [0, 1], color="#999", lw=1, ls=":")
    for name, score in result.scores.items():
        if "calibration_error" in result.figures[name]:
            bins = np.array_split(np.argsort(score, kind="stable"), CALIBRATION_BINS)
            error = result.figures[name]["calibration_error"]
            axes.plot(
                [score[b].mean() for b in bins],
                [result.matrix.churned[b].mean() for b in bins],
                marker="o",
                ms=4,
                color=colours[name],
                label=f"{name} (error {error:.3f})",
            )
    axes.legend(frameon=False)
    return figure


def _lift(result: MomentResult) -> Figure:
    figure, axes = _axes(
        f"Leavers reached, {_day(result)}", "share of users contacted, highest risk first", "of leavers"
    )
    churned = result.matrix.churned
    share = np.arange(1, len(churned) + 1) / len(churned)
    axes.plot([0, 1], [0, 1], color="#999", lw=1, ls=":")
    for name, colour in _colours(list(result.scores)).items():
        reached = np.cumsum(churned[np.argsort(-result.scores[name], kind="stable")]) / churned.sum()
        lift = result.figures[name]["lift_top_tenth"]
        axes.plot(share, reached, color=colour, label=f"{name} (lift {lift:.2f} in the top tenth)")
    axes.legend(frameon=False)
    return figure


def _precision_recall(result: MomentResult) -> Figure:
    figure, axes = _axes(f"Precision and recall, {_day(result)}", "recall", "precision")
    for name, colour in _colours(list(result.scores)).items():
        precision, recall, _ = precision_recall_curve(result.matrix.churned, result.scores[name])
        axes.plot(recall, precision, color=colour, label=name)
    axes.axhline(result.matrix.churned.mean(), color="#999", lw=1, ls=":")
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False)
    return figure


def _importance(run: ChurnRun) -> Figure:
    figure, axes = _axes("Importance by family of signals", "share of the booster's gain", "")
    families = by_family(run.model.signals, gain_shares(run.model))
    names = sorted(families, key=lambda name: families[name])
    axes.barh(names, [families[name] for name in names], color=MODEL_COLOUR)
    return figure


def _by_moment(run: ChurnRun) -> Figure:
    figure, axes = _axes("AUC by moment of the backtest", "", "AUC")
    days = [_day(result) for result in reversed(run.backtest)]
    for name, colour in _colours([MODEL, *run.baselines]).items():
        axes.plot(days, [r.figures[name]["auc"] for r in reversed(run.backtest)], marker="o", color=colour, label=name)
    _dates(axes)
    return figure


def _level(run: ChurnRun) -> Figure:
    figure, axes = _axes("Share of leavers by moment: foretold and observed", "", "share of users")
    oldest_first = run.backtest[::-1]
    days = [_day(result) for result in oldest_first]
    observed = np.array([r.figures[MODEL]["churned_share"] for r in oldest_first])
    chance = 1.96 * np.sqrt(observed * (1 - observed) / [len(r.matrix) for r in oldest_first])
    axes.errorbar(days, observed, chance, marker="o", color="#444", capsize=3, label="observed, with what chance does")
    foretold = [r.figures[MODEL]["predicted_share"] for r in oldest_first]
    axes.plot(days, foretold, marker="o", ls="--", color=MODEL_COLOUR, label="foretold at the time")
    _dates(axes)
    return figure


def _dates(axes: Axes) -> None:
    axes.tick_params(axis="x", labelsize=8, rotation=20)
    axes.legend(frameon=False, fontsize=9)


def cross_sell_plots(found: Offers) -> dict[str, Figure]:
    """File name → figure, a panel an aim: recall and NDCG of every contender, recall by group, the worth of heads."""
    return {
        "recall_by_head.png": _two_panels(found, _by_contender, "recall"),
        "ndcg_by_head.png": _two_panels(found, _by_contender, "ndcg"),
        "recall_by_group.png": _two_panels(found, _by_group, "recall"),
        "head_worth.png": _two_panels(found, _worth, "recall"),
    }


LABELS = {"recall": f"Recall@{K}", "ndcg": f"NDCG@{K}"}


def _two_panels(found: Offers, draw: Callable[[Axes, AimFigures, str], None], figure_name: str) -> Figure:
    figure = Figure(figsize=(8, 4), layout="constrained")
    for place, (aim, title) in enumerate(TITLES.items()):
        axes = figure.add_subplot(1, 2, place + 1)
        draw(axes, found.figures[aim], figure_name)
        axes.set_title(title)
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _whiskers(intervals: Sequence[Interval]) -> Array:
    """Distances to the bounds, float64[2, intervals]."""
    return np.array([[i.value - i.low for i in intervals], [i.high - i.value for i in intervals]]).clip(0)


def _by_contender(axes: Axes, figures: AimFigures, figure_name: str) -> None:
    """Those who say anything, best on top."""
    intervals = {name: of[figure_name] for name, of in figures.figures.items() if of[figure_name].value > 0}
    names = sorted(intervals, key=lambda name: intervals[name].value)
    colours = [MODEL_COLOUR if name == CROSS_SELL else OTHER_COLOURS[1] for name in names]
    shown = [intervals[name] for name in names]
    axes.barh(names, [i.value for i in shown], xerr=_whiskers(shown), color=colours)
    axes.set_xlabel(LABELS[figure_name])


def _by_group(axes: Axes, figures: AimFigures, figure_name: str) -> None:
    groups = list(figures.groups)
    names = list(figures.groups[groups[0]].figures) if groups else []
    colours = [MODEL_COLOUR if name == CROSS_SELL else OTHER_COLOURS[i % 5] for i, name in enumerate(names)]
    for place, (name, colour) in enumerate(zip(names, colours, strict=True)):
        shown = [figures.groups[group].figures[name][figure_name] for group in groups]
        x = np.arange(len(groups)) + (place - 1) * 0.27
        axes.bar(x, [i.value for i in shown], 0.25, yerr=_whiskers(shown), color=colour, label=name)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel(LABELS[figure_name])
    axes.legend(frameon=False, fontsize=8)


def _worth(axes: Axes, figures: AimFigures, figure_name: str) -> None:
    names = sorted(figures.worth, key=lambda name: figures.worth[name][figure_name].value)
    shown = [figures.worth[name][figure_name] for name in names]
    axes.barh(names, [i.value for i in shown], xerr=_whiskers(shown), color=MODEL_COLOUR)
    axes.axvline(0, color="#444", lw=1)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(f"{LABELS[figure_name]} lost without what it finds")
