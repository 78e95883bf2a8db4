"""Activation, retention and return, against plain counting and by hand; what is not seen is not 0."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.lifecycle import KPIS, NEWCOMER_DAYS, RETENTION_DAYS, RETURN_DAYS, Lifecycle, lifecycle
from features.audience.stages import DEFAULT, STAGES, Borders, StageTable, load_stages
from features.events.ingest import ingest
from features.events.sources import Source
from features.events.store import Store
from features.tables import parse_table
from tests.analysis import known as slow
from tests.features.events.anonymous import with_devices
from tests.features.support import DAY_US, RANDOM_MOMENTS, at, ingest_frame, ingest_rows
from tests.features.test_no_future import corrections, future_rows, split
from tests.randomlog import random_log

BORDERS = Borders(dormant_days=30, lost_days=90, maturity_orders=4)
AS_OF = at("2024-06-10T07:00")


@pytest.fixture(scope="module")
def found(small_store: Store) -> Lifecycle:
    return lifecycle(small_store, AS_OF, BORDERS)


def test_returns_are_those_counted_user_by_user(found: Lifecycle, small_log: pd.DataFrame) -> None:
    earlier = AS_OF - RETURN_DAYS * DAY_US
    before, rows = slow.stages(small_log, earlier, BORDERS), slow.known(small_log, AS_OF)
    since = rows[rows["at"] >= earlier]
    opened = set(slow.made(since)["user_id"])
    lately = set(slow.made(since[since["at"] >= AS_OF - 7 * DAY_US])["user_id"])
    orders = slow.orders(since)
    for stage in STAGES:
        users = list(before.index[before == stage])
        told = found.returns[stage]
        assert told.users == len(users)
        if users:
            bought = [orders.get(user, 0) for user in users]
            assert told.opened_again == pytest.approx(np.mean([user in opened for user in users]))
            assert told.active_7d == pytest.approx(np.mean([user in lately for user in users]))
            assert told.bought_again == pytest.approx(np.mean([count >= 1 for count in bought]))
            assert told.kept_buying == pytest.approx(np.mean([count >= 2 for count in bought]))
    assert sum(told.users for told in found.returns.values()) == len(before)


def shop(folder: Path, rows: list[dict[str, object]], users: str = "") -> Store:
    """A store of a few rows, with a users table."""
    folder.mkdir()
    pd.DataFrame(rows).to_csv(folder / "events.csv", index=False)
    table = None
    if users:
        table = folder / "users.csv"
        table.write_text(users)
    store = ingest(Source(folder / "events.csv", users=table), folder / "store", now=at("2025-01-01")).store
    assert store is not None
    return store


def life_of_five(channel: bool = True) -> list[dict[str, object]]:
    """Five newcomers of one shop: what they did so many days after coming on the 1st of March."""
    start = pd.Timestamp("2024-03-01T10:00")
    lives: dict[str, list[tuple[float, str]]] = {
        "quick": [(0, "register"), (0.1, "purchase"), (1, "view"), (30, "view")],
        "slow": [(0, "register"), (0.55, "view"), (29.5, "purchase")],  # 0.55: 23:12 of the same date
        "late": [(0, "register"), (0.6, "view"), (30.5, "purchase")],  # 0.6: 00:24 of the next date
        "looks": [(0, "register"), (7, "view"), (8, "view")],
        "never": [(0, "register"), (1, "message_sent")],
    }
    surface = {"quick": "app", "slow": "app", "late": "web"}
    rows: list[dict[str, object]] = [{"user_id": "old", "ts": "2023-09-01T00:00:00", "kind": "login"}]
    for user, events in lives.items():
        for days, kind in events:
            named = surface.get(user) if kind == "view" and channel else None
            ts = (start + pd.Timedelta(days=days)).isoformat()
            rows.append({"user_id": user, "ts": ts, "kind": kind, "channel": named})
    return rows


def test_newcomers_by_hand(tmp_path: Path) -> None:
    store = shop(tmp_path / "shop", life_of_five())
    found = lifecycle(store, at("2024-04-10"), BORDERS).newcomers
    assert (found.users, found.old_enough) == (5, 5)
    assert found.activation == pytest.approx(2 / 5)
    assert found.first_order_days == pytest.approx((0.1 + 29.5) / 2)
    assert found.retention == pytest.approx((2 / 5, 1 / 5, 2 / 5))  # day 30: quick and slow, whose 29.5 is that date
    assert found.day_users == (5, 5, 5)


def test_a_day_counts_when_it_is_over(tmp_path: Path) -> None:
    store = shop(tmp_path / "shop", life_of_five())
    young = lifecycle(store, at("2024-03-09T09:59"), BORDERS).newcomers
    assert young.users == 5
    assert young.day_users == (5, 0, 0)
    assert np.isnan(young.activation)
    assert np.isnan(young.retention[1:]).all()
    assert lifecycle(store, at("2024-03-09T10:00"), BORDERS).newcomers.day_users == (5, 5, 0)


def test_by_channel_and_surface(tmp_path: Path) -> None:
    users = (
        "user_id,registered_at,acquisition_channel\nquick,2024-03-01T10:00:00,ads\nslow,2024-03-01T10:00:00,friends\n"
    )
    users += "late,2024-03-01T10:00:00,ads\nlooks,2024-03-01T10:00:00,\n"
    found = lifecycle(shop(tmp_path / "shop", life_of_five(), users), at("2024-04-10"), BORDERS)
    assert found.by_channel is not None
    assert found.by_surface is not None
    told = {group.name: (group.users, group.activation) for group in found.by_channel}
    assert told == {"ads": (2, 0.5), "friends": (1, 1.0), "not named": (2, 0.0)}
    told = {group.name: (group.users, group.activation) for group in found.by_surface}
    assert told == {"app": (2, 1.0), "web": (1, 0.0), "not named": (2, 0.0)}
    assert sum(group.users for group in found.by_surface) == found.newcomers.users
    assert found.not_seen == ()
    assert len(found.newcomers_table()) == 1 + 3 + 3


def test_a_registration_may_name_the_channel_and_a_message_is_no_surface(tmp_path: Path) -> None:
    rows = life_of_five(channel=False)
    rows[1]["channel"] = "advert"
    rows.append({"user_id": "never", "ts": "2024-03-02T00:00:00", "kind": "message_sent", "channel": "sms"})
    rows.append({"user_id": "never", "ts": "2024-03-02T01:00:00", "kind": "message_opened", "channel": "sms"})
    found = lifecycle(shop(tmp_path / "shop", rows), at("2024-04-10"), BORDERS)
    assert found.by_channel is not None
    assert [group.name for group in found.by_channel] == ["not named", "advert"]
    assert found.by_surface is not None
    assert "sms" not in {group.name for group in found.by_surface}


def test_what_the_log_does_not_show_is_said_and_not_0(tmp_path: Path) -> None:
    rows = [
        {"user_id": f"u{number}", "ts": f"2024-0{month}-1{number}", "kind": "purchase"}
        for month in (1, 3, 4, 5)
        for number in range(month, 6)
    ]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    found = lifecycle(store, at("2024-06-01"), BORDERS)
    assert found.by_channel is None
    assert found.by_surface is None
    assert np.isnan([found.newcomers.activation, found.newcomers.first_order_days, *found.newcomers.retention]).all()
    some = [told for told in found.returns.values() if told.users]
    assert some
    assert np.isnan([told.opened_again for told in some]).all()
    assert np.isfinite([told.bought_again for told in some]).all()
    assert [text.split()[0] for text in found.not_seen[:2]] == ["The", "The"]
    said = " ".join(found.not_seen)
    assert "only when they buy" in said
    assert "no registrations" in said
    table = found.newcomers_table().to_pylist()
    assert table[0]["activation"] is None
    met = {(target.stage, target.kpi): target.met for target in found.against(load_stages())}
    assert met["registered", "activation"] is None
    assert met["lost", "opened_again"] is None


def test_targets_are_those_of_the_table(found: Lifecycle) -> None:
    text = DEFAULT.read_text("utf-8").replace("targets = {", "targets = { kept_buying = 0.99,")
    assert text.count("kept_buying = 0.99") > 4
    text = text.replace("kept_buying = 0.99, opened_again = 0.1, bought_again = 0.05, ", "opened_again = 0, ")
    table = parse_table(text, StageTable, "stages.toml")
    told = found.against(table)
    assert {target.stage for target in told} == {stage for stage in STAGES if table.text(stage).targets}
    assert len(told) == sum(len(table.text(stage).targets) for stage in STAGES)
    for target in told:
        assert target.kpi in KPIS
        reached, users = found.kpi(target.stage, target.kpi)
        assert (target.reached, target.users) == pytest.approx((reached, users), nan_ok=True)
        assert target.met == (None if np.isnan(reached) else reached >= target.target)
    assert {target.met for target in told} >= {True, False}


def test_measures_have_one_line_each_and_every_stage_has_all(found: Lifecycle) -> None:
    for name, text in KPIS.items():
        assert "\n" not in text
        for stage in STAGES:
            reached, users = found.kpi(stage, name)
            assert users >= 0
            assert np.isnan(reached) or 0 <= reached <= 1


def test_newcomers_are_those_counted_user_by_user(found: Lifecycle, small_log: pd.DataFrame) -> None:
    rows, came = slow.known(small_log, AS_OF), slow.came(small_log, AS_OF)
    registered = rows[rows["kind"] == "register"]["user_id"].unique()
    watched = slow.made(small_log.assign(at=small_log["ts"].astype("datetime64[us]").astype("int64")))["at"].min()
    new = came[(AS_OF - came <= NEWCOMER_DAYS * DAY_US)]
    from_then = [
        at_ > watched + (0 if user in registered else BORDERS.dormant_days * DAY_US) for user, at_ in new.items()
    ]
    new = new[from_then]
    assert found.newcomers.users == len(new) > 3
    own = slow.made(rows)
    for place, day in enumerate(RETENTION_DAYS):
        old = new[AS_OF - new >= (day + 1) * DAY_US]
        dates = {str(user): set(part // DAY_US) for user, part in own.groupby("user_id")["at"]}
        kept = [int(start // DAY_US) + day in dates[user] for user, start in old.to_dict().items() if user in dates]
        kept += [False] * (len(old) - len(kept))
        assert found.newcomers.day_users[place] == len(kept)
        assert found.newcomers.retention[place] == pytest.approx(np.mean(kept))


@pytest.mark.parametrize("seed", [3, 4])
def test_no_row_of_the_future_changes_anything(seed: int, tmp_path: Path) -> None:
    moment = RANDOM_MOMENTS[seed % 2]
    log = split(with_devices(random_log(seed, 40, 1_500), seed), moment)
    future = pd.concat([future_rows(seed, moment, log), corrections(log, moment)])
    past = ingest_frame(log, tmp_path / "past", max_rejected=1.0).store
    shuffled = pd.concat([future, log]).sample(frac=1, random_state=seed)
    both = ingest_frame(shuffled, tmp_path / "both", max_rejected=1.0).store
    assert past is not None
    assert both is not None
    told = lifecycle(past, moment, BORDERS)
    assert told.newcomers.users
    assert str(told) == str(lifecycle(both, moment, BORDERS))


def test_channels_that_were_seen_later_are_not_known(tmp_path: Path) -> None:
    """Also where no row of the log came late, so that none is taken out of the timelines."""
    views = [{"user_id": f"u{day}", "ts": f"2024-05-{day:02}T10:00", "kind": "view"} for day in range(1, 29)]
    later = [
        {"user_id": view["user_id"], "ts": "2024-06-10T07:00", "kind": kind, "channel": "app"}
        for view in views
        for kind in ("view", "register")
    ]
    old = {"user_id": "old", "ts": "2024-01-01", "kind": "login", "channel": "web"}
    told = [ingest_rows([old, *views, *more], tmp_path / str(len(more))).store for more in ([], later)]
    past, both = (lifecycle(store, AS_OF, BORDERS) for store in told if store is not None)
    assert past.newcomers.users
    assert past.by_surface is None
    assert str(past) == str(both)
