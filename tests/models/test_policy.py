"""What to do with a user, worked out by hand: rule by rule, and what keeps a message from going out."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from features.audience.directory import Entry
from features.audience.needs import NeedTag
from features.tables import parse_table
from models.audience import Profile
from models.contacts import Contacts, Message
from models.playbook import Playbook
from models.policy import Decision, decide, expected_gain, in_control
from tests.features.support import at

DAY = 86_400_000_000
HOUR = DAY // 24
NOW = at("2024-05-15T12:00:00")  # a Wednesday
AGREED = Entry(consent=("all",))

BASE = """\
consent = "required"
[caps]
week = 3
channels = { sms = 1 }
[control]
share = 0.0
[tired]
newest = 2
unopened = 3
slow = 2.0
[value]
margin = 0.5
days = 100
[channels.push]
en = "push"
zh = "推送"
[channels.sms]
en = "text"
zh = "短信"
cost = 0.5
[offers.coupon]
en = "a coupon"
zh = "优惠券"
cost = 5.0
used = 0.2
lift = 0.1
lift_by_cause = { soft = 0.2, natural = 0.0 }
[days.festival]
en = "festival"
zh = "节日"
dates = ["05-17", "2024-08-01"]
days_of_month = [31]
"""
RECALL = """\
[[ladder]]
name = "recall"
who = { stages = ["dormancy"] }
again_after_days = 20
step = [{ day = 1, channel = "push", offer = "coupon" }, { day = 3, channel = "push" }, { day = 7, channel = "sms" }]
"""


def book(ladders: str = RECALL, **changes: str) -> Playbook:
    """The base playbook; changes replace the text of its settings."""
    text = BASE
    for old, new in changes.items():
        line = next(line for line in text.splitlines() if line.startswith(f"{old} ="))
        text = text.replace(line, f"{old} = {new}", 1)
    return parse_table(text + ladders, Playbook, "book.toml")


def dormant(**columns: Any) -> Profile:
    return Profile(**{"user_id": "ann", "status": "ok", "stage": "dormancy", "leaving": "left", **columns})


def sent(*messages: tuple[str, float], channel: str = "push", opened: bool = False) -> tuple[Message, ...]:
    """Messages by campaign and days ago."""
    return tuple(Message(NOW - int(days * DAY), campaign, channel, opened) for campaign, days in messages)


def seen(days: float, kind: str = "view") -> dict[str, int]:
    return {kind: NOW - int(days * DAY)}


def ask(
    playbook: Playbook | None = None,
    profile: Profile | None = None,
    entry: Entry = AGREED,
    as_of: int = NOW,
    **contact: Any,
) -> Decision:
    """The decision on one user, of whom the timeline tells this."""
    asked = profile or dormant()
    return decide([asked], [Contacts(asked.user_id, **contact)], [entry], as_of, playbook or book(), explain=True)[0]


def brief(decision: Decision) -> tuple[str, str | None, int | None]:
    return decision.reason, decision.ladder, decision.step


# --------------------------------------------------------------------------------------------------- steps


def test_the_first_step_goes_to_whoever_matches() -> None:
    decision = ask()
    assert (decision.action, *brief(decision)) == ("contact", "step due", "recall", 1)
    assert (decision.channel, decision.offer, decision.mode, decision.k) == ("push", "coupon", "all", 3)
    assert decision.send_at == NOW
    assert decision.contact_id


def test_nobody_else_is_contacted_and_it_is_said_why() -> None:
    decision = ask(profile=replace(dormant(), stage="growth"))
    assert (decision.action, decision.reason, decision.contact_id, decision.cost) == (
        *("none", "no rule matches", None, 0.0),
    )
    assert decision.why == [
        "recall: no rule matches (stages: growth is not in dormancy)",
        "no contact: no rule matches",
    ]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([("recall/1", 1)], ("next step not due", None, None)),
        ([("recall/1", 2)], ("step due", "recall", 2)),
        ([("recall/1", 1.6)], ("step due", "recall", 2)),  # two dates ago, though not 48 hours
        ([("recall/1", 9), ("recall/2", 3)], ("next step not due", None, None)),
        ([("recall/1", 9), ("recall/2", 4)], ("step due", "recall", 3)),
        ([("recall/1", 9), ("recall/2", 8), ("recall/3", 4)], ("cooling down", None, None)),
        ([("recall/1", 39), ("recall/2", 28), ("recall/3", 20)], ("step due", "recall", 1)),
        ([("recall/1", 40), ("recall/2", 38), ("recall/3", 34), ("recall/1", 3)], ("step due", "recall", 2)),
        ([("recall/1", 32)], ("step due", "recall", 2)),
        ([("recall/1", 33)], ("step due", "recall", 1)),  # too long overdue to go on
        ([("spring sale", 2)], ("step due", "recall", 1)),
        ([("recall/4", 2)], ("cooling down", None, None)),  # the file had more steps then
    ],
)
def test_the_step_due_is_told_by_the_messages(
    messages: list[tuple[str, float]], expected: tuple[str, str | None, int | None]
) -> None:
    assert brief(ask(messages=sent(*messages))) == expected


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (seen(1), "returned"),
        (seen(1, "purchase"), "returned"),
        (seen(1, "a kind of the shop's own"), "returned"),
        (seen(3), "step due"),  # before the first step
        (seen(1, "message_opened"), "step due"),
        (seen(1, "refund"), "step due"),
        (seen(1, "delivered"), "step due"),
    ],
)
def test_whoever_returns_hears_no_more(last: dict[str, int], reason: str) -> None:
    assert ask(messages=sent(("recall/1", 2)), last=last).reason == reason


def test_a_return_between_two_steps_ends_the_ladder_even_if_the_second_was_sent() -> None:
    decision = ask(messages=sent(("recall/1", 8), ("recall/2", 5)), last=seen(6))
    assert decision.reason == "returned"


def test_who_returned_and_is_dormant_again_is_recalled_after_a_pause() -> None:
    assert ask(messages=sent(("recall/1", 19)), last=seen(18)).reason == "returned"
    assert brief(ask(messages=sent(("recall/1", 20)), last=seen(18))) == ("step due", "recall", 1)


def test_a_ladder_may_say_what_a_return_is() -> None:
    playbook = book(RECALL.replace("again_after_days", 'returned_by = ["purchase"]\nagain_after_days'))
    assert ask(playbook, messages=sent(("recall/1", 2)), last=seen(1)).reason == "step due"
    assert ask(playbook, messages=sent(("recall/1", 2)), last=seen(1, "purchase")).reason == "returned"


def test_a_ladder_goes_on_though_the_state_has_changed() -> None:
    lost = replace(dormant(), stage="lost")
    assert brief(ask(profile=lost, messages=sent(("recall/1", 2)))) == ("step due", "recall", 2)
    assert ask(profile=lost).reason == "no rule matches"


def test_no_other_ladder_for_a_state_begins_while_one_is_under_way() -> None:
    other = '[[ladder]]\nname = "win_back"\nstep = [{ day = 1, channel = "push" }]\n'
    for text in (RECALL + other, other + RECALL):
        playbook = book(text)
        waiting = ask(playbook, messages=sent(("recall/1", 1)))
        assert brief(waiting) == ("next step not due", None, None)
        assert "win_back: another ladder under way (recall)" in waiting.why
        assert brief(ask(playbook, messages=sent(("recall/1", 2)))) == ("step due", "recall", 2)
        assert brief(ask(playbook, messages=sent(("recall/1", 2)), last=seen(1))) == ("step due", "win_back", 1)


def test_who_returned_is_not_recalled_at_once_by_another_ladder_of_the_group() -> None:
    by_cause = RECALL.replace('name = "recall"', 'name = "repair"\ngroup = "recall"').replace(
        'stages = ["dormancy"]', 'stages = ["dormancy"], causes = ["experience"]'
    )
    both = by_cause + RECALL.replace('name = "recall"', 'name = "recall"\ngroup = "recall"')
    asked: dict[str, Any] = {"messages": sent(("repair/1", 4)), "last": seen(2)}
    for profile in (dormant(cause="experience"), dormant(cause="soft")):
        assert ask(book(both), profile, **asked).reason in ("returned", "cooling down")
        later: dict[str, Any] = {"messages": sent(("repair/1", 20)), "last": seen(18)}  # the pause is over
        assert ask(book(both), profile, **later).reason == "step due"
    apart = by_cause.replace('group = "recall"\n', "") + RECALL
    assert brief(ask(book(apart), dormant(cause="soft"), **asked)) == ("step due", "recall", 1)


def test_the_first_ladder_in_the_file_comes_first() -> None:
    other = RECALL.replace('"recall"', '"first"').replace('who = { stages = ["dormancy"] }', "")
    assert ask(book(RECALL + other)).ladder == "recall"
    assert ask(book(other + RECALL)).ladder == "first"


def test_a_birthday_may_come_between_the_steps_of_another_ladder() -> None:
    birthday = '[[ladder]]\nname = "birthday"\ntrigger = { on = "birthday" }\nstep = [{ day = 1, channel = "push" }]\n'
    entry = replace(AGREED, birthday=date(1990, 5, 15))
    assert ask(book(RECALL + birthday), entry=entry, messages=sent(("recall/1", 1))).ladder == "birthday"


# ---------------------------------------------------------------------------------------------------- who

WHO: dict[str, tuple[str, Any, Any]] = {
    'leaving = ["left"]': ("leaving", "left", "staying"),
    'segments = ["general_keep"]': ("segment", "general_keep", None),
    'tiers = ["dormant", "new"]': ("tier", "new", "active"),
    'risks = ["high"]': ("risk", "high", None),
    'causes = ["soft"]': ("cause", "soft", "natural"),
    'causes = ["unknown"]': ("cause", None, "natural"),
    'newcomer = ["no_action"]': ("newcomer", "no_action", None),
    "min_decile = 6": ("decile", 6, 5),
    "max_decile = 6": ("decile", 6, 7),
    "max_decile = 7": ("decile", 7, None),
    "min_value = 10.5": ("value", 10.5, 10.4),
    "min_days_since_purchase = 30": ("days_since_purchase", 30.0, 29.9),
    "max_days_since_purchase = 30": ("days_since_purchase", 30.0, 30.1),
    'needs = ["baby", "winter"]': ("needs", [NeedTag("winter", 0, 0, 1, 0.5)], [NeedTag("tea", 0, 0, 1, 0.5)]),
}


@pytest.mark.parametrize("who", WHO)
def test_who(who: str) -> None:
    name, matches, misses = WHO[who]
    playbook = book(RECALL.replace('stages = ["dormancy"]', who))
    assert ask(playbook, dormant(**{name: matches})).reason == "step due"
    assert ask(playbook, dormant(**{name: misses})).reason == "no rule matches"


def test_all_that_is_said_must_hold() -> None:
    playbook = book(RECALL.replace('["dormancy"]', '["dormancy", "lost"], causes = ["soft"]'))
    assert ask(playbook, dormant(cause="soft")).reason == "step due"
    assert ask(playbook, dormant(cause="natural")).reason == "no rule matches"
    assert ask(playbook, dormant(cause="soft", stage="growth")).reason == "no rule matches"


# ----------------------------------------------------------------------------------------------- occasions


def on(trigger: str) -> Playbook:
    return book(f'[[ladder]]\nname = "it"\ntrigger = {{ {trigger} }}\nstep = [{{ day = 1, channel = "push" }}]\n')


@pytest.mark.parametrize(("hours", "due"), [(1.9, False), (2, True), (71.9, True), (72, False)])
def test_two_hours_after_registration(hours: float, due: bool) -> None:
    playbook, then = on('on = "registered", after_hours = 2, within_days = 3'), NOW - int(hours * HOUR)
    assert (ask(playbook, registered_at=then).reason == "step due") == due
    assert (ask(playbook, entry=replace(AGREED, registered_at=then)).reason == "step due") == due


def test_a_registration_that_lies_ahead_is_no_occasion() -> None:
    text = '[quiet]\nfrom_hour = 11\nto_hour = 23\n[[ladder]]\nname = "it"\ntrigger = { on = "registered" }\n'
    quiet = book(text + 'step = [{ day = 1, channel = "push" }]\n')  # it would go out at 23 o'clock
    for hours, due in ((1, True), (-1, False)):
        entry = replace(AGREED, registered_at=NOW - hours * HOUR)
        assert (ask(quiet, entry=entry).reason == "step due") == due


@pytest.mark.parametrize(("hours", "due"), [(0.5, False), (1, True), (23, True), (24, False)])
def test_an_abandoned_order(hours: float, due: bool) -> None:
    playbook = on('on = "abandoned_order", after_hours = 1, within_days = 1')
    last = seen(hours / 24, "order_placed")
    assert (ask(playbook, last=last).reason == "step due") == due
    assert ask(playbook, last=last | seen(0, "purchase")).reason == "no rule matches"


def test_an_occasion_counts_once() -> None:
    playbook = on('on = "abandoned_order", after_hours = 1, within_days = 3')
    placed = seen(2, "order_placed")
    assert ask(playbook, last=placed, messages=sent(("it/1", 1.5))).reason == "ladder done"
    assert ask(playbook, last=placed, messages=sent(("it/1", 2.5))).reason == "step due"  # that was of another order


@pytest.mark.parametrize(
    ("birthday", "today", "due"),
    [
        (date(1990, 5, 15), "2024-05-15", True),
        (date(1990, 5, 17), "2024-05-15", True),
        (date(1990, 5, 18), "2024-05-15", False),
        (date(1990, 5, 14), "2024-05-15", False),
        (date(1990, 1, 1), "2024-12-31", True),
        (date(1992, 2, 29), "2024-02-29", True),
        (date(1992, 2, 29), "2023-02-28", True),
        (date(1992, 2, 29), "2023-03-01", False),
        (None, "2024-05-15", False),
    ],
)
def test_birthdays(birthday: date | None, today: str, due: bool) -> None:
    playbook = on('on = "birthday", days_before = 2')
    entry = replace(AGREED, birthday=birthday)
    assert (ask(playbook, entry=entry, as_of=at(f"{today}T12:00:00")).reason == "step due") == due


@pytest.mark.parametrize(
    ("today", "due"),
    [
        ("2024-05-15", False),
        ("2024-05-16", True),
        ("2025-05-17", True),
        ("2024-05-18", False),
        ("2024-08-01", True),
        ("2025-08-01", False),  # its year was named
        ("2024-05-30", True),
        ("2024-06-30", False),  # has no 31st
    ],
)
def test_days_of_the_shop(today: str, due: bool) -> None:
    playbook = on('on = "day", day = "festival", days_before = 1')
    assert (ask(playbook, as_of=at(f"{today}T12:00:00")).reason == "step due") == due


def test_a_birthday_is_told_of_once_a_year() -> None:
    playbook, entry = on('on = "birthday", days_before = 2'), replace(AGREED, birthday=date(1990, 5, 16))
    assert ask(playbook, entry=entry, messages=sent(("it/1", 1))).reason == "ladder done"
    assert ask(playbook, entry=entry, messages=sent(("it/1", 365))).reason == "step due"


def test_a_benefit_that_is_about_to_end() -> None:
    playbook = on('on = "benefit", valid_days = 10, days_before = 3')
    received = {days: NOW - days * DAY for days in (6, 7, 9, 10)}
    due = {days: ask(playbook, benefits=(ts,)).reason == "step due" for days, ts in received.items()}
    assert due == {6: False, 7: True, 9: True, 10: False}
    told_of_the_first = sent(("it/1", 1))
    assert ask(playbook, benefits=(received[9],), messages=told_of_the_first).reason == "ladder done"
    assert ask(playbook, benefits=(received[9], received[7]), messages=told_of_the_first).reason == "step due"


# -------------------------------------------------------------------------------------------------- blocks


@pytest.mark.parametrize(
    ("contact", "entry", "reason"),
    [
        ({}, Entry(), "no consent"),
        ({}, Entry(consent=()), "no consent"),
        ({}, Entry(consent=("sms",)), "no consent"),
        ({}, Entry(consent=("push",)), "step due"),
        ({"opted_in": {"push": NOW - DAY}}, Entry(), "step due"),
        ({"opted_in": {"all": NOW - DAY}}, Entry(consent=()), "step due"),
        ({"opted_in": {"sms": NOW - DAY}}, Entry(), "no consent"),
        ({"opted_out": {"push": NOW - DAY}}, AGREED, "opted out"),
        ({"opted_out": {"all": NOW - DAY}}, AGREED, "opted out"),
        ({"opted_out": {"sms": NOW - DAY}}, AGREED, "step due"),
        ({"opted_out": {"web": NOW - DAY}}, AGREED, "opted out"),  # not a channel of ours: of all, to be safe
        ({"opted_out": {"push": NOW - 2 * DAY}, "opted_in": {"push": NOW - DAY}}, AGREED, "step due"),
        ({"opted_out": {"all": NOW - 2 * DAY}, "opted_in": {"push": NOW - DAY}}, AGREED, "step due"),
        ({"opted_out": {"push": NOW - 2 * DAY}, "opted_in": {"all": NOW - DAY}}, AGREED, "step due"),
        ({"opted_out": {"all": NOW - DAY}, "opted_in": {"push": NOW - 2 * DAY}}, AGREED, "opted out"),
        ({"opted_out": {"push": NOW - DAY}, "opted_in": {"push": NOW - DAY}}, AGREED, "opted out"),
    ],
)
def test_consent_and_opt_out_by_the_newest_word(contact: dict[str, Any], entry: Entry, reason: str) -> None:
    decision = ask(entry=entry, **contact)
    assert decision.reason == reason
    assert (decision.ladder, decision.step) == ("recall", 1)
    assert (decision.contact_id is None) == (reason != "step due")


def test_where_consent_is_assumed_only_an_opt_out_blocks() -> None:
    playbook = book(consent='"assumed"')
    assert ask(playbook, entry=Entry()).reason == "step due"
    assert ask(playbook, entry=Entry(), opted_out={"push": NOW - DAY}).reason == "opted out"


def test_whoever_opted_out_of_all_hears_by_no_channel_whatever_its_name() -> None:
    playbook = parse_table((BASE + RECALL).replace("channels.sms", "channels.all").replace('"sms"', '"all"')
                           .replace("sms = 1", "all = 1"), Playbook, "book.toml")  # fmt: skip
    for channel in ("all", "fax"):
        assert ask(playbook, opted_out={channel: NOW - DAY}).reason == "opted out"


def test_a_ladder_by_a_channel_that_is_closed_leaves_the_way_to_the_next() -> None:
    other = '[[ladder]]\nname = "by_text"\nstep = [{ day = 1, channel = "sms" }]\n'
    assert ask(book(RECALL + other), opted_out={"push": NOW - DAY}).ladder == "by_text"


def test_one_message_a_day() -> None:
    assert ask(messages=sent(("spring sale", 0.1))).reason == "sent today"
    assert ask(messages=sent(("spring sale", 0.6))).reason == "step due"


def test_caps_count_every_message_of_seven_dates() -> None:
    three = sent(("x", 6), ("y", 3), ("z", 1))
    assert ask(messages=three).reason == "week cap"
    assert ask(messages=three[1:]).reason == "step due"
    assert ask(messages=sent(("x", 7), ("y", 3), ("z", 1))).reason == "step due"


def test_the_cap_of_a_channel() -> None:
    ladder = (("recall/1", 6), ("recall/2", 4))
    assert ask(messages=(*sent(*ladder), *sent(("x", 1), channel="push"))).reason == "week cap"
    run = sent(("recall/1", 12), ("recall/2", 10))
    assert ask(messages=(*run, *sent(("x", 2), channel="sms"))).reason == "channel cap"
    assert brief(ask(messages=(*run, *sent(("x", 7), channel="sms")))) == ("step due", "recall", 3)


def test_the_control_group_is_never_contacted_and_it_is_told_what_it_misses() -> None:
    users = [dormant(user_id=f"user {number}") for number in range(2_000)]
    playbook = book(share="0.3")
    contacts = [Contacts(user.user_id) for user in users]
    decisions = decide(users, contacts, [AGREED] * len(users), NOW, playbook)
    kept = [decision for decision in decisions if decision.action == "none"]
    assert {brief(decision) for decision in kept} == {("control group", "recall", 1)}
    assert 520 < len(kept) < 680  # five standard deviations around 600
    later = decide(users, contacts, [AGREED] * len(users), NOW + 300 * DAY, playbook)
    assert [decision.reason for decision in later] == [decision.reason for decision in decisions]
    assert [in_control(user.user_id, 0.3, "control") for user in users] == [d.action == "none" for d in decisions]
    assert [in_control(user.user_id, 0.3, "another") for user in users] != [d.action == "none" for d in decisions]


def test_only_what_is_gainful_if_the_operator_says_so() -> None:
    playbook = book(RECALL.replace("again_after_days", "only_if_gainful = true\nagain_after_days"))
    assert ask(playbook, dormant(probability=0.5, daily_value=2.0)).reason == "step due"
    assert ask(playbook, dormant(probability=0.5, daily_value=0.1)).reason == "not gainful"
    assert ask(playbook, dormant(probability=None, daily_value=0.1)).reason == "step due"  # not known
    assert ask(book(), dormant(probability=0.5, daily_value=0.1)).reason == "step due"


def test_gain_and_cost_by_the_formula() -> None:
    decision = ask(profile=dormant(probability=0.5, daily_value=2.0, cause="soft"))
    assert decision.cost == pytest.approx(5 * 0.2)
    assert decision.expected_gain == pytest.approx(0.5 * 0.2 * 2 * 100 * 0.5 - 1)
    offer, channel = book().offers["coupon"], book().channels["sms"]
    other = dormant(probability=0.5, daily_value=2.0, cause="experience")
    assert expected_gain(other, offer, channel, book().value) == pytest.approx(0.5 * 0.1 * 2 * 100 * 0.5 - 1.5)
    assert expected_gain(dormant(daily_value=2.0), offer, channel, book().value) is None


# -------------------------------------------------------------------------------- quiet hours and the calendar


@pytest.mark.parametrize(
    ("hours", "as_of", "expected"),
    [
        ((21, 8), "2024-05-15T20:59:59", "2024-05-15T20:59:59"),
        ((21, 8), "2024-05-15T21:00:00", "2024-05-16T08:00:00"),
        ((21, 8), "2024-05-16T07:59:59", "2024-05-16T08:00:00"),
        ((21, 8), "2024-05-16T08:00:00", "2024-05-16T08:00:00"),
        ((12, 14), "2024-05-15T13:30:00", "2024-05-15T14:00:00"),
        ((12, 14), "2024-05-15T14:00:00", "2024-05-15T14:00:00"),
        ((0, 8), "2024-05-15T00:00:00", "2024-05-15T08:00:00"),
    ],
)
def test_quiet_hours_put_off_and_do_not_block(hours: tuple[int, int], as_of: str, expected: str) -> None:
    text = f"[quiet]\nfrom_hour = {hours[0]}\nto_hour = {hours[1]}\n"
    assert ask(book(text + RECALL), as_of=at(as_of)).send_at == at(expected)


def test_quiet_hours_and_dates_are_of_the_shops_zone() -> None:
    playbook = parse_table(
        'zone = "Asia/Shanghai"\n' + BASE + "[quiet]\nfrom_hour = 21\nto_hour = 8\n" + RECALL, Playbook, "book.toml"
    )
    evening = at("2024-05-15T13:30:00")  # 21:30 in Shanghai
    assert ask(playbook, as_of=evening).send_at == at("2024-05-16T00:00:00")
    sent_at_noon = Message(at("2024-05-15T04:00:00"), "spring sale", "push")
    assert ask(playbook, as_of=evening, messages=(sent_at_noon,)).reason == "step due"  # goes out the day after
    assert ask(playbook, as_of=at("2024-05-15T12:30:00"), messages=(sent_at_noon,)).reason == "sent today"


def test_the_night_that_the_clocks_change() -> None:
    text = 'zone = "Europe/Berlin"\n' + BASE + "[quiet]\nfrom_hour = 21\nto_hour = 8\n" + RECALL
    playbook = parse_table(text, Playbook, "book.toml")
    assert ask(playbook, as_of=at("2024-03-30T21:00:00")).send_at == at("2024-03-31T06:00:00")


# ------------------------------------------------------------------------------------------------ tiredness


@pytest.mark.parametrize(
    ("opened", "tired"),
    [
        ("000", True),  # three in a row
        ("00", False),
        ("1110", False),
        ("1101100", True),  # none of two newest, before that 4 of 5
        ("1101101", False),  # a half against 4 of 5
        ("100", False),  # one message is no past
    ],
)
def test_whoever_opens_less_hears_less(opened: str, tired: bool) -> None:
    past = tuple(
        Message(NOW - (20 + len(opened) - number) * DAY, "sale", "push", opened=flag == "1")
        for number, flag in enumerate(opened)
    )
    contact = (*past, Message(NOW - DAY + HOUR, "recall/1", "push", opened=True))  # too new to tell of opening
    decision = ask(messages=contact, opens_known=True)
    assert any(line.startswith("tired: ") for line in decision.why) == tired
    assert not any(line.startswith("tired: ") for line in ask(messages=contact).why)  # opens are not logged at all


def test_tired_users_wait_twice_as_long() -> None:
    past = sent(("a", 30), ("b", 29), ("c", 28))
    for days, reason in ((2, "next step not due"), (3, "next step not due"), (4, "step due")):
        assert ask(messages=(*past, *sent(("recall/1", days))), opens_known=True).reason == reason
        assert ask(messages=(*past, *sent(("recall/1", days)))).reason == "step due"


# ------------------------------------------------------------------------------------ one answer, whoever asks


def test_a_contact_keeps_its_id_until_it_is_sent_and_each_has_its_own() -> None:
    first = ask().contact_id
    assert ask().contact_id == ask(as_of=NOW + 9 * DAY).contact_id == first
    assert ask(last=seen(1)).contact_id == first
    ids = [
        first,
        ask(profile=dormant(user_id="bob")).contact_id,
        ask(messages=sent(("recall/1", 2))).contact_id,
        ask(messages=sent(("recall/1", 3))).contact_id,
        ask(messages=sent(("recall/1", 39), ("recall/2", 28), ("recall/3", 20))).contact_id,
        ask(book(RECALL.replace('"recall"', '"recall2"'))).contact_id,
    ]
    assert None not in ids
    assert len(set(ids)) == len(ids)


def test_nobodys_answer_depends_on_another_and_asking_why_changes_nothing() -> None:
    profiles = [dormant(user_id=f"u{n}", stage=("dormancy", "growth")[n % 2]) for n in range(40)]
    contacts = [Contacts(p.user_id, sent(("recall/1", n % 5)), last=seen(n % 3)) for n, p in enumerate(profiles)]
    entries = [AGREED if n % 4 else Entry() for n in range(40)]
    together = decide(profiles, contacts, entries, NOW, book(share="0.2"))
    alone = [
        decide([p], [c], [e], NOW, book(share="0.2"))[0] for p, c, e in zip(profiles, contacts, entries, strict=True)
    ]
    assert alone == together
    explained = decide(profiles[::-1], contacts[::-1], entries[::-1], NOW, book(share="0.2"), explain=True)
    assert [replace(decision, why=[]) for decision in explained[::-1]] == together
    assert all(decision.why for decision in explained)
    assert len({decision.reason for decision in together}) >= 5


def test_why_tells_every_ladder_in_turn() -> None:
    birthday = '[[ladder]]\nname = "birthday"\ntrigger = { on = "birthday" }\nstep = [{ day = 1, channel = "sms" }]\n'
    decision = ask(book(birthday + RECALL), messages=sent(("recall/1", 2)))
    assert decision.why == [
        "birthday: no rule matches (no occasion: birthday)",
        "recall: step due (step 1 was sent 2 days ago, 2 are asked)",
        "contact: recall, step 2, by push",
    ]
