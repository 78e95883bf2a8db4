"""Contacts that somebody else chose, in a simulated shop: as often answered as stated, forward in time, one's own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks._ladder_log import BEFORE, Contact, Log, make_shop
from benchmarks._ladder_outcomes import outcomes, profits
from features.events import columns as c
from features.events.columns import DAY, NOT_BY_USER
from features.timeline import Array
from training.simulation.catalogue import Catalogue, make_catalogue
from training.simulation.contacts import Back, Contacts, answers, live, some_of
from training.simulation.messages import answered
from training.simulation.parameters import ARMS, CAUSES, Parameters, load
from training.simulation.people import People, make_people
from training.simulation.shop import make_events, start_of

DAYS, START, SEED = 200, 120, 5


@pytest.fixture(scope="module")
def shipped() -> Parameters:
    return load()


@pytest.fixture(scope="module")
def catalogue(shipped: Parameters) -> Catalogue:
    return make_catalogue(shipped, SEED, DAYS)


@pytest.fixture(scope="module")
def people(shipped: Parameters, catalogue: Catalogue) -> People:
    return make_people(shipped, catalogue, SEED, DAYS, np.arange(120))


def to_all(users: int, arm: str, day: float = START + 0.4) -> Contacts:
    """One contact a user."""
    sent = np.full(users, int(day * DAY))
    return Contacts(np.arange(users), sent, np.full(users, ARMS.index(arm)), ["recall/1"] * users, ["push"] * users)


def rows(p: Parameters, catalogue: Catalogue, people: People, *given: object) -> pd.DataFrame:
    events: pd.DataFrame = live(p, catalogue, people, DAYS, START, *given).to_pandas()  # type: ignore[arg-type]
    return events


# ------------------------------------------------------------------------------------------------- no contacts


def test_without_contacts_and_campaigns_it_is_the_shop_of_the_simulation(
    shipped: Parameters, catalogue: Catalogue, people: People
) -> None:
    silent = replace(shipped, messages=replace(shipped.messages, reach=0.0))
    assert live(silent, catalogue, people, DAYS, START).equals(make_events(silent, catalogue, people, DAYS))


def test_the_shops_own_campaigns_end_at_the_start(shipped: Parameters, catalogue: Catalogue, people: People) -> None:
    events = rows(shipped, catalogue, people)
    sent = events.loc[events["kind"] == "message_sent", "ts"]
    assert len(sent) > 100
    assert sent.max() < pd.Timestamp(start_of(shipped.shop.start) + START * DAY, unit="us")


# ---------------------------------------------------------------------------------------------- with contacts


def test_contacts_change_nothing_before_them_and_nobody_elses_rows(
    shipped: Parameters, catalogue: Catalogue, people: People
) -> None:
    many = 40
    contacts = to_all(many, "coupon")
    before, after = rows(shipped, catalogue, people), rows(shipped, catalogue, people, contacts, 0.5)
    instant = pd.Timestamp(start_of(shipped.shop.start) + int(contacts.sent[0]), unit="us")
    pd.testing.assert_frame_equal(
        before[before["ts"] < instant].reset_index(drop=True), after[after["ts"] < instant].reset_index(drop=True)
    )
    other, same = (frame[frame["user_id"] >= f"u{many:05d}"].reset_index(drop=True) for frame in (before, after))
    pd.testing.assert_frame_equal(other, same)
    written = after[after["campaign_id"] == "recall/1"]
    assert {"message_sent", "coupon_received", "message_opened"} <= set(written["kind"])
    assert set(written.loc[written["kind"] == "message_sent", "channel"]) == {"push"}
    assert (written.loc[written["kind"] == "message_sent", "ts"] == instant).all()
    used = after[(after["kind"] == "coupon_used") & (after["campaign_id"] == "recall/1")]
    assert len(used)
    assert (used["ts"] < instant + pd.Timedelta(days=shipped.messages.coupon_days + 1)).all()


def test_users_alone_live_as_they_do_among_others(shipped: Parameters, catalogue: Catalogue, people: People) -> None:
    contacts = to_all(30, "reminder")
    whole = rows(shipped, catalogue, people, contacts, 0.5)
    chosen = np.array([3, 17, 29])
    alone = Contacts(np.arange(3), contacts.sent[chosen], contacts.arm[chosen], ["recall/1"] * 3, ["push"] * 3)
    apart = rows(shipped, catalogue, some_of(people, chosen), alone, 0.5)
    own = whole[whole["user_id"].isin([f"u{n:05d}" for n in chosen])].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, apart)


def test_a_hold_out_and_a_second_contact_on_a_day_are_refused() -> None:
    with pytest.raises(ValueError, match="hold-out"):
        to_all(2, "hold_out")
    one = to_all(1, "coupon")
    twice = np.repeat(one.sent, 2), np.repeat(one.arm, 2)
    with pytest.raises(ValueError, match="twice on a day"):
        Contacts(np.zeros(2, int), *twice, campaign=["a", "b"], channel=["push"] * 2)


# ------------------------------------------------------------------------------------------------------ rates


def crowd(p: Parameters, cause: str, users: int = 20_000) -> People:
    """Users who at the start are in one state, as the parameters have it."""
    people = make_people(p, make_catalogue(p, SEED, DAYS), SEED, DAYS, np.arange(users))
    code = CAUSES.index(cause)
    onset = np.full(users, np.inf if cause == "none" else START - 1.0)
    return replace(
        people,
        registered=np.full(users, -1.0),
        cause=np.full(users, code),
        onset=onset,
        gone=np.where(np.isfinite(onset), START + 50.0, np.inf),
    )


def within(share: float, hits: int, users: int) -> bool:
    """Is a count within four standard deviations of what a share would give?"""
    return abs(hits - share * users) <= 4 * np.sqrt(max(share * (1 - share) * users, 1))


@pytest.mark.parametrize("cause", ["none", "natural", "soft", "experience"])
def test_returns_opens_and_opt_outs_are_as_often_as_stated(shipped: Parameters, cause: str) -> None:
    people = crowd(shipped, cause)
    users = people.number.size
    table = getattr(shipped, f"response_{'engaged' if cause == 'none' else cause}")
    # The strength of the response is lognormal over users, so its mean is e^.08 of its median.
    spread = np.exp(0.4**2 / 2)
    for arm in ARMS[1:]:
        answered, _ = answers(shipped, people, to_all(users, arm))
        stated = getattr(table, arm) * spread
        assert within(max(stated, 0), int(np.isfinite(answered.returned).sum()), users), (cause, arm)
        assert within(max(-stated, 0), int(answered.quiet.sum()), users), (cause, arm)
        took = (answered.returned - answered.sent)[np.isfinite(answered.returned)]
        assert np.all((took > 0) & (took <= shipped.messages.within_days + 0.03))
        chance = np.minimum(people.opened * people.factor(answered.user, answered.sent, "opened"), 0.98)
        opened = np.isfinite(answered.opened)
        assert within(float(chance.mean()), int((opened & ~np.isfinite(answered.returned)).sum()), users) or stated > 0
        assert opened[np.isfinite(answered.returned)].all()
        leave = shipped.messages.opt_out * people.factor(answered.user, answered.sent, "opt_out")
        assert within(float(np.minimum(leave, 1).mean()), int(np.isfinite(answered.opted_out).sum()), users)


def test_who_is_gone_does_not_answer(shipped: Parameters) -> None:
    people = replace(crowd(shipped, "soft", 500), gone=np.full(500, START - 0.5))
    answered, _ = answers(shipped, people, to_all(500, "coupon"))
    assert not np.isfinite(answered.returned).any()
    assert not np.isfinite(answered.opened).any()


def test_nothing_comes_of_a_hold_out_or_of_who_is_not_registered_yet(shipped: Parameters) -> None:
    people = crowd(shipped, "soft", 1_000)
    late = replace(people, registered=np.where(np.arange(1_000) < 500, START + 5.0, -1.0))
    user, sent = np.arange(1_000), np.full(1_000, START + 0.4)
    for arm, made in (("hold_out", 0), ("coupon", 500)):
        told = answered(
            *(shipped, late), user=user, key=late.key, campaign=user, arm=np.full(1_000, ARMS.index(arm)), sent=sent
        )
        active = np.isfinite(told.opened) | np.isfinite(told.returned) | np.isfinite(told.opted_out) | told.quiet
        assert not active[: 1_000 - made].any()
        assert active[500:].any() == bool(made)


def test_a_return_ends_in_an_order_as_often_as_stated(shipped: Parameters, catalogue: Catalogue) -> None:
    """Against the same users without the contact, so what they would have done anyway falls out."""
    users = 1_200
    people = some_of(crowd(shipped, "soft", users), np.arange(users))
    contacts = to_all(users, "coupon")
    answered, _ = answers(shipped, people, contacts)
    before, after = rows(shipped, catalogue, people), rows(shipped, catalogue, people, contacts)
    more = sum(sign * (frame["kind"] == "order_placed").sum() for sign, frame in ((1, after), (-1, before)))
    came = int((np.isfinite(answered.returned) & np.isfinite(people.gap[answered.user])).sum())
    assert within(shipped.messages.buys, int(more), came)


# ------------------------------------------------------------------------------------------------ back to stay


def test_who_stays_lives_on_as_before_the_drift(shipped: Parameters, catalogue: Catalogue) -> None:
    users = 800
    people = crowd(shipped, "soft", users)
    contacts = to_all(users, "coupon")
    some, kept = answers(shipped, people, contacts, 0.5)
    assert isinstance(kept, Back)
    came = np.isfinite(some.returned)
    assert within(0.5, int(np.isfinite(kept.back).sum()), int(came.sum()))
    once, stay = rows(shipped, catalogue, people, contacts), rows(shipped, catalogue, people, contacts, 1.0)
    late = pd.Timestamp(start_of(shipped.shop.start) + (START + 55) * DAY, unit="us")  # all others are gone by then
    returned = {f"u{n:05d}" for n in some.user[came]}

    def alive(events: pd.DataFrame) -> Array:
        seen = (events["ts"] > late) & ~events["kind"].isin([*NOT_BY_USER, "survey_answer"])
        return np.array(sorted(set(events.loc[seen, "user_id"].dropna())))

    assert len(alive(once)) == 0
    assert set(alive(stay)) <= returned
    # Who is engaged visits about once a week: of 25 days and who never buys, nearly all are seen.
    assert len(alive(stay)) > 0.85 * len(returned)


@pytest.mark.parametrize(
    ("cause", "arm", "stay"),
    [("natural", "discovery", False), ("experience", "coupon", False), ("experience", "repair", True)],
)
def test_who_has_no_need_or_whom_we_failed_is_not_kept_by_a_coupon(
    shipped: Parameters, cause: str, arm: str, stay: bool
) -> None:
    people = crowd(shipped, cause, 5_000)
    answered, kept = answers(shipped, people, to_all(5_000, arm), 1.0)
    assert isinstance(kept, Back)
    assert np.isfinite(answered.returned).any()
    assert np.isfinite(kept.back).any() == stay


def test_who_stays_answers_the_next_contact_as_engaged(shipped: Parameters) -> None:
    people = crowd(shipped, "soft")
    users = people.number.size
    first, second = to_all(users, "coupon"), to_all(users, "coupon", START + 6.4)
    user, sent, arm = (np.concatenate([getattr(x, name) for x in (first, second)]) for name in ("user", "sent", "arm"))
    both = Contacts(user, sent, arm, ["recall/1"] * (2 * users), ["push"] * (2 * users))
    answered, _ = answers(shipped, people, both, 1.0)
    came = np.isfinite(answered.returned).reshape(users, 2)
    again = came[came[:, 0], 1]
    strong = np.exp(0.4 * np.random.default_rng(0).normal(size=100_000))
    stated = shipped.response_engaged.coupon * (strong**2).mean() / strong.mean()  # who came are the more responsive
    assert within(float(stated), int(again.sum()), again.size)


# ------------------------------------------------------------------------------------------- a log to write on


def test_a_log_that_contacts_are_written_on_is_the_stores_but_for_them(tmp_path: Path) -> None:
    shop = make_shop("default", 120, SEED, tmp_path)
    log, at = Log(shop, 0.0), shop.at(3)
    users = [user for user in range(60) if shop.people.registered[user] < BEFORE]
    log.add([Contact(user, at, "coupon", "recall/1", "push", 0.0) for user in users])
    log.add([Contact(user, at + 2 * DAY, "reminder", "recall/2", "email", 0.5) for user in users[:20]])
    assert sorted(log.touched) == users
    ours = log.timeline()
    assert ours.user_ids.to_pylist() == [shop.ids[user] for user in log.touched]
    stored = shop.store.timeline_of(ours.user_ids.to_pylist())
    early = [timeline.columns[c.TS] < at for timeline in (ours, stored)]
    for name, values in stored.columns.items():
        if name not in ("session_id", "order_id", "device_id"):
            np.testing.assert_array_equal(ours.columns[name][early[0]], values[early[1]], err_msg=name)
    texts = shop.directory.texts("campaign_id")
    codes = ours.columns["campaign_id"][(ours.columns[c.TS] >= at) & (ours.columns["campaign_id"] >= 0)]
    assert {texts[code] for code in codes.tolist()} >= {"recall/1", "recall/2"}
    assert "recall/1" not in shop.store.words["campaign_id"].texts
    _outcomes_agree(shop.ids, log, at)


def _outcomes_agree(ids: list[str], log: Log, at: int) -> None:
    """With a slow count, user by user and event by event."""
    since = np.full(len(ids), at)
    since[::3] = c.NEVER
    found, earned = outcomes(log.shop, log, since), profits(log.shop, log)
    for user, name in enumerate(ids):
        touched = user in log.touched
        timeline = log.timeline([user]) if touched else log.shop.store.timeline_of([name])
        rows = [
            (int(ts), timeline.facts.kinds[kind], int(order), amount / 1e4 - 0.6 * price * quantity / 1e8)
            for ts, kind, order, amount, price, quantity in zip(
                *(timeline.columns[x] for x in (c.TS, c.KIND, c.ORDER_ID, c.AMOUNT, c.PRICE, c.QUANTITY)), strict=True
            )
        ]
        within = (
            [row for row in rows if since[user] <= row[0] < since[user] + 30 * DAY] if since[user] < c.NEVER else []
        )
        orders = {order for _, kind, order, _ in within if kind == "purchase"}
        not_back = {*NOT_BY_USER, "message_opened", "opt_out", "touch", "refund", "complaint", "survey_answer"}
        seen = any(kind not in not_back for _, kind, _, _ in within)
        assert found[user].tolist() == [seen, bool(orders), len(orders) > 1], name
        costs = sum(contact.cost for contact in log.contacts if contact.user == user)
        paid = sum(margin for ts, kind, _, margin in rows if kind == "purchase" and ts >= log.shop.at(0))
        assert earned[user] == pytest.approx(paid - costs), name
