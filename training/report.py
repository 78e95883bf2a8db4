"""The page on which a reviewer decides about a churn run: `report.html` among its artifacts."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from matplotlib.figure import Figure

from analysis.alarm import beside, pooled
from analysis.drift import drift
from analysis.leavers import leavers
from analysis.page import Cell, Html, Section, heading, listing, page, paragraph, picture, pictures, table
from features.events.columns import DAY
from features.events.store import Store
from models.churn import ChurnModel
from training.backtest import show
from training.baselines import RFM
from training.champion import Champion
from training.churn import MODEL, ChurnRun, MomentResult, select
from training.contributions import by_family, gain_shares, heaviest, leading_families
from training.headline import Headline
from training.phrases import and_, interval, margin, moment_count
from training.plots import newest_profit
from training.segments import RULES

FILE = "report.html"
FIGURES = {
    "auc": ("AUC", 3),
    "average_precision": ("average precision", 3),
    "brier": ("Brier", 3),
    "lift_top_tenth": ("lift, top tenth", 2),
    "expected_maximum_profit": ("max. profit", 2),
}
SHOWN = 15  # rows of the longer tables
MOST_LEAVERS = 1_000
LIBRARIES = ("ebbtide", "lightgbm", "numpy", "scipy", "scikit-learn")


@dataclass(frozen=True)
class Material:
    """What the page is made of.

    Attributes:
        params: of the run, as tracked.
        segments: `training.segments.segment_figures`.
        plots: `training.plots.churn_plots`.
    """

    run: ChurnRun
    store: Store
    params: Mapping[str, object]
    headline: Headline
    segments: Mapping[str, Mapping[str, Mapping[str, float]]]
    champion: Champion | None
    plots: Mapping[str, Figure]

    @property
    def model(self) -> ChurnModel:
        return self.run.model

    @property
    def newest(self) -> MomentResult:
        return self.run.backtest[0]


def churn_report(about: Material) -> Html:
    """The whole page."""
    title = f"Churn: no purchase within {about.model.horizon} days, as of {show(about.model.as_of)}"
    moments = len(about.run.backtest)
    lead = [
        paragraph(
            f"Data: {about.store.path.name}, digest {about.params['data digest']}. Every figure is of models that were "
            f"fitted on earlier events than those they are judged on: {moments} moment{'s' if moments > 1 else ''} "
            f"from {show(about.run.backtest[-1].matrix.as_of)} to {show(about.newest.matrix.as_of)}.",
            "soft",
        ),
        paragraph(verdict(about.headline), "verdict"),
        *_warnings(about),
    ]
    sections = [
        Section("headline", "Headline", _headline(about)),
        Section("moments", "Moment by moment", _moments(about)),
        Section("segments", "Segments", _segments(about)),
        Section("calibration", "Calibration and horizons", _calibration(about)),
        Section("money", "Whom to contact", _money(about)),
        Section("reasons", "What the scores rest on", _reasons(about)),
        Section("alarm", "The operators' alarm", _alarm(about)),
        Section("leavers", "What leavers do before they leave", _leavers(about)),
        Section("drift", "Drift against the champion's training", _drift(about)),
        Section("card", "Model card", _card(about)),
    ]
    return page(title, lead, sections)


def verdict(found: Headline) -> str:
    """The backtest in two sentences or three."""
    if not found.margins:
        return "There is no baseline to compare with."
    losing = [name for name, compared in found.margins.items() if compared.difference.high < 0]
    unsure = [name for name, c in found.margins.items() if c.difference.low <= 0 <= c.difference.high]
    closest = found.margins[found.closest]
    if losing:
        says = f"The model does NOT beat {and_(losing)}"
    elif unsure:
        says = f"The model loses to no baseline, but its margin over {and_(unsure)} is within chance"
    else:
        says = f"The model beats all {len(found.margins)} baselines"
    moment, least = found.worst[found.closest]
    text = (
        f"{says}: mean AUC {closest.ours:.3f}, {margin(closest.difference)} over {found.closest}, the closest "
        f"({closest.users:,} users, {moment_count(closest.moments)}); at the worst moment, {show(moment)}, "
        f"{least:+.3f}."
    )
    champion = found.over_champion
    if champion is None:
        return text
    d = champion.difference
    how = "better than" if d.low > 0 else "worse than" if d.high < 0 else "not to be told apart from"
    return (
        f"{text} It is {how} the champion: {margin(d)} on the same {champion.users:,} users, "
        f"{moment_count(champion.moments)}."
    )


def _warnings(about: Material) -> list[Html]:
    champion = about.champion
    if champion is None:
        return [paragraph("There is no champion yet: only the baselines are beside the model.", "soft")]
    out = []
    differences = champion.differences(about.params)
    if differences:
        told = "; ".join(f"{what}: {ours} here, {theirs} there" for what, ours, theirs in differences)
        out.append(
            paragraph(f"Compare with care: this run and champion {champion.version} differ in {told}.", "warning")
        )
    if about.headline.over_champion is None:
        why = "it kept no scores" if champion.scores is None else "no user was scored by both at the same moment"
        if champion.params.get("horizon") != str(about.params["horizon"]):
            why = "it has another horizon"
        out.append(paragraph(f"Champion {champion.version} cannot be compared on the same users: {why}.", "warning"))
    return out


def _headline(about: Material) -> list[Html]:
    found = about.headline
    rows = [
        [name, *(interval(figures.get(figure), digits) for figure, (_, digits) in FIGURES.items())]
        for name, figures in found.means.items()
    ]
    margins: list[list[Cell]] = [
        [name, margin(found.margins[name].difference), f"{found.worst[name][1]:+.3f}", show(found.worst[name][0])]
        for name in found.margins
    ]
    if found.over_champion is not None and about.champion is not None:
        margins.append([f"champion {about.champion.version}", margin(found.over_champion.difference), None, None])
    return [
        table(["", *(title for title, _ in FIGURES.values())], rows, caption="Means over the moments", own=MODEL),
        table(["AUC over", "mean margin", "worst moment", "which"], margins, caption="Margins, paired by user"),
        paragraph(
            "In brackets: 95 % bootstrap intervals over users; a user who is drawn is drawn at every moment and for "
            "every contender. The intervals of two contenders may overlap while their margin is clear, because both "
            "are judged by the same users. A score that is no probability has no Brier score. Max. profit is the "
            "expected maximum, in currency units a user, under the costs below.",
            "soft",
        ),
        picture(about.plots["auc_by_moment.png"], "AUC of the model and its baselines at each moment of the backtest."),
    ]


def _moments(about: Material) -> list[Html]:
    rows = []
    for result in about.run.backtest:
        ours = result.figures[MODEL]
        best = max(about.run.baselines, key=lambda name, result=result: result.figures[name]["auc"])  # type: ignore[misc]
        rows.append(
            [
                show(result.matrix.as_of),
                f"{len(result.matrix):,}",
                f"{ours['churned_share']:.3f}",
                f"{ours['predicted_share']:.3f}",
                interval(about.headline.moments[result.matrix.as_of][MODEL]["auc"], 3),
                f"{ours['auc'] - result.figures[best]['auc']:+.3f}",
                best,
                *_calibrated(ours),
                f"{ours['lift_top_tenth']:.2f}",
            ]
        )
    head = ["moment", "users", "left", "foretold", "AUC", "margin", "over the best", *CALIBRATED, "lift"]
    return [table(head, rows, caption="Newest first; shares of users")]


CALIBRATED = ("calibration error", "limit", "slope")


def _calibrated(figures: Mapping[str, float], prefix: str = "") -> list[Cell]:
    """Error, marked where it is beyond its limit, limit and slope."""
    error, limit = figures.get(f"{prefix}calibration_error"), figures.get(f"{prefix}calibration_error_limit")
    if error is None or limit is None:
        return [None, None, None]
    slope = figures.get(f"{prefix}calibration_slope")
    mark = " (beyond)" if error > limit else ""
    return [f"{error:.3f}{mark}", f"{limit:.3f}", None if slope is None else f"{slope:.2f}"]


def _segments(about: Material) -> list[Html]:
    rows: list[list[Cell]] = []
    for name, ours in about.segments[MODEL].items():
        rfm = about.segments[RFM].get(name, {})
        auc, theirs = ours.get("auc"), rfm.get("auc")
        rows.append(
            [
                name,
                f"{ours['users']:,.0f}",
                f"{ours['churned_share']:.3f}",
                f"{ours['predicted_share']:.3f}",
                _number(auc),
                _number(theirs),
                None if auc is None or theirs is None else f"{auc - theirs:+.3f}",
                *_calibrated(ours)[:2],
            ]
        )
    head = ["segment", "users × moments", "left", "foretold", "AUC", f"AUC, {RFM}", "margin", *CALIBRATED[:2]]
    return [
        table(head, rows, caption="Over all moments of the backtest"),
        paragraph("Every user is in the first segment whose rule holds:"),
        listing(list(RULES.items())),
        paragraph("A dash stands where too few left or stayed to tell.", "soft"),
    ]


def _calibration(about: Material) -> list[Html]:
    rows: list[list[Cell]] = []
    for days in about.model.horizons:
        prefix = f"h{days:03d}_"
        told = [r for r in about.run.backtest if f"{prefix}auc" in r.figures[MODEL]]
        if not told:
            rows.append([f"{days} days", "not known yet", *[None] * 8])
            continue
        newest, every = told[0].figures[MODEL], [r.figures[MODEL] for r in told]
        within = sum(f[f"{prefix}calibration_error"] <= f[f"{prefix}calibration_error_limit"] for f in every)
        rows.append(
            [
                f"{days} days",
                show(told[0].matrix.as_of),
                f"{newest[f'{prefix}churned_share']:.3f}",
                f"{newest[f'{prefix}predicted_share']:.3f}",
                f"{newest[f'{prefix}auc']:.3f}",
                *_calibrated(newest, prefix),
                f"{np.mean([f[f'{prefix}auc'] for f in every]):.3f}",
                f"{within} of {len(every)}",
            ]
        )
    head = ["horizon", "newest moment", "left", "foretold", "AUC", *CALIBRATED, "mean AUC", "within limit"]
    return [
        paragraph(
            "One model answers for every horizon. Even perfect probabilities show some calibration error with few "
            "users; they stay under the limit 95 times of 100. A slope of 1 is ideal; below it the probabilities are "
            "too bold, above it too timid."
        ),
        table(head, rows, caption="Each horizon where its outcome is known"),
        pictures(
            [
                picture(about.plots["calibration.png"], "Predicted and observed share in bins, newest moment."),
                picture(about.plots["level_by_moment.png"], "How many leave, foretold and observed: the season."),
            ]
        ),
    ]


def _money(about: Material) -> list[Html]:
    curve = newest_profit(about.run)
    offer, best = curve.offer, curve.best
    assert curve.realised is not None  # the newest moment of a backtest has outcomes
    pairs = [
        ("worth contacting", f"{curve.best_share:.1%} of users, from a probability of {offer.threshold:.3f} upwards"),
        ("profit expected of it", f"{curve.expected[best]:.2f} currency units by user of all"),
        ("profit realised by it", f"{curve.realised[best]:.2f}"),
        ("profit realised by contacting everybody", f"{curve.realised[-1]:.2f}"),
        (
            "under these costs",
            f"a user kept is worth {offer.lifetime_value:g}, an offer costs {offer.offer_cost:g}, a contact "
            f"{offer.contact_cost:g}, and {offer.accepted:.0%} of leavers accept; from the recipe, not from the log",
        ),
    ]
    return [
        listing(pairs),
        pictures(
            [
                picture(about.plots["profit.png"], "Profit by the share of users contacted, newest moment."),
                picture(about.plots["lift.png"], "Share of leavers reached, newest moment."),
                picture(about.plots["precision_recall.png"], "Precision and recall, newest moment."),
            ]
        ),
    ]


def _reasons(about: Material) -> list[Html]:
    model, matrix = about.model, about.newest.matrix
    shares = gain_shares(model)
    signals = [
        [w.signal.name, w.signal.family, f"{w.share:.1%}", _direction(w.direction), w.signal.description]
        for w in heaviest(model, matrix, SHOWN)
    ]
    leading = leading_families(model, matrix)
    families = [
        [family, f"{share:.1%}", f"{leading.families.get(family, 0) / leading.users:.1%}" if leading.users else None]
        for family, share in by_family(model.signals, shares).items()
    ]
    plain = (
        f"The score is {1 - model.plain_share:.0%} the booster's and {model.plain_share:.0%} a plain weighting of "
        "recency, frequency and money (chosen by backtest). What follows is about the booster's part."
    )
    return [
        paragraph(plain),
        table(
            ["family", "share of gain", "leads among users at high risk"],
            families,
            caption=f"Leads: raises the score most ({leading.users:,} users)",
        ),
        picture(about.plots["importance_by_family.png"], "Share of the booster's gain by family of signals."),
        table(
            ["signal", "family", "share of gain", "direction", "meaning"],
            signals,
            caption="Direction: rank correlation of value and score; + raises the probability of leaving",
        ),
        paragraph("Neither gain nor contribution is a cause of leaving.", "soft"),
    ]


def _alarm(about: Material) -> list[Html]:
    settings = about.model.alarm
    rule = (
        f"The rule: unseen for {settings.unseen_days:g} days, and minutes browsed had fallen by more than "
        f"{settings.fall:.0%} when last seen."
    )
    moments = [beside(r.matrix, r.scores[MODEL], settings) for r in about.run.backtest]
    if not any(moment.known for moment in moments):
        return [paragraph(f"{rule} It is not known for anybody: the log has no browsing before these moments.")]
    both = pooled(moments)
    flagged = [
        [name, f"{f.flagged:,}", *(_share(value) for value in (f.precision, f.recall, f.f1))]
        for name, f in both.flagged.items()
    ]
    parts = [[name, f"{part.users:,}", _share(part.share_left)] for name, part in both.parts.items()]
    return [
        paragraph(f"{rule} It is known for {both.known:,} of {both.users:,} users, each counted once a moment."),
        table(["", "flagged", "precision", "recall", "F1"], flagged, caption="Rule and model"),
        table(["caught by", "users", "of them left"], parts, caption="The model at the rule's number of users"),
    ]


def _leavers(about: Material) -> list[Html]:
    found = leavers(about.store, about.model.as_of, about.model.horizon, most=MOST_LEAVERS)
    out = [paragraph(found.said)]
    if found.moves:
        rows: list[list[Cell]] = [
            [m.signal, m.direction, m.days_ahead, f"{m.effect:+.2f}", f"{m.pairs:,}", m.description]
            for m in found.moves[:SHOWN]
        ]
        head = ["signal", "of leavers", "days ahead", "effect", "pairs", "meaning"]
        out.append(table(head, rows, caption="Earliest first; effect in standard deviations of a user's change"))
        out.append(picture(found.figure(), "How far each signal of leavers moves against matched stayers, by week."))
    out.append(
        paragraph(
            "Leavers are paired with users who stayed and had bought alike until then; each is compared with the own "
            "norm. A signal counts only if chance would show as much in any signal in fewer than 5 of 100 logs.",
            "soft",
        )
    )
    return out


def _drift(about: Material) -> list[Html]:
    champion, matrix = about.champion, about.newest.matrix
    if champion is None:
        return [paragraph("There is no champion, so there is nothing to compare with.")]
    if champion.model is None:
        return [paragraph(f"Champion {champion.version} could not be loaded: {champion.why}", "warning")]
    values = select(matrix, champion.model)
    found = drift(champion.model.reference, matrix.as_of, values, champion.model.score(values, matrix.as_of))
    alarms = [d for d in found if d.alarm]
    since = show(int(champion.model.reference.as_of[0]))
    says = (
        f"{len(alarms)} of {len(found)} checks are beyond their limits: the users of {show(matrix.as_of)}, the newest "
        f"whose outcome is known, against those that champion {champion.version} was trained on (newest: {since})."
    )
    rows = [
        [d.signal, d.of, f"{d.psi:.3f}", f"{d.limit:.3f}", "yes" if d.alarm else "no", f"{d.users_now:,}"]
        for d in found[:SHOWN]
    ]
    return [
        paragraph(says, "warning" if alarms else ""),
        table(
            ["signal", "of", "index", "limit", "beyond", "users"],
            rows,
            caption="Population stability index, worst first; the limit knows chance and what training itself moved",
        ),
    ]


def _card(about: Material) -> list[Html]:
    run, model, store = about.run, about.model, about.store
    first, last = store.span
    kinds = ", ".join(sorted(kind for kind, known in store.facts.kinds_known.items() if known < model.as_of))
    recipe = run.recipe
    return [
        listing(
            [
                (
                    "predicts",
                    f"the probability that a user makes no purchase within a horizon after a moment, for horizons of 1 "
                    f"to {model.horizons[-1]} days (learned: {and_([str(d) for d in model.horizons])}; judged above: "
                    f"{model.horizon}), for users with a purchase in the {model.lookback} days before",
                ),
                (
                    "not to be used",
                    "as a cause of leaving or as the effect of an offer: it tells who leaves, not who can be kept; for "
                    "prices, credit, employment or anything that someone has a right to; for another shop than the "
                    "one of this log; for users without a purchase, who get the share of leavers among all instead",
                ),
                (
                    "data",
                    f"{store.path.name}: {store.rows:,} events of {len(store.user_hashes):,} users from "
                    f"{show(first // DAY * DAY)} to {show(last // DAY * DAY)}, of kinds {kinds}; read before "
                    f"{show(model.as_of)}, digest {about.params['data digest']}. What is in the log is what the shop "
                    "recorded: an outcome is a purchase in it or none",
                ),
                (
                    "trained on",
                    f"{run.rows:,} rows, a user and moment each, of {about.params['training moments']} moments up to "
                    f"{show(run.schedule.train[0])}",
                ),
                ("backtested at", and_([show(r.matrix.as_of) for r in run.backtest])),
                (
                    "signals",
                    f"{len(model.signals)}, of families {and_(list(by_family(model.signals, gain_shares(model))))}",
                ),
                (
                    "plain share",
                    f"{model.plain_share:.0%} of the score; the rest is a LightGBM booster of {recipe['rounds']} trees",
                ),
                ("seed", str(recipe["seed"])),
                (
                    "versions",
                    ", ".join(["python " + platform.python_version(), *(f"{n} {version(n)}" for n in LIBRARIES)]),
                ),
                ("licence", "the code Apache-2.0; the data has its owner's terms"),
            ]
        ),
        heading("Known limits"),
        *(paragraph(limit) for limit in known_limits(run)),
    ]


def known_limits(run: ChurnRun) -> list[str]:
    """What a run's own backtest says against its model, a sentence each."""
    out = []
    beyond = [
        show(r.matrix.as_of)
        for r in run.backtest
        if r.figures[MODEL]["calibration_error"] > r.figures[MODEL]["calibration_error_limit"]
    ]
    if beyond:
        out.append(
            f"Calibration error is beyond its limit at {and_(beyond)}, {len(beyond)} of {len(run.backtest)} moments."
        )
    else:
        out.append(f"Calibration error is within its limit at all {len(run.backtest)} moments of the backtest.")
    lost = [
        f"{show(r.matrix.as_of)} ({name})"
        for r in run.backtest
        for name in run.baselines
        if r.figures[name]["auc"] > r.figures[MODEL]["auc"]
    ]
    if lost:
        out.append(f"A baseline had the higher AUC at {and_(lost)}.")
    days = int(run.model.as_of - run.model.levels.as_of.min()) // DAY
    if days < 365:
        out.append(f"Training goes back {days} days, less than a year: how many leave is foretold without any season.")
    elif days < 2 * 365:
        out.append(f"Training goes back {days} days, less than two years: a season is known from one year only.")
    if len(run.backtest) < run.recipe["test_moments"]:
        out.append(
            f"The log is long enough for {len(run.backtest)} of {run.recipe['test_moments']} moments of test only."
        )
    return out


def _number(value: float | None) -> Cell:
    return None if value is None else f"{value:.3f}"


def _share(value: float) -> Cell:
    return f"{value:.3f}" if np.isfinite(value) else None


def _direction(value: float) -> Cell:
    return f"{value:+.2f}" if np.isfinite(value) else None
