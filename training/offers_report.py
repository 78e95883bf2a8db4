"""The page on which a reviewer decides about a cross-sell run: `report.html` among its artifacts."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from matplotlib.figure import Figure

from analysis.page import (
    Cell,
    Html,
    Section,
    beside,
    heading,
    listing,
    page,
    paragraph,
    picture,
    pictures,
    table,
)
from features.events.intake import hash_text
from features.events.store import Store
from models.recommender import AIMS, Aim, Ask, Recommender
from models.recommender.model import Suggestion
from models.words import load as load_words
from training.backtest import show
from training.cross_sell import BLEND, MODE_OF, MODEL, CrossSellRun, K, MomentResult
from training.offers import GROUPS, AimFigures, Offers, group_of, orders_of
from training.phrases import and_, interval, margin, moment_count
from training.plots import TITLES
from training.ranking import figures_by_user
from training.report import FILE, LIBRARIES

__all__ = ["FILE", "Material", "cross_sell_report", "verdict"]

DIGITS = 4
PEOPLE, ORDERS_SHOWN, LINES_SHOWN, BOUGHT_SHOWN = 20, 4, 6, 25


@dataclass(frozen=True)
class Material:
    """What the page is made of.

    Attributes:
        params: of the run, as tracked.
        plots: `training.plots.cross_sell_plots`.
    """

    run: CrossSellRun
    store: Store
    params: Mapping[str, object]
    offers: Offers
    plots: Mapping[str, Figure]

    @property
    def newest(self) -> MomentResult:
        return self.run.backtest[0]


def cross_sell_report(about: Material) -> Html:
    """The whole page."""
    run = about.run
    moments = len(run.backtest)
    lead = [
        paragraph(
            f"Data: {about.store.path.name}, digest {about.params['data digest']}. Every figure is of models that were "
            f"fitted on earlier events than those they are judged on: {moment_count(moments)}, "
            f"{and_([show(result.as_of) for result in run.backtest])}; the whole catalogue competes.",
            "soft",
        ),
        *(paragraph(verdict(about.offers, aim), "verdict") for aim in AIMS),
        *(paragraph(told, "warning") for told in dropped(run.model)),
    ]
    sections = [
        Section("headline", "Headline", _headline(about)),
        Section("groups", "Groups of users", _groups(about)),
        Section("heads", "What each head is worth", _heads(about)),
        Section("modes", "Who speaks in which mode", _modes(about)),
        Section("beyond", "Beyond accuracy", _beyond(about)),
        Section("people", f"{PEOPLE} users", _people(about)),
        Section("card", "Model card", _card(about)),
    ]
    title = f"What to offer: purchases within {run.horizon} days, as of {show(run.as_of)}"
    return page(title, lead, sections)


def verdict(found: Offers, aim: Aim) -> str:
    """An aim's backtest in a sentence or two."""
    figures = found.figures[aim]
    says = []
    for other, how in ((BLEND, "the blend"), (figures.best_head, f"{figures.best_head}, the best head")):
        recall, ndcg = (figures.margins[other][figure] for figure in ("recall", "ndcg"))
        says.append(f"{margin(recall, DIGITS)} over {how} (NDCG {margin(ndcg, DIGITS)})")
    worse = [
        name for name, of_name in figures.margins.items() if any(difference.high < 0 for difference in of_name.values())
    ]
    told = f" It does NOT beat {and_(worse)}." if worse else ""
    return (
        f"{TITLES[aim].capitalize()}: recall@{K} {interval(figures.figures[MODEL]['recall'], DIGITS)}, "
        f"{'; '.join(says)}; {figures.users:,} users.{told}"
    )


def verdicts(found: Offers, model: Recommender) -> list[str]:
    """All that stands on top."""
    return [*(verdict(found, aim) for aim in AIMS), *dropped(model)]


