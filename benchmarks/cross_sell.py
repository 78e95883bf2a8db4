"""The recommender beside single sources at many moments of two published logs, in the way a user trains it.

`python -m benchmarks.cross_sell` writes `results/cross_sell.json` and prints tables: recall and NDCG by moment, slots
of the top ten that are out of place, cold starts, bundles, and speed beside implicit on the same factors. Stores are
made from the sources; Online Retail II is found by ONLINE_RETAIL_PARQUET. Moments that settings were chosen on are
marked.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from implicit.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from features.events.columns import DAY
from features.events.ingest import ingest
from features.events.sources import find_source
from features.events.store import Store
from features.instants import instant
from models.recommender import Ask, History, Past, Recommender
from models.recommender.complement import Complement
from models.recommender.history import PURCHASE
from models.recommender.popular import Popular
from models.recommender.repeat import DURABLE, JUST, Repeat
from models.recommender.similar_als import SimilarAls
from training.acts import all_acts
from training.backtest import show
from training.cross_sell import MODEL, CrossSellRun, K, MomentResult, recipe_of, train_cross_sell
from training.ranking import figures_by_user

OUT = Path(__file__).parent / "results" / "cross_sell.json"
SINGLE = ("repeat", "similar_items", "similar_als", "popular")  # the protocol's sources
TOP = 10
FAR = 3.0  # times the dearest, or a part of the cheapest, of the prices that a user mostly pays
RUNS = 5


@dataclass(frozen=True)
class Log:
    """A published log. Moments go back from the newest by 30 days; `chosen`: those that settings were chosen on."""

    name: str
    source: str
    newest: str
    chosen: tuple[str, ...]
    tests: int


LOGS = (
    Log("orii-next30", "sources/online_retail", "2011-11-09", ("2011-10-10", "2011-08-11"), 7),
    Log("cj-next30", "sources/complete_journey", "2017-12-01", ("2017-11-01", "2017-09-02"), 7),
)


def main() -> None:
    """Run what is asked for and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[log.name for log in LOGS])
    parser.add_argument("--tests", type=int, help="moments, fewer for a quick look")
    given = parser.parse_args()
    results = json.loads(OUT.read_text()) if OUT.exists() else {}
    for log in LOGS:
        if given.only not in (None, log.name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            ingest(find_source(Path(log.source)), Path(folder) / "store", now=time.time_ns() // 1_000)
            store = Store.open(Path(folder) / "store")
            results[log.name] = measured(log, store, given.tests or log.tests)
        OUT.write_text(json.dumps(results, indent=1) + "\n")
    print(f"wrote {OUT.name}")


def measured(log: Log, store: Store, tests: int) -> dict[str, Any]:
    """All figures of one log."""
    started = time.perf_counter()
    recipe = {**recipe_of(), "test_moments": tests}
    told: Callable[[str, float], None] = lambda what, share: print(f"  {share:4.0%} {what}", flush=True)  # noqa: E731
    run = train_cross_sell(store, as_of=instant(log.newest) + 30 * DAY, recipe=recipe, progress=told)
    print(f"{log.name}: trained and tested in {time.perf_counter() - started:.0f} s")
    newest = run.backtest[0]
    out: dict[str, Any] = {"moments": by_moment(log, run), "margins": margins(log, run)}
    out["slots"] = out_of_place(newest)
    out["cold"] = cold_starts(newest, store)
    if log.source.endswith("complete_journey"):
        out["bundles"] = bundles(newest, store)
    out["speed"] = speed(newest)
    return out


# ------------------------------------------------------------------------------------------------ recall and NDCG


def by_moment(log: Log, run: CrossSellRun) -> list[dict[str, Any]]:
    """Recall@20 and NDCG@20 of the model and the single sources at each moment, newest first."""
    rows = []
    for result in run.backtest:
        day = show(result.as_of)
        for aim, by_name in result.scores.items():
            kept = {name: by_name[name] for name in (MODEL, "blend", *SINGLE)}
            figures = {name: [round(score.recall, 4), round(score.ndcg, 4)] for name, score in kept.items()}
            rows.append({"moment": day, "chosen": day in log.chosen, "aim": aim, "users": kept[MODEL].users} | figures)
            cells = "  ".join(f"{name} {recall:.4f} {ndcg:.4f}" for name, (recall, ndcg) in figures.items())
            print(f"{day}{'*' if day in log.chosen else ' '} {aim}: {cells}")
    return rows


def margins(log: Log, run: CrossSellRun) -> dict[str, Any]:
    """How far the model is above the best single source, by user, at moments that nothing was chosen on."""
    out: dict[str, Any] = {}
    for result in run.backtest:
        for aim, lists in result.lists.items():
            truth = result.taught.truth[aim]
            ours = figures_by_user(lists[MODEL], truth, K)
            best = max(SINGLE, key=lambda name: float(figures_by_user(lists[name], truth, K)[:, 0].mean()))
            ahead = (ours - figures_by_user(lists[best], truth, K)).astype(np.float64)
            bounds = [_interval(ahead[:, place]) for place in (0, 1)]
            day = show(result.as_of)
            out[f"{day} {aim}"] = {"over": best, "recall": bounds[0], "ndcg": bounds[1], "chosen": day in log.chosen}
            print(f"{day} {aim}: over {best} recall {bounds[0]}, NDCG {bounds[1]}")
    return out


def _interval(values: NDArray[np.float64], seed: int = 0) -> list[float]:
    """Mean, and its 95 % bootstrap interval over users."""
    random = np.random.default_rng(seed)
    means = np.array([values[random.integers(len(values), size=len(values))].mean() for _ in range(500)])
    low, high = np.percentile(means, [2.5, 97.5])
    return [round(float(number), 4) for number in (values.mean(), low, high)]


# ---------------------------------------------------------------------------------------------------- out of place


def out_of_place(result: MomentResult) -> dict[str, Any]:
    """Share of the top ten's slots (mode all) that hold a durable just bought, something given back, or a price far
    outside what the user pays; ours beside what is popular."""
    one, model = result.taught, result.model
    users = list(one.truth["all"])
    popular = model.heads["popular"]
    assert isinstance(popular, Popular)
    same = np.argsort(-popular.score, kind="stable")[:TOP].tolist()
    ours = {user: list(result.lists["all"][MODEL][user][:TOP]) for user in users}
    out = {name: _wrong(model, one.past, one.as_of, lists) for name, lists in (
        ("ours", ours), ("popular", dict.fromkeys(users, same)))}  # fmt: skip
    print("out of place:", out)
    return out


def _wrong(model: Recommender, history: History, as_of: int, lists: Mapping[int, Sequence[int]]) -> dict[str, float]:
    users = list(lists)
    past = Past.of(history.some(users), as_of)
    item = np.array([code for user in users for code in lists[user]], np.int64)
    row = np.repeat(np.arange(len(users)), [len(lists[user]) for user in users])
    repeat = model.heads["repeat"]
    assert isinstance(repeat, Repeat)
    bought = past.bought
    durable = (repeat.again[item] < DURABLE) & (bought.last_age(row, item) < JUST)
    back = past.refunded()
    wide = len(model.catalogue)
    returned = np.isin(row * wide + item, back.user * wide + back.item)
    price = model.shop.attributes.price[item]
    low, high = _band(past)
    far = (price > FAR * high[row]) | (price < low[row] / FAR)
    found = {"durable just bought": durable, "given back": returned, "far from their prices": far}
    whole = np.any(list(found.values()), axis=0)
    return {name: round(float(values.mean()), 4) for name, values in {**found, "any": whole}.items()}


def _band(past: Past) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 5th and 95th percentile of the unit prices that each user paid; NaN without one."""
    bought = past.bought
    low, high = np.full(len(past), np.nan), np.full(len(past), np.nan)
    bounds = np.searchsorted(bought.user, np.arange(len(past) + 1))
    for user in range(len(past)):
        paid = bought.price[bounds[user] : bounds[user + 1]]
        paid = paid[np.isfinite(paid)]
        if len(paid):
            low[user], high[user] = np.percentile(paid, [5, 95])
    return low, high


# ------------------------------------------------------------------------------------------------------ cold starts


def cold_starts(result: MomentResult, store: Store) -> dict[str, Any]:
    """Recall@20 by how many purchase lines are known: 0 are true newcomers, 1 to 3 are users' newest lines alone."""
    one, model = result.taught, result.model
    popular = model.only("popular").heads["popular"]
    assert isinstance(popular, Popular)
    same = np.argsort(-popular.score, kind="stable")[:K].tolist()
    out = {}
    for known in (0, 1, 2, 3):
        if known:
            truth = one.truth["all"]
            history = _newest_lines(one.past.some(list(truth)), known)
            wanted = list(truth.values())
        else:
            wanted = _of_newcomers(result, store)
            none = np.zeros(0, np.int64)
            names = [f"new {number}" for number in range(len(wanted))]
            history = History.of(names, none, none.astype(np.int32), none.astype(np.uint8), none)
        ask = Ask("all" if known else "welcome", K)  # as `models.answers` has it for strangers
        lists = [[pick.item for pick in picks] for picks in model.recommend(history, one.as_of, ask)]
        numbered = dict(enumerate(wanted))
        ours = figures_by_user(dict(enumerate(lists)), numbered, K)[:, 0]
        theirs = figures_by_user(dict.fromkeys(numbered, same), numbered, K)[:, 0]
        out[str(known)] = {"users": len(wanted), "ours": _interval(ours), "popular": round(float(theirs.mean()), 4)}
        out[str(known)]["ahead"] = _interval(ours - theirs)
        print(f"known lines {known}: {out[str(known)]}")
    return out


def _newest_lines(history: History, lines: int) -> History:
    """Only each user's newest purchase lines; the greater code of those at one instant."""
    keep = np.zeros(len(history.item), np.bool_)
    order = np.lexsort((history.item, history.ts, history.users))
    order = order[history.kind[order] == PURCHASE]
    bounds = np.searchsorted(history.users[order], np.arange(len(history) + 1))
    for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        keep[order[max(begin, end - lines) : end]] = True
    return history.only(keep)


def _of_newcomers(result: MomentResult, store: Store) -> list[NDArray[np.int64]]:
    """What users first seen within 30 days after the moment bought in them, of what was sold before."""
    acts, texts = all_acts(store, result.as_of + 30 * DAY)
    codes = result.model.catalogue.codes(texts)
    bought = acts.purchases()
    out = []
    for user in range(len(acts)):
        span = slice(int(bought.offsets[user]), int(bought.offsets[user + 1]))
        ts = bought.ts[span]
        if len(ts) and ts.min() >= result.as_of:
            wanted = np.unique(codes[bought.item[span]])
            if (wanted >= 0).any():
                out.append(wanted[wanted >= 0].astype(np.int64))
    return out


# ---------------------------------------------------------------------------------------------------------- bundles


def bundles(result: MomentResult, store: Store) -> dict[str, Any]:
    """The strongest complements, and whether what is suggested for one item is bought together with it later."""
    model, as_of = result.model, result.as_of
    head = model.heads["complement"]
    assert isinstance(head, Complement)
    acts, texts = all_acts(store, as_of + 30 * DAY)
    after = acts.purchases().between(as_of, as_of + 30 * DAY)
    codes = model.catalogue.codes(texts)
    item, order = codes[after.item], after.order * len(acts) + after.users
    known = item >= 0
    orders = _orders_by_item(item[known], order[known], len(model.catalogue))
    random = np.random.default_rng(1)
    sold = np.flatnonzero(head.orders >= 50)
    anchors = random.choice(sold, min(500, len(sold)), replace=False).tolist()
    popular = model.heads["popular"]
    assert isinstance(popular, Popular)
    best = np.argsort(-popular.score, kind="stable")[:4].tolist()
    ways: dict[str, Callable[[int], list[int]]] = {
        "ours": lambda anchor: _suggested(model, anchor, as_of),
        "popular": lambda anchor: [code for code in best if code != anchor][:3],
        "random": lambda anchor: random.choice(sold, 3, replace=False).tolist(),
    }
    out: dict[str, Any] = {"anchors": len(anchors)}
    for name, suggest in ways.items():
        both = [(orders[a], orders[a].multiply(orders[b]).sum()) for a in anchors for b in suggest(a)]
        seen = float(np.mean([count > 0 for _, count in both]))
        share = float(np.mean([count / max(of.sum(), 1) for of, count in both]))
        out[name] = {"seen together": round(seen, 4), "share of the item's orders": round(share, 4)}
    print("bundles, bought together in the next 30 days:", out)
    out["pairs"] = _strongest_pairs(model, head)
    for pair in out["pairs"]:
        print(f"  {pair['lift']:7.1f}  {pair['orders']:5d}  {pair['item']} + {pair['with']}")
    return out


def _orders_by_item(item: NDArray[np.int32], order: NDArray[np.int64], items: int) -> csr_matrix:
    """Which orders hold each item, 0 or 1, items × orders."""
    number = np.unique(order, return_inverse=True)[1]
    matrix = csr_matrix((np.ones(len(item)), (item, number)), shape=(items, int(number.max()) + 1))
    matrix.data[:] = 1.0
    return matrix


def _suggested(model: Recommender, anchor: int, as_of: int) -> list[int]:
    none = np.zeros(0, np.int64)
    nobody = History.of(["nobody"], none, none.astype(np.int32), none.astype(np.uint8), none)
    (picks,) = model.recommend(nobody, as_of, Ask("bundle", 3, cart=(model.catalogue.ids[anchor],)))
    return [pick.item for pick in picks]


def _strongest_pairs(model: Recommender, head: Complement) -> list[dict[str, Any]]:
    """20 pairs by lift among those with at least 15 common orders, no item twice."""
    links = head.links
    source = np.repeat(np.arange(len(model.catalogue)), np.diff(links.offsets))
    known = [head.support(int(item), place) for place, item in enumerate(source.tolist())]
    both, lift = np.array(known).T
    rows = np.flatnonzero((both >= 15) & (source < links.neighbours))
    out: list[dict[str, Any]] = []
    used: set[int] = set()
    for row in rows[np.argsort(-lift[rows], kind="stable")].tolist():
        ends = {int(source[row]), int(links.neighbours[row])}
        if not ends & used:
            used |= ends
            a, b = (f"{model.shop.called(end)} ({model.catalogue.ids[end]})" for end in sorted(ends))
            out.append({"item": a, "with": b, "orders": int(both[row]), "lift": round(float(lift[row]), 1)})
        if len(out) == 20:
            break
    return out


# ------------------------------------------------------------------------------------------------------------ speed


def speed(result: MomentResult) -> dict[str, Any]:
    """Lists of 20 on one core, beside implicit's `recommend` on the same factors for the same users."""
    model, history, as_of = result.model, result.taught.past, result.as_of
    users = np.flatnonzero(np.diff(history.offsets) > 0)[:1000]
    some = history.some(users)
    peer, liking = _implicit(model, some, as_of)
    with threadpool_limits(1):
        list(model.recommend(some.some(range(16)), as_of, Ask("all", K)))  # compiled code is ready then
        ours, theirs, alone = [], [], []
        for _ in range(RUNS):
            ours.append(_timed(lambda: list(model.recommend(some, as_of, Ask("all", K)))) / len(some))
            theirs.append(_timed(lambda: peer.recommend(np.arange(len(some)), liking, N=K)) / len(some))
            for row in range(0, len(some), 20):
                user = some.some([row])
                started = time.perf_counter()
                list(model.recommend(user, as_of, Ask("all", K)))
                alone.append(time.perf_counter() - started)
    ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
    out = {
        "items": len(model.catalogue),
        "users": len(some),
        "users_a_second": round(1 / median(ours), 1),
        "implicit_users_a_second": round(1 / median(theirs), 1),
        "ratio": [round(number, 4) for number in (median(ratios), ratios[0], ratios[-1])],
        "one_user_ms": {f"p{q}": round(1e3 * float(np.percentile(alone, q)), 2) for q in (50, 99)},
    }
    print("speed:", out)
    return out


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _implicit(model: Recommender, history: History, as_of: int) -> tuple[AlternatingLeastSquares, csr_matrix]:
    """implicit's model with our item factors and our users', and what they liked, which it leaves out."""
    als = model.heads["similar_als"]
    assert isinstance(als, SimilarAls)
    past = Past.of(history, as_of)
    peer = AlternatingLeastSquares(factors=len(als.gram), num_threads=1)
    peer.item_factors = np.ascontiguousarray(als.item_factors.T)
    peer.user_factors = als.fold_in(past).astype(np.float32)
    liking = past.liking(als.half_life)
    shape = (len(past), len(model.catalogue))
    return peer, csr_matrix((liking.value.astype(np.float32), (liking.user, liking.item)), shape=shape)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main()
