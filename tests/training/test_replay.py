"""The lists of a recommender at the moments of a log, what they would have earned, and the plain model of that."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from features.events.store import Store
from models.answers import CatalogueCodes, recommend_answers
from models.exposure import Exploration, append, read_exposures
from models.recommender import Ask, Filter, Recommender
from serving.exposures import POOL, Given, exposures_of
from tests.conftest import Tell
from tests.features.support import DAY_US
from tests.shop import AS_OF
from training.cross_sell import CrossSellRun
from training.off_policy import Context, Unit, contexts, decisions, evaluate, rewards
from training.replay import DRAWN, Rates, Replay, half_of, hindsight

K, DAYS, SHARE = 5, 14, 0.5
UNITS: tuple[Unit, ...] = ("slot", "item")
MOMENTS = tuple(AS_OF - days * DAY_US for days in (90, 76, 62, 48, 34, 20))


def logged(folder: Path, store: Store, model: Recommender, asks: Sequence[Ask], share: float = SHARE) -> pa.Table:
    """The log of a service that gave every user a list at each moment."""
    folder.mkdir(exist_ok=True)
    codes, explore = CatalogueCodes(store, model).of_store, Exploration(share, POOL)
    users = [f"u{number}" for number in range(240)]
    for moment in MOMENTS:
        for ask in asks:
            answers = recommend_answers(store.timeline_of(users), moment, model, codes, ask, explore=explore)
            append(folder, exposures_of(answers, Given("m/1", "sha256:0", moment, ask, explore), moment, "r"))
    return read_exposures(folder)


@pytest.fixture(scope="module")
def log(shop: Store, cross_sell_run: CrossSellRun, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return logged(tmp_path_factory.mktemp("log"), shop, cross_sell_run.model, [Ask("cross_sell", K)])


def test_estimates_meet_what_the_lists_really_sold(
    shop: Store, cross_sell_run: CrossSellRun, log: pa.Table, tell: Tell
) -> None:
    """Here the truth is known: purchases do not hang on what is shown, so any list can be scored."""
    model = cross_sell_run.model
    other = model.only("popular")
    reward = rewards(log, shop, days=DAYS)
    for name, recommender in {"the log's own": model, "popular": other}.items():
        replay = Replay.of(log, shop, recommender)
        truth = true_value(log, shop, replay)
        found = {
            unit: evaluate(decisions(log, reward, replay.policy, Rates(log, reward, replay), unit)) for unit in UNITS
        }
        by_item = found["item"]
        assert by_item.doubly_robust is not None
        for one in (by_item.inverse_propensity, by_item.self_normalised, by_item.doubly_robust):
            assert one.low <= truth <= one.high
        assert found["slot"].inverse_propensity.low <= truth <= found["slot"].inverse_propensity.high
        assert found["slot"].effective_users < by_item.effective_users
        tell(**{f"{name}: truth": round(truth, 3), "doubly_robust": round(by_item.doubly_robust.value, 3)})


def true_value(log: pa.Table, store: Store, replay: Replay) -> float:
    """Items sold of each of a policy's lists, found by scoring those lists as if they had been shown."""
    rows = [(at.user_id, at.as_of, item) for at in contexts(log) for item in replay.policy(at)]
    users, times, items = zip(*rows, strict=True)
    shown = pa.table(
        {"user_id": pa.chunked_array([list(users)]), "item_id": pa.chunked_array([list(items)]), "time": times}
    )
    return float(rewards(shown, store, days=DAYS).sum()) / len(contexts(log))


def test_the_log_is_replayed_as_it_was_asked(shop: Store, cross_sell_run: CrossSellRun, tmp_path: Path) -> None:
    """Without exploring, the same model gives the same lists again, whatever limited them."""
    asks = [
        Ask("all", 4, exclude=("i3", "i6"), filter=Filter(price_max=15.0)),
        Ask("cross_sell", 3, cart=("i1",), scene="gift"),
        Ask("win_back", 20),
        Ask("bundle", 2, cart=("i4",)),
    ]
    shown = logged(tmp_path / "log", shop, cross_sell_run.model, asks, share=0.0)
    replay = Replay.of(shown, shop, cross_sell_run.model)
    lists = [list(replay.policy(context)) for context in contexts(shown)]
    assert [item for one in lists for item in one] == shown["item_id"].to_pylist()
    assert [context.mode for context in contexts(shown)][:1] == ["all"]
    evaluated = evaluate(decisions(shown, rewards(shown, shop, days=DAYS), replay.policy))
    assert evaluated.inverse_propensity.value == pytest.approx(evaluated.earned.value)


def test_rates_by_hand() -> None:
    """Of two halves of users, each is told by the other; narrow groups are drawn towards wider ones."""
    users = [[f"u{n}" for n in range(200) if half_of(f"u{n}") == half] for half in (0, 1)]
    assert min(len(half) for half in users) > 60
    asked = [Context(user, AS_OF, "all", "", 2) for user in (*users[0][:50], *users[1][:50])]
    ranked = {context: {"a": "repeat", "b": "popular"} for context in asked}
    rows = [(n, context, slot, item) for n, context in enumerate(asked) for slot, item in enumerate(("a", "x"))]
    log = pa.table(
        {
            "answer": [n for n, *_ in rows],
            "user_id": pa.chunked_array([[context.user_id for _, context, *_ in rows]]),
            "as_of": [AS_OF] * len(rows),
            "mode": ["all"] * len(rows),
            "scene": [""] * len(rows),
            "limits": [""] * len(rows),
            "item_id": [item for *_, item in rows],
        }
    )
    reward = np.array([item == "a" and n < 25 for n, _, _, item in rows])  # half of a's of the first half of users
    rates = Rates(log, reward, Replay(ranked))
    whole = 25 / (100 + DRAWN)
    of_head = (25 + DRAWN * whole) / (50 + DRAWN)
    of_slot = (25 + DRAWN * of_head) / (50 + DRAWN)
    assert rates.rate(0, "repeat", 0) == pytest.approx(of_slot)
    assert rates.rate(0, "repeat", 1) == pytest.approx(of_head)  # never shown there
    assert rates.rate(0, "popular", 1) == pytest.approx(whole)
    assert rates.rate(1, "repeat", 0) == 0
    first, second = asked[0], asked[50]
    assert rates(first, ["a", "x"]) == [0, 0]  # by the second half, which bought nothing
    nowhere = (0 + DRAWN * ((0 + DRAWN * whole) / (50 + DRAWN))) / (50 + DRAWN)
    assert rates(second, ["a", "x"]) == pytest.approx([of_slot, nowhere])


def test_a_model_that_knows_what_followed_is_warned_of(log: pa.Table, cross_sell_run: CrossSellRun) -> None:
    (warning,) = hindsight(log, cross_sell_run.model)
    assert "learned from the log until 2024-06-01, and the first list was shown at 2024-03-03" in warning
    assert hindsight(log, replace(cross_sell_run.model, as_of=MOMENTS[0])) == []