def dropped(model: Recommender) -> list[str]:
    """Sentences on the rankers that are not shipped."""
    gains = model.facts.get("ranker_gains", {})
    out = []
    for aim in model.facts.get("rankers_dropped", ()):
        why = f"recall + NDCG {gains[aim]:+.4f} against the blend" if aim in gains else "no moment to test it at"
        out.append(f"{TITLES[aim].capitalize()}: the ranker was dropped ({why}), so the blend's order is what ships.")
    return out


def _headline(about: Material) -> list[Html]:
    parts: list[Html] = []
    for aim in AIMS:
        found = about.offers.figures[aim]
        rows: list[list[Cell]] = []
        for name, figures in found.figures.items():
            if name in _silent(found):
                continue
            over = found.margins.get(name)
            rows.append(
                [
                    name,
                    *(interval(figures[figure], DIGITS) for figure in ("recall", "ndcg")),
                    *((margin(over[figure], DIGITS) if over else None) for figure in ("recall", "ndcg")),
                ]
            )
        head = ["", f"recall@{K}", f"NDCG@{K}", "the model's recall over it", "NDCG over it"]
        silent = f"; without a hit: {and_(_silent(found))}" if _silent(found) else ""
        parts.append(table(head, rows, caption=f"{TITLES[aim].capitalize()}: {found.users:,} users{silent}", own=MODEL))
    names = ("recall_by_head.png", "ndcg_by_head.png")
    says = ("Recall of the model, the blend and each head alone.", "NDCG of the same.")
    return [
        *parts,
        paragraph(
            f"Recall@{K} is the share of a user's purchases of the {about.run.horizon} days after the moment that were "
            f"among the {K} items offered; NDCG@{K} also asks how high they stood. In brackets: 95 % bootstrap "
            "intervals over users; margins are paired, by the same users. Model and blend keep to the rules on what "
            "may be shown (nothing just bought, refunded or disliked); a head alone does not.",
            "soft",
        ),
        pictures([picture(about.plots[name], says) for name, says in zip(names, says, strict=True)]),
    ]


def _silent(found: AimFigures) -> list[str]:
    return [name for name, figures in found.figures.items() if figures["recall"].value == 0]


def _groups(about: Material) -> list[Html]:
    parts: list[Html] = []
    for aim in AIMS:
        found = about.offers.figures[aim]
        best, rows = found.best_head, list[list[Cell]]()
        for name, group in found.groups.items():
            low, high = GROUPS[name]
            orders = f"{low:g} or more" if np.isinf(high) else f"{low:g}–{high - 1:g}" if high - low > 1 else f"{low:g}"
            rows.append(
                [
                    f"{name}: {orders}",
                    f"{group.users:,}",
                    interval(group.figures[MODEL]["recall"], DIGITS),
                    *(margin(group.margins[other]["recall"], DIGITS) for other in (BLEND, best)),
                ]
            )
        head = ["orders before", "users × moments", f"recall@{K}", "over the blend", f"over {best}"]
        parts.append(table(head, rows, caption=TITLES[aim].capitalize()))
    return [*parts, picture(about.plots["recall_by_group.png"], "Recall by the number of orders before the moment.")]


def _heads(about: Material) -> list[Html]:
    parts: list[Html] = [
        paragraph(
            "The same model once more, but the head's weight in the blend is 0: what it alone would have put forward "
            "does not reach the ranker, which goes on reading the head's scores of what others found. The difference "
            "is what the head earns."
        )
    ]
    for aim in AIMS:
        found = about.offers.figures[aim]
        rows: list[list[Cell]] = []
        for head in sorted(found.worth, key=lambda name: -found.worth[name]["recall"].value):
            lost = found.worth[head]
            rows.append(
                [
                    head,
                    f"{about.run.model.blends[aim].weights[head]:.2f}",
                    *(margin(lost[figure], DIGITS) for figure in ("recall", "ndcg")),
                    f"{found.hits_lost[head]:.1%}",
                ]
            )
        columns = ["head", "weight in the blend", "recall lost without it", "NDCG lost", "hits lost"]
        parts.append(table(columns, rows, caption=TITLES[aim].capitalize()))
        recall, ndcg = (margin(found.rules[figure], DIGITS) for figure in ("recall", "ndcg"))
        parts.append(
            paragraph(f"The rules on what may be shown, in the same way: recall {recall}, NDCG {ndcg}.", "soft"),
        )
    parts.append(picture(about.plots["head_worth.png"], "Recall lost when what a head alone found is withheld."))
    idle = idle_heads(about.offers)
    if idle:
        parts.append(
            paragraph(
                f"Nothing is lost without them, and they speak for no hit in any mode: {and_(idle)}.",
                "warning",
            )
        )
    return parts


