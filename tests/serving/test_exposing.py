"""A service that explores says so, shows what it drew, and logs it; without a log nothing changes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from features.errors import UserError
from models.exposure import Exploration, ask_again, draw, limits_of, propensities, read_exposures
from models.recommender import Ask, Filter
from serving.exposures import POOL
from serving.run import serve
from tests.serving.conftest import Shop
from tests.serving.shop import AS_OF, Server, running

SHARE = 0.3
ASKED: dict[str, Any] = {"k": 6, "mode": "cross_sell", "context": {"scene": "home"}}
LIMITED: dict[str, Any] = {
    "k": 4,
    "exclude": ["i1"],
    "cart": ["i2"],
    "filter": {"per_category": 2, "brands": ["brand 1"]},
}
USERS = [{"user_id": f"u{number}"} for number in range(300)]


@dataclass(frozen=True)
class Exposed:
    """What a service with a log answered, and its log after it was shut down."""

    answers: dict[str, Any]
    limited: dict[str, Any]
    log: pa.Table


@pytest.fixture(scope="module")
def exposed(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Exposed:
    folder = tmp_path_factory.mktemp("exposed")
    settings = replace(shop.settings, exposures=folder / "log", explore=SHARE)
    with running(settings, folder) as server:
        answers = server.ask("recommend", users=USERS, **ASKED)
        limited = server.ask("recommend", users=USERS[:20], **LIMITED)
    return Exposed(answers, limited, read_exposures(folder / "log"))


def test_the_log_is_what_was_answered(exposed: Exposed) -> None:
    """And nothing else: neither the service's own tries nor half of what waited when it was told to end."""
    answers = [(exposed.answers, user) for user in exposed.answers["results"]]
    answers += [(exposed.limited, user) for user in exposed.limited["results"]]
    shown = [
        (user["user_id"], item["item_id"], item["head"], item["score"], item["propensity"], user["explored"])
        for _, user in answers
        for item in user["items"]
    ]
    columns = ("user_id", "item_id", "head", "score", "propensity", "explored")
    assert [tuple(row[name] for name in columns) for row in exposed.log.to_pylist()] == shown
    assert set(exposed.log["model"].to_pylist()) == {exposed.answers["model"]}
    assert set(exposed.log["bundle"].to_pylist()) == {exposed.answers["bundle"]}
    assert set(exposed.log["as_of"].to_pylist()) == {AS_OF}
    assert set(exposed.log["exploration"].to_pylist()) == {SHARE}
    assert len(set(exposed.log["request_id"].to_pylist())) == 2


def test_what_is_shown_was_drawn_from_the_ranking(exposed: Exposed, server: Server, tell: Callable[..., None]) -> None:
    ranked = server.ask("recommend", users=USERS, **{**ASKED, "k": 60})["results"]
    assert not any(user["explored"] or item["propensity"] < 1 for user in ranked for item in user["items"])
    explored = 0
    for user, best in zip(exposed.answers["results"], ranked, strict=True):
        pool = min(POOL, len(best["items"]))
        drawn = draw(len(best["items"]), 6, Exploration(SHARE, POOL, "/cross_sell/home"), user["user_id"], AS_OF)
        assert [item["item_id"] for item in user["items"]] == [best["items"][rank]["item_id"] for rank in drawn.ranks]
        assert user["explored"] == drawn.explored
        assert [item["propensity"] for item in user["items"]] == propensities(drawn.ranks, pool, SHARE)[0]
        explored += user["explored"]
    assert 0.2 < explored / len(USERS) < 0.4
    tell(lists=len(USERS), explored=explored)


def test_modes_and_scenes_explore_apart(exposed: Exposed) -> None:
    """The same users at the same moment: who is explored in one mode is not told by another."""

    def explored(salt: str) -> list[bool]:
        return [draw(60, 6, Exploration(SHARE, POOL, salt), user["user_id"], AS_OF).explored for user in USERS]

    assert [user["explored"] for user in exposed.answers["results"]] == explored("/cross_sell/home")
    assert [user["explored"] for user in exposed.limited["results"]] == explored("/all/")[:20]
    assert explored("/all/") != explored("/cross_sell/home")


def test_what_limits_a_list_is_logged_and_kept_to(exposed: Exposed, shop: Shop) -> None:
    rows = [row for row in exposed.log.to_pylist() if row["mode"] == "all"]
    brand = dict(zip(shop.recommender.catalogue.ids, shop.recommender.shop.attributes.brand.tolist(), strict=True))
    brands = shop.recommender.shop.attributes.brands
    assert rows
    for row in rows:
        assert ask_again(row["mode"], 4, row["scene"], row["limits"]) == Ask(
            "all", 4, ("i2",), ("i1",), Filter(brands=("brand 1",), per_category=2)
        )
        assert brands[brand[row["item_id"]]] == "brand 1"
        assert row["item_id"] not in ("i1", "i2")
    assert limits_of(Ask("all", 4)) == ""
    assert ask_again("all", 4, "", "") == Ask("all", 4)


def test_a_log_that_cannot_be_kept_is_told_before_the_service_starts(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="name a folder that can be written to"):
        serve(replace(shop.settings, exposures=tmp_path / "file"))
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(UserError, match="give a number from 0"):
            serve(replace(shop.settings, exposures=tmp_path / "log", explore=share))
