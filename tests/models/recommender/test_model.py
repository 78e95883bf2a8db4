"""The recommender: what its scores are, who speaks for an item, and what must not change an answer."""

import json
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from models.recommender import AIMS, HEADS, MODES, Ask, Blend, Filter, History, Past, Recommender, Suggestion
from models.recommender.ask import checked_mode
from models.recommender.heads import Head
from models.recommender.inputs import ItemTable
from models.recommender.links import Links
from models.recommender.model import BLOCK, WIDTH
from models.recommender.popular import Popular
from models.recommender.repeat import Repeat
from models.recommender.similar_items import SimilarItems
from tests.models.recommender.support import (
    NOW,
    Act,
    act,
    fitted,
    history_of,
    ids,
    past_of,
    plain_shop,
    random_acts,
    rich_shop,
)

USERS, ITEMS = 40, 30


def tiny(blend: Blend) -> Recommender:
    """Five items, three heads, no ranker. i002 and i003 are near i001; i000 is most popular, i004 sold to nobody."""
    heads: dict[str, Head] = {
        "repeat": Repeat(np.full(5, np.nan, np.float32), np.full(5, 0.5, np.float32), 60.0),
        "similar_items": SimilarItems(
            Links(np.array([0, 0, 2, 3, 3, 3]), np.array([2, 3, 1], np.int32), np.array([0.5, 0.25, 0.5], np.float32)),
            60.0,
        ),
        "popular": Popular(np.array([4, 2, 2, 1, 0], np.int32), np.array([4, 3, 4, 1, 0], np.int32), NOW, 30),
    }
    table = ItemTable(("buyers_90", "interval", "again", "age"), np.zeros((5, 4), np.float32))
    return Recommender(plain_shop(5), NOW, heads, table, dict.fromkeys(AIMS, blend), {}, {})


def offers(model: Recommender, mine: list[Act], ask: Ask | None = None) -> list[Suggestion]:
    return next(model.recommend(history_of(mine), NOW, ask or Ask()))


def test_scores_are_the_weighted_shares_and_the_largest_share_speaks():
    model = tiny(Blend({"repeat": 1.0, "similar_items": 0.5, "popular": 0.01}))
    found = offers(model, [act("purchase", 1, 60)])
    popular = np.array([4.8, 2.6, 2.8, 1.2, 0]) / 4.8 * 0.01  # recent buyers + all-time buyers / (1 + 4)
    expected = {1: 1 + popular[1], 2: 0.5 + popular[2], 3: 0.25 + popular[3], 0: popular[0], 4: 0}
    assert [pick.item for pick in found] == list(expected)
    assert [pick.score for pick in found] == pytest.approx(list(expected.values()))
    assert [pick.head for pick in found] == ["repeat", "similar_items", "similar_items", "popular", "popular"]
    assert [pick.phrase[0] for pick in found] == ["own", "same_buyers", "same_buyers", "popular", "known"]
    assert found[4].phrase[1]["buyers"] == 0  # no head has anything to say of it


def test_root_and_demand_follow_the_formula():
    model = tiny(Blend({"similar_items": 1.0}, root=True, demand=1.0))
    scores = {pick.item: pick.score for pick in offers(model, [act("purchase", 1, 1)])}
    assert [scores[2], scores[3]] == pytest.approx([2.5 / 4.5, np.sqrt(0.5) * 1.5 / 4.5])


def test_a_list_is_filled_up_by_popularity_when_heads_run_out():
    model = tiny(Blend({"similar_items": 1.0}))
    assert [pick.item for pick in offers(model, [act("purchase", 1, 1)], Ask("cross_sell"))] == [2, 3, 0, 4]


def test_spare_items_come_after_the_k_best():
    model = tiny(Blend({"repeat": 1.0, "popular": 0.1}))
    whole = offers(model, [act("purchase", 1, 1)])
    assert offers(model, [act("purchase", 1, 1)], Ask(k=2)) == whole[:2]
    assert offers(model, [act("purchase", 1, 1)], Ask(k=2, spare=2)) == whole[:4]


def test_one_head_alone_is_a_baseline(rich):
    model, acts = rich
    acts = [a for a in acts if a.kind != "not_interested"]  # which changes the order whatever heads say
    history = history_of(acts, USERS)
    for name in HEADS:
        alone = model.only(name)
        assert alone.rankers == {}
        scores = model.heads[name].scores(past_of(acts, USERS), model.shop)
        for row, found in enumerate(alone.recommend(history, NOW, Ask("cross_sell", k=5))):
            given = scores[row, [pick.item for pick in found]]
            assert (np.diff(given) <= 0).all()
    with pytest.raises(ValueError, match="unknown head 'magic'; use one of: repeat, complement"):
        model.only("magic")