def idle_heads(found: Offers) -> list[str]:
    """Heads whose absence costs nothing beyond chance in any aim, and that speak for no hit in any mode."""
    names = [name for name in found.figures["all"].figures if name not in (MODEL, BLEND)]
    return [name for name in names if not _earns(found, name)]


def _earns(found: Offers, head: str) -> bool:
    spoken = any(of_mode.share_of_hits.get(head, 0) > 0 for of_mode in found.modes.values())
    lost = [figures.worth[head] for figures in found.figures.values() if head in figures.worth]
    return spoken or any(figure.low > 0 for of_aim in lost for figure in of_aim.values())


def _modes(about: Material) -> list[Html]:
    modes = about.offers.modes
    users = next(iter(modes.values())).users
    rows: list[list[Cell]] = []
    for mode, found in modes.items():
        shares = (_shared(found.share_of_shown), _shared(found.share_of_hits))
        rows.append([mode, f"{found.shown / users:.1f}", f"{found.hits / users:.2f}", *shares])
    return [
        table(["mode", "items a user", "hits a user", "shown: spoken for by", "hits: spoken for by"], rows),
        paragraph(
            f"{users} users who bought something after the newest moment, asked in every mode, the bundle without a "
            "cart. A hit is an item that they bought, in whichever mode. The head that speaks is the one that adds "
            "most to the item's score in the blend.",
            "soft",
        ),
    ]


def _shared(shares: Mapping[str, float]) -> str | None:
    """Largest first, those of half a percent or more."""
    ordered = sorted(shares.items(), key=lambda one: -one[1])
    return ", ".join(f"{head} {share:.0%}" for head, share in ordered if share >= 0.005) or None


def _beyond(about: Material) -> list[Html]:
    parts: list[Html] = []
    for aim in AIMS:
        found = about.offers.beyond[aim]
        rows: list[list[Cell]] = [
            [
                name,
                f"{of['coverage_catalogue']:.1%}",
                f"{of['coverage_sold']:.1%}" if np.isfinite(of["coverage_sold"]) else None,
                f"{of['novelty']:.2f}",
                f"{of['popularity_offered']:.3f}",
                f"{of['popularity_offered'] - of['popularity_bought']:+.3f}",
            ]
            for name, of in found.items()
            if np.isfinite(of["novelty"])
        ]
        head = ["", "of the catalogue", "of what sold in 90 days", "novelty, bits", "popularity offered", "bias"]
        parts.append(table(head, rows, caption=TITLES[aim].capitalize(), own=MODEL))
    parts.append(
        paragraph(
            "Coverage: the share of items that stand in anybody's list. Novelty: the mean surprise of an offered item, "
            "−log₂ of the share of buyers who had bought it (Zhou et al. 2010). Popularity: the mean percentile of an "
            "item by its buyers of the last 90 days; bias is that of what is offered less that of what was bought.",
            "soft",
        )
    )
    ours = about.offers.beyond["new"][MODEL]
    if "categories_gained" in ours:
        parts.append(
            paragraph(
                f"Categories: these users had bought in {ours['categories_before']:.1f} on average. A list of {K} new "
                f"items shows {ours['categories_offered']:.2f} that they had not tried, and its hits open "
                f"{ours['categories_gained']:.3f} a user within {about.run.horizon} days."
            )
        )
    return parts


# ------------------------------------------------------------------------------------------------- some real users


