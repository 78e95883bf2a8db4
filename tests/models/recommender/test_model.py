"""The recommender on a shop made by hand: what it returns, leaves out and says."""

import json
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from models.recommender import Blend, Catalogue, Recommender, Suggestion
from models.recommender.model import top
from tests.models.recommender.support import NOBODY, NOW, days_ago, shop, tiny


def names(recommender: Recommender, picks: list[Suggestion]) -> list[str]:
    return [recommender.catalogue.ids[pick.item] for pick in picks]


def test_scores_are_the_weighted_shares():
    model = tiny()
    picks = model.recommend(np.array([1, 1], np.int32), days_ago(60, 60), NOW, mode="all")
    # repeat: b is 1. similar_items: c .5, d .25, as shares 1 and ½, times ½. popular: (recent + ever / 5) / 4.8, × .01.
    popular = np.array([4.8, 2.6, 2.8, 1.2, 0.4]) / 4.8 * 0.01
    expected = {"b": 1 + popular[1], "c": 0.5 + popular[2], "d": 0.25 + popular[3], "a": popular[0], "e": popular[4]}
    assert names(model, picks) == list(expected)
    assert [pick.score for pick in picks] == pytest.approx(list(expected.values()))
    assert [pick.head for pick in picks] == ["repeat", "similar_items", "similar_items", "popular", "popular"]
    assert picks[0].evidence == "bought once, 60 days ago"
    assert picks[1].evidence == "often bought with b"


def test_root_and_demand_follow_the_formula():
    model = tiny().with_blends({"all": Blend({"similar_items": 1.0}, root=True, demand=1.0)})
    picks = model.recommend(np.array([1], np.int32), days_ago(1), NOW)
    assert names(model, picks) == ["c", "d"]
    assert [pick.score for pick in picks] == pytest.approx([2.5 / 4.5, np.sqrt(0.5) * 1.5 / 4.5])


def test_cross_sell_leaves_out_what_was_bought():
    model = tiny()
    assert "b" not in names(model, model.recommend(np.array([1], np.int32), days_ago(1), NOW, mode="cross_sell"))
    assert "b" in names(model, model.recommend(np.array([1], np.int32), days_ago(1), NOW, mode="all"))


@pytest.mark.parametrize("mode", ["all", "cross_sell"])
def test_a_user_without_history_gets_the_popular_head(mode):
    model = tiny()
    picks = model.recommend(*NOBODY, NOW, mode=mode)
    assert names(model, picks) == ["a", "c", "b", "d", "e"]
    assert {pick.head for pick in picks} == {"popular"}


def test_only_items_the_catalogue_does_not_know_are_no_history():
    model = tiny()
    unknown = model.recommend(np.array([-1, 99], np.int32), days_ago(1, 2), NOW)
    assert unknown == model.recommend(*NOBODY, NOW)


def test_what_happens_at_or_after_the_moment_changes_nothing():
    model = tiny()
    before = model.recommend(np.array([1], np.int32), days_ago(5), NOW)
    later = model.recommend(np.array([3, 1, 0], np.int32), days_ago(0, 5, -3), NOW)
    assert later == before


def test_the_order_of_lines_changes_nothing():
    catalogue, history = shop()
    model = big(catalogue)
    random = np.random.default_rng(0)
    for row in range(len(history)):
        items, ts = history.user(row)
        order = random.permutation(len(items))
        assert model.recommend(items[order], ts[order], NOW) == model.recommend(items, ts, NOW)


def big(catalogue: Catalogue) -> Recommender:
    """Heads with random tables over a larger catalogue."""
    random, count = np.random.default_rng(4), len(catalogue)
    small = tiny()
    factors = random.normal(size=(16, count)).astype(np.float32)
    neighbours = np.concatenate([random.permutation(count)[:10] for _ in range(count)]).astype(np.int32)
    return Recommender(
        catalogue,
        NOW,
        type(small.repeat)(count, 60.0),
        type(small.similar_als)(factors, np.eye(16), 2.0, 1.0, 60.0),
        type(small.similar_items)(
            np.arange(count + 1, dtype=np.int64) * 10,
            neighbours,
            random.random(len(neighbours), dtype=np.float32),
            60.0,
            "bm25",
        ),
        type(small.popular)(np.arange(count, dtype=np.int32), np.arange(count, dtype=np.int32), NOW, 30),
        {"all": Blend({"repeat": 1.0, "similar_als": 0.5, "similar_items": 0.5, "popular": 0.1}, True, 0.125)},
    )


def test_the_number_of_threads_changes_no_bit():
    """A service runs with one BLAS thread, a batch maybe with all."""
    catalogue, history = shop(items=6_000, lines=4_000, users=4)
    model = big(catalogue)
    answers = []
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            answers.append(list(model.recommend_all(history, NOW, k=50)))
    assert answers[0] == answers[1]


def test_ties_go_to_the_smaller_item_id_also_at_the_cut():
    scores = np.array([0.5, 1.0, 0.5, 0.0, 0.5, 0.5])
    assert top(scores, 3).tolist() == [1, 0, 2]
    assert top(scores, 20).tolist() == [1, 0, 2, 4, 5]
    assert top(scores, 0).tolist() == []
    assert top(np.array([0.0, 0.2]), 1).tolist() == [1]


def test_excluded_items_are_left_out_and_change_no_other_score():
    model = tiny()
    plain = model.recommend(np.array([1], np.int32), days_ago(1), NOW)
    shorter = model.recommend(np.array([1], np.int32), days_ago(1), NOW, exclude=[2, -1, 99])
    assert shorter == [pick for pick in plain if pick.item != 2]


def test_one_head_alone_is_a_baseline():
    picks = tiny().only("repeat").recommend(np.array([1, 3], np.int32), days_ago(9, 1), NOW)
    assert [(pick.item, pick.head) for pick in picks] == [(3, "repeat"), (1, "repeat")]


def test_a_batch_is_the_same_as_one_by_one():
    catalogue, history = shop()
    model = big(catalogue)
    batch = dict(model.recommend_all(history, NOW, k=7))
    assert len(batch) == len(history)
    for row, user in enumerate(history.user_ids):
        assert batch[user] == model.recommend(*history.user(row), NOW, k=7)


def test_bad_names_are_refused_with_the_choices():
    with pytest.raises(ValueError, match="all, cross_sell"):
        tiny().recommend(*NOBODY, NOW, mode="new")
    with pytest.raises(ValueError, match="repeat, similar_als"):
        tiny().only("magic")
    with pytest.raises(ValueError, match="'b' comes before 'a'"):
        Catalogue(("b", "a"))


def test_loaded_equals_saved(tmp_path: Path):
    catalogue, history = shop()
    model = big(catalogue)
    model.save(tmp_path)
    loaded = Recommender.load(tmp_path)
    assert list(loaded.recommend_all(history, NOW)) == list(model.recommend_all(history, NOW))
    assert {file.suffix for file in tmp_path.iterdir()} == {".npy", ".json"}


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path):
    tiny().save(tmp_path)
    np.save(tmp_path / "popular.ever.npy", np.zeros(3, np.int32))
    with pytest.raises(ValueError, match=r"popular.ever covers 3 items, the catalogue has 5"):
        Recommender.load(tmp_path)
    content = json.loads((tmp_path / "recommender.json").read_text())
    (tmp_path / "recommender.json").write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        Recommender.load(tmp_path)


def test_a_table_of_objects_is_refused(tmp_path: Path):
    tiny().save(tmp_path)
    np.save(tmp_path / "popular.ever.npy", np.array([{}] * 5, dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Recommender.load(tmp_path)