# ------------------------------------------------------------------------------------- a fitted recommender


@pytest.fixture(scope="module")
def rich() -> tuple[Recommender, list[Act]]:
    acts = random_acts(21, USERS, ITEMS)
    return fitted(rich_shop(21, ITEMS), history_of(acts, USERS)), acts


ASKS = [
    *(Ask(mode, k=12) for mode in MODES),
    Ask("bundle", k=7, cart=ids(2), filter=Filter(per_category=2, in_stock=True)),
    Ask("all", k=9, cart=ids(5)[3:], scene="commute"),
    Ask("all", k=9, scene="home", filter=Filter(shown_days=90)),
]


def answers(model: Recommender, history: History) -> list[str]:
    """Each user's lists, with all bits of their scores."""
    lists = zip(*(model.recommend(history, NOW, ask) for ask in ASKS), strict=True)
    return [repr(found) for found in lists]


def test_a_user_is_answered_alike_alone_in_any_block_and_in_any_company(rich, tell):
    model, acts = rich
    history = history_of(acts, USERS)
    expected = answers(model, history)
    assert len(expected) > 2 * BLOCK
    alone = [answers(model, history.some([row]))[0] for row in range(USERS)]
    assert alone == expected
    order = np.random.default_rng(1).integers(0, USERS, 3 * BLOCK + 5)
    assert answers(model, history.some(order)) == [expected[row] for row in order.tolist()]
    tell(lists=len(ASKS) * (2 * USERS + len(order)))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_no_bit(rich, threads):
    model, acts = rich
    history = history_of(acts, USERS)
    expected = answers(model, history)
    with threadpool_limits(threads, "blas"):
        assert answers(model, history) == expected


def test_threads_change_no_bit_of_a_fold_in_that_blas_would_split():
    random = np.random.default_rng(3)
    model = fitted(plain_shop(700), history_of(random_acts(3, 20, 700, 4_000), 20))
    busy = past_of([act("purchase", item, float(days)) for item, days in enumerate(random.uniform(1, 99, 700))])
    head = model.heads["similar_als"]
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            found.append(head.scores(busy, model.shop).tobytes())
    assert found[0] == found[1]


def test_what_happens_at_or_after_the_moment_changes_nothing(rich):
    model, acts = rich
    later = [a._replace(ts=2 * NOW - a.ts) for a in acts] + [a._replace(ts=NOW) for a in acts]
    assert answers(model, history_of(acts + later, USERS)) == answers(model, history_of(acts, USERS))


def test_the_order_of_rows_and_the_names_of_users_change_nothing(rich):
    model, acts = rich
    order = np.random.default_rng(2).permutation(len(acts))
    names = [f"née {row * 7 % USERS} x" for row in range(USERS)]
    shuffled = history_of([acts[place] for place in order], USERS, names)
    assert answers(model, shuffled) == answers(model, history_of(acts, USERS))


def test_filters_and_k_change_no_score(rich):
    model, acts = rich
    history = history_of(acts, USERS)
    whole = [{p.item: p for p in found} for found in model.recommend(history, NOW, Ask(k=ITEMS))]
    asked = Ask(k=6, filter=Filter(categories=("food",), price_max=15.0), exclude=ids(4))
    for every, found in zip(whole, model.recommend(history, NOW, asked), strict=True):
        assert [every[pick.item] for pick in found] == found


def test_buyers_are_ranked_and_browsers_keep_the_order_of_the_blend(rich):
    model, acts = rich
    acts = [a for a in acts if a.kind != "not_interested"]
    history = history_of(acts, USERS)
    blended = model.with_blends(model.blends)
    assert blended.rankers == {}
    kinds = {"ranked": 0, "as blended": 0}
    for mode, aim in (("all", "all"), ("cross_sell", "new")):
        assert aim in model.rankers
        both = (m.recommend(history, NOW, Ask(checked_mode(mode), k=ITEMS)) for m in (model, blended))
        for row, (found, plain) in enumerate(zip(*both, strict=True)):
            bought = any(a.user == row and a.kind == "purchase" and a.ts < NOW for a in acts)
            scores = [pick.score for pick in found]
            assert scores == sorted(scores, reverse=True)
            assert all(0 <= score < 1 for score in scores)
            if not bought:
                assert [pick.item for pick in found] == [pick.item for pick in plain]
                kinds["as blended"] += 1
            else:
                kinds["ranked"] += [pick.item for pick in found] != [pick.item for pick in plain]
    assert min(kinds.values()) >= 8