def people(result: MomentResult, seed: int, most: int = PEOPLE) -> list[tuple[int, Aim]]:
    """Users (rows) with the aim they are asked for: drawn at random, the groups in turn, each aim as often."""
    random = np.random.default_rng(seed)
    waiting: dict[tuple[str, Aim], list[int]] = {}
    for aim in AIMS:
        users = list(result.taught.truth[aim])
        groups = [group_of(orders) for orders in orders_of(result, users).tolist()]
        for place in random.permutation(len(users)).tolist():
            waiting.setdefault((groups[place], aim), []).append(users[place])
    named = [group for group in GROUPS if any(group == known for known, _ in waiting)]
    out: list[tuple[int, Aim]] = []
    seen: set[int] = set()
    while len(out) < most and any(waiting.values()):
        for key in [(group, aim) for group in named for aim in AIMS]:
            left = [user for user in waiting.get(key, []) if user not in seen]
            if left and len(out) < most:
                out.append((left[0], key[1]))
                seen.add(left[0])
            waiting[key] = left[1:]
    return sorted(out, key=lambda one: named.index(group_of(int(orders_of(result, [one[0]])[0]))))


def _people(about: Material) -> list[Html]:
    parts = [
        paragraph(
            f"Drawn at random from those who bought after {show(about.newest.as_of)}, spread over the groups; in "
            "brackets the user's number in the table of figures by user. Set apart in the list is what was bought "
            f"within {about.run.horizon} days, of which the model knew nothing."
        )
    ]
    for number, (user, aim) in enumerate(people(about.newest, int(about.run.recipe["seed"])), start=1):
        parts += _person(about.newest, number, user, aim)
    return parts


def _person(result: MomentResult, number: int, user: int, aim: Aim) -> list[Html]:
    past = result.taught.past.some([user])
    picks = next(result.model.recommend(past, result.as_of, Ask(MODE_OF[aim], K)))
    wanted = result.taught.truth[aim][user]
    rank = {pick.item: place for place, pick in enumerate(picks, start=1)}
    hits = [item for item in wanted.tolist() if item in rank]
    orders = int(orders_of(result, [user])[0])
    (recall, ndcg) = figures_by_user({user: list(rank)}, {user: wanted}, K)[0].tolist()
    title = (
        f"{number}. {group_of(orders).capitalize()}, {_orders(orders)} ({hash_text(str(past.user_ids[0])):x}); "
        f"{TITLES[aim]}: {len(hits)} of {len(wanted)} items found"
    )
    return [
        heading(title),
        paragraph(f"recall {recall:.3f}, NDCG {ndcg:.3f}", "soft"),
        beside(_before(result, user), _after(result, wanted.tolist(), rank), _list(result.model, picks, set(hits))),
    ]


def _orders(orders: int) -> str:
    return f"{orders} order{'' if orders == 1 else 's'}"


def _before(result: MomentResult, user: int) -> Html:
    """The newest orders."""
    bought = result.taught.past.some([user]).purchases()
    rows: list[list[Cell]] = []
    newest = sorted({(ts, order) for ts, order in zip(bought.ts.tolist(), bought.order.tolist(), strict=True)})
    latest: dict[int, int] = {order: ts for ts, order in newest}
    for order in sorted(latest, key=lambda one: -latest[one])[:ORDERS_SHOWN]:
        items = np.unique(bought.item[bought.order == order]).tolist()
        rows.append([show(latest[order])[:10], _named(result.model, items)])
    return table(["before", "items"], rows, caption=f"Bought before: {_orders(len(latest))}, newest first")


def _named(model: Recommender, items: Sequence[int]) -> str:
    names = "; ".join(model.shop.called(item) for item in items[:LINES_SHOWN])
    return f"{names}; and {len(items) - LINES_SHOWN} more" if len(items) > LINES_SHOWN else names


def _after(result: MomentResult, wanted: Sequence[int], rank: Mapping[int, int]) -> Html:
    ordered = sorted(wanted, key=lambda item: (rank.get(item, K + 1), item))
    rows: list[list[Cell]] = [
        [str(rank.get(item, "–")), result.model.shop.called(item)] for item in ordered[:BOUGHT_SHOWN]
    ]
    left = len(ordered) - len(rows)
    more = f"; {left} more are left out" if left else ""
    own = frozenset(str(rank[item]) for item in ordered if item in rank)
    return table(["rank", "item"], rows, caption=f"Bought after: {len(ordered)} items{more}", own=own)


