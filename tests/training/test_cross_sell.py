"""The backtest of a recommender: its figures are those of its lists, and its models saw nothing of what they are
tested on."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.errors import UserError
from features.events.store import Store
from models.recommender import AIMS, HEADS, Ask, Past, loops
from models.recommender.eligible import eligible
from tests.features.support import DAY_US, as_micros
from tests.shop import AS_OF, HORIZON, ingested, shop_log, trained_cross_sell
from training.acts import all_acts, later_in, shop_at
from training.backtest import show
from training.cross_sell import BLEND, MODE_OF, MODEL, CrossSellRun, lists_of
from training.ranking import evaluate


def bought_next(as_of: int, new: bool) -> dict[str, set[str]]:
    """From the log itself: what users known before a moment bought in the horizon after it, of what had been sold."""
    log = shop_log()
    log = log.assign(us=as_micros(log["ts"]))
    log = log[log["us"] < as_of + HORIZON * DAY_US]
    bought = log[log["kind"] == "purchase"]
    past, after = bought[bought["us"] < as_of], bought[bought["us"] >= as_of]
    after = after[after["item_id"].isin(past["item_id"])]
    known = log[(log["us"] < as_of) & log["item_id"].notna()]["user_id"].unique()
    had = past.groupby("user_id")["item_id"].agg(set).to_dict()
    found = after[after["user_id"].isin(known)].groupby("user_id")["item_id"].agg(set).to_dict()
    wanted = {user: items - had.get(user, set()) if new else items for user, items in found.items()}
    return {str(user): items for user, items in wanted.items() if items}


def test_the_truth_is_what_the_log_says(cross_sell_run: CrossSellRun) -> None:
    for result in cross_sell_run.backtest:
        ids, users = result.model.catalogue.ids, result.taught.past.user_ids
        for aim in AIMS:
            found = {users[row]: {ids[code] for code in codes} for row, codes in result.taught.truth[aim].items()}
            assert found == bought_next(result.as_of, aim == "new")


def test_every_figure_can_be_computed_again_from_its_lists(cross_sell_run: CrossSellRun) -> None:
    for result in cross_sell_run.backtest:
        for aim in AIMS:
            truth = result.taught.truth[aim]
            assert set(result.lists[aim]) == set(result.scores[aim]) == {MODEL, BLEND, *HEADS}
            for name, lists in result.lists[aim].items():
                assert set(lists) == set(truth), name
                recalls, ndcgs = [], []
                for user, wanted in truth.items():
                    hits = [code in wanted for code in list(lists[user])[:20]]
                    recalls.append(sum(hits) / len(wanted))
                    gained = sum(1 / np.log2(rank + 2) for rank, hit in enumerate(hits) if hit)
                    ndcgs.append(gained / sum(1 / np.log2(rank + 2) for rank in range(min(20, len(wanted)))))
                score = result.scores[aim][name]
                assert score.users == len(truth)
                assert [score.recall, score.ndcg] == pytest.approx([np.mean(recalls), np.mean(ndcgs)])


def test_the_models_lists_are_what_it_would_have_answered(cross_sell_run: CrossSellRun) -> None:
    (result,) = cross_sell_run.backtest
    for aim in AIMS:
        assert result.lists[aim][MODEL] == lists_of(result.model, result.taught, aim)
        users = list(result.taught.truth[aim])
        answers = result.model.recommend(result.taught.past.some(users), result.as_of, Ask(MODE_OF[aim], 20))
        assert [result.lists[aim][MODEL][user] for user in users] == [[p.item for p in found] for found in answers]


def test_the_blend_and_the_heads_are_plain_sorts_of_their_scores(cross_sell_run: CrossSellRun) -> None:
    (result,) = cross_sell_run.backtest
    one, model = result.taught, result.model
    for aim in AIMS:
        users = list(one.truth[aim])
        past = Past.of(one.past.some(users), one.as_of)
        every = np.ones((len(users), len(model.catalogue)), np.bool_)
        if aim == "new":
            every[past.bought.pair_user, past.bought.pair_item] = False
        ruled = eligible(model, past, Ask(MODE_OF[aim], 20), np.ones(len(model.catalogue), np.bool_))
        scores = model.scores(past)
        for name, given in {**scores, BLEND: model.blended(scores, aim)}.items():
            top = loops.top(given, ruled if name == BLEND else every, 20)
            for user, codes in zip(users, top.tolist(), strict=True):
                assert result.lists[aim][name][user] == [code for code in codes if code >= 0]


def test_tests_see_only_what_was_known_at_their_moment(cross_sell_run: CrossSellRun, shop: Store) -> None:
    (result,) = cross_sell_run.backtest
    assert result.as_of == AS_OF - HORIZON * DAY_US
    assert result.model.as_of == result.as_of
    assert result.taught.past.ts.max() < result.as_of
    acts, texts = all_acts(shop, AS_OF)
    known, past = shop_at(shop, acts, texts, result.as_of)
    assert known.catalogue == result.model.catalogue
    assert np.array_equal(past.ts, result.taught.past.ts)
    assert later_in(acts, known, texts).before(result.as_of).item.tolist() == past.item.tolist()


def test_a_run_says_what_it_learned_from(cross_sell_run: CrossSellRun) -> None:
    run = cross_sell_run
    moments = [AS_OF - step * HORIZON * DAY_US for step in (1, 2, 3)]
    assert run.model.facts["moments"] == [show(moment) for moment in moments]
    assert run.model.as_of == run.as_of == AS_OF
    assert set(run.model.heads) == set(HEADS)
    for aim in AIMS:
        assert run.model.facts["blends"][aim]["recall_plus_ndcg"] > 0
        assert set(run.model.blends[aim].weights) < set(HEADS)
    log = shop_log()
    on_items = log[log["item_id"].notna() & log["kind"].isin(["purchase", "view", "refund"])]
    assert run.rows == len(on_items)


def test_the_collaborative_heads_beat_popularity_where_groups_buy_apart(cross_sell_run: CrossSellRun) -> None:
    (result,) = cross_sell_run.backtest
    for aim in AIMS:
        found = {name: score.recall for name, score in result.scores[aim].items()}
        for head in ("similar_items", "similar_als", "lasting_als", "complement"):
            assert found[head] > found["popular"]
        assert found[MODEL] > found["popular"] + 0.2
    assert result.scores["new"]["repeat"].recall == 0  # nothing new can come from what was bought before


def test_too_short_a_log_and_too_few_users_are_told(shop: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two windows of 30 days, so --as-of must be 2023-10-07T23:11:17Z or later"):
        trained_cross_sell(shop, as_of=int(pd.Timestamp("2023-09-01").value // 1_000))
    with pytest.raises(UserError, match=r"only \d+ users buy something before and something new in the 30 days after"):
        trained_cross_sell(ingested(shop_log(users=24), tmp_path / "store"))


def test_evaluate_is_a_mean_over_users() -> None:
    assert evaluate({0: [1], 1: [2]}, {0: [1], 1: [1]}).recall == 0.5


def test_a_tested_model_knows_nothing_of_the_outcome_it_is_tested_on(
    cross_sell_run: CrossSellRun, tmp_path: Path
) -> None:
    """Other purchases after the test's moment change its lists' figures, but neither its blend nor its ranker."""
    (result,) = cross_sell_run.backtest
    log = shop_log()
    late = (as_micros(log["ts"]) >= result.as_of) & (log["kind"] == "purchase").to_numpy()
    random = np.random.default_rng(1)
    moved = log["item_id"].to_numpy().copy()
    moved[late] = random.permutation(moved[late])
    (other,) = trained_cross_sell(ingested(log.assign(item_id=moved), tmp_path / "store")).backtest
    assert other.scores != result.scores
    assert other.model.blends == result.model.blends
    shared = other.model.rankers.keys() & result.model.rankers.keys()
    assert shared  # an aim whose ranker lost to the blend has none
    for aim in shared:
        assert other.model.rankers[aim].text == result.model.rankers[aim].text