def test_the_ranker_reads_what_is_true_of_the_candidates(rich):
    """Its score of an item is the booster's of the row of that user and item, whatever else is in the list."""
    model, acts = rich
    past = past_of(acts, USERS)
    every = np.ones((USERS, ITEMS), np.bool_)
    found = model.candidates(past, "all", every, WIDTH)
    names, rows = model.rows(found, model.rankers["all"].names)
    expected = model.rankers["all"].scores(rows)
    assert names == model.rankers["all"].names
    of_pair = dict(zip(zip(found.user.tolist(), found.item.tolist(), strict=True), expected.tolist(), strict=True))
    checked = 0
    for row, picks in enumerate(model.recommend(history_of(acts, USERS), NOW, Ask(k=10))):
        if past.bought.orders[row] and not any(a.user == row and a.kind == "not_interested" for a in acts):
            for pick in picks:
                assert pick.score == of_pair[row, pick.item]
                checked += 1
    assert checked > 20


def test_modes_with_a_head_of_their_own_let_it_speak(rich):
    model, acts = rich
    history = history_of(acts, USERS)
    for mode, head in (("up_sell", "upgrade"), ("discover", "discover"), ("repeat", "repeat"), ("welcome", "welcome")):
        scores = model.heads[head].scores(past_of(acts, USERS), model.shop)
        told = 0
        for row, found in enumerate(model.recommend(history, NOW, Ask(mode))):  # type: ignore[arg-type]
            for pick in found:
                assert (pick.head == head) >= (scores[row, pick.item] > 0.001 * scores[row].max() > 0)
                told += pick.head == head
        assert told > 20, mode


# ---------------------------------------------------------------------------------------------------- files


def test_a_loaded_recommender_answers_alike_and_saves_the_same_bytes(rich, tmp_path: Path):
    model, acts = rich
    model.save(tmp_path / "a")
    loaded = Recommender.load(tmp_path / "a")
    assert answers(loaded, history_of(acts, USERS)) == answers(model, history_of(acts, USERS))
    loaded.save(tmp_path / "b")
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert {Path(name).suffix for name in files} == {".npy", ".json", ".txt"}


@pytest.fixture(scope="module")
def saved(rich, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    rich[0].save(folder)
    return folder


def copied(saved: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_every_table_that_lost_an_item_is_refused(saved: Path, tmp_path: Path, tell):
    by_item = [path for path in saved.glob("*.npy") if ITEMS in (shape := np.load(path).shape) or ITEMS + 1 in shape]
    for number, path in enumerate(by_item):
        folder, values = copied(saved, tmp_path / str(number)), np.load(path)
        np.save(folder / path.name, values[..., :-1] if values.shape[-1] in (ITEMS, ITEMS + 1) else values[:-1])
        with pytest.raises(ValueError, match=r"covers 29 items, the catalogue has 30|does not fit the links"):
            Recommender.load(folder)
    assert len(by_item) >= 20
    tell(tables_cut=len(by_item))


@pytest.mark.parametrize("name", ["head.complement.neighbours", "head.alike.item_words", "head.alike.word_neighbours"])
@pytest.mark.parametrize("bad", [-1, 1_000_000])
def test_links_that_lead_nowhere_are_refused(saved: Path, tmp_path: Path, name: str, bad: int):
    folder = copied(saved, tmp_path / "bad")
    values = np.load(folder / f"{name}.npy")
    values[len(values) // 2] = bad
    np.save(folder / f"{name}.npy", values)
    with pytest.raises(ValueError, match=f"a link leads to .*{bad}"):
        Recommender.load(folder)


def test_objects_and_other_formats_are_refused(saved: Path, tmp_path: Path):
    folder = copied(saved, tmp_path / "bad")
    np.save(folder / "head.popular.ever.npy", np.array([{}] * ITEMS, dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Recommender.load(folder)
    content = json.loads((folder / "recommender.json").read_text())
    (folder / "recommender.json").write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(ValueError, match="has format 99, this version reads"):
        Recommender.load(folder)


def test_a_past_of_nobody_gives_no_list(rich):
    model, _ = rich
    assert list(model.recommend(history_of([], 0), NOW)) == []
    assert len(Past.of(history_of([], 0), NOW)) == 0