def _list(model: Recommender, picks: Sequence[Suggestion], hits: set[int]) -> Html:
    words = load_words("en")
    rows: list[list[Cell]] = [
        [
            str(place),
            f"{model.shop.called(pick.item)}{' ✓' if pick.item in hits else ''}",
            f"{pick.head}: {words.offer(*pick.phrase)}",
            f"{pick.score:.3f}",
        ]
        for place, pick in enumerate(picks, start=1)
    ]
    own = frozenset(str(place) for place, pick in enumerate(picks, start=1) if pick.item in hits)
    return table(["", "offered", "head: evidence", "score"], rows, caption="Offered (✓: bought after)", own=own)


# ------------------------------------------------------------------------------------------------------------- card


def _card(about: Material) -> list[Html]:
    run, model, store = about.run, about.run.model, about.store
    first, last = store.span
    pairs = [
        (
            "predicts",
            f"what a user buys within {run.horizon} days after a moment: of everything sold before (mode all), and of "
            "what this user never bought (cross_sell and the modes under it)",
        ),
        (
            "not to be used",
            "as the effect of showing an item: it tells what is bought, not what an offer adds; for another shop than "
            "the one of this log; for anything that someone has a right to",
        ),
        (
            "data",
            f"{store.path.name}: {store.rows:,} events of {len(store.user_hashes):,} users from {show(first)[:10]} to "
            f"{show(last)[:10]}, read before {show(run.as_of)}; {len(model.catalogue):,} items; digest "
            f"{about.params['data digest']}",
        ),
        ("learned from", f"{and_(model.facts['moments'])}, and what was bought in the {run.horizon} days after each"),
        *((f"blend, {TITLES[aim]}", _blend(model, aim)) for aim in AIMS),
        ("rankers", and_([f"{TITLES[aim]}: {_ranker(model, aim)}" for aim in AIMS])),
        ("seed", str(run.recipe["seed"])),
        ("versions", ", ".join(["python " + platform.python_version(), *(f"{n} {version(n)}" for n in LIBRARIES)])),
        ("licence", "the code Apache-2.0; the data has its owner's terms"),
    ]
    return [listing(pairs), heading("Known limits"), *(paragraph(limit) for limit in known_limits(about))]


def _blend(model: Recommender, aim: Aim) -> str:
    blend = model.blends[aim]
    weights = sorted(((weight, name) for name, weight in blend.weights.items() if weight > 0), reverse=True)
    told = ", ".join(f"{name} {weight:.2f}" for weight, name in weights)
    return f"{told}; {'roots of ' if blend.root else ''}shares; demand to the power of {blend.demand:g}"


def _ranker(model: Recommender, aim: Aim) -> str:
    if aim not in model.rankers:
        return "none"
    ranker = model.rankers[aim]
    return f"{ranker.trees} trees over {len(ranker.names)} columns"


def known_limits(about: Material) -> list[str]:
    """What a run's own backtest says against its model, a sentence each."""
    out = dropped(about.run.model)
    for aim in AIMS:
        out += [f"{TITLES[aim].capitalize()}: {said}" for said in _lost(about.offers.figures[aim])]
    if len(about.run.backtest) == 1:
        out.append("The backtest has one moment: how much the figures move with the season is not known.")
    out.append(
        "Lists are judged by what was bought without them: an item that is only bought because it is shown counts as a "
        "miss, so that repeat purchases and popular items look better than they are worth."
    )
    return out


def _lost(found: AimFigures) -> list[str]:
    """Groups in which the model is worse than the blend or the best head beyond chance."""
    return [
        f"{group} users are served better by {other} (recall {margin(of_group.margins[other]['recall'], DIGITS)})."
        for group, of_group in found.groups.items()
        for other in of_group.margins
        if of_group.margins[other]["recall"].high < 0
    ]
