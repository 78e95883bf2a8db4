"""The playbook file: what comes with Ebbtide loads, and a mistake is told with its line and the valid words."""

from pathlib import Path

import pytest

from features.errors import UserError
from features.tables import parse_table
from models.playbook import Playbook, load_playbook

BOOK = """\
zone = "Asia/Shanghai"

[caps]
week = 3
channels = { sms = 1 }

[quiet]
from_hour = 21
to_hour = 8

[channels.push]
en = "push"
zh = "推送"

[channels.sms]
en = "text"
zh = "短信"
cost = 0.05

[offers.coupon]
en = "a coupon"
zh = "优惠券"
lift_by_cause = { soft = 0.1 }

[days.payday]
en = "payday"
zh = "发薪日"
days_of_month = [25]

[[ladder]]
name = "payday"
trigger = { on = "day", day = "payday", days_before = 1 }
[[ladder.step]]
day = 1
channel = "push"

[[ladder]]
name = "recall"
returned_by = ["purchase"]
[ladder.who]
stages = ["dormancy"]
causes = ["soft", "unknown"]
[[ladder.step]]
day = 1
channel = "push"
offer = "coupon"
mode = "win_back"
[[ladder.step]]
day = 3
channel = "sms"
"""


def test_what_comes_with_ebbtide_loads_and_has_what_the_field_asks_for() -> None:
    book = load_playbook(needs=())
    ladders = {ladder.name: ladder for ladder in book.ladder}
    recall = ladders["recall"]
    assert [(step.day, step.offer) for step in recall.step] == [(1, "coupon"), (3, "invite_reward"), (7, "trial")]
    assert {ladder.trigger.on for ladder in book.ladder} == {
        *("state", "registered", "abandoned_order", "birthday", "day", "benefit")
    }
    assert book.consent == "required"
    assert book.control.share > 0
    assert {word for ladder in book.ladder for word in ladder.who.newcomer} == {
        *("bought", "ordered_not_paid", "no_action")
    }


def test_a_ladder_for_a_state_pauses_and_one_for_an_occasion_waits_for_the_next() -> None:
    book = parse_table(BOOK, Playbook, "book.toml")
    assert [ladder.pause for ladder in book.ladder] == [0, 30]
    assert [ladder.campaign(2) for ladder in book.ladder] == ["payday/2", "recall/2"]


WRONG = {
    "unknown stage": ('"dormancy"', '"sleeping"', 41, "stages 1 is 'sleeping'", "dormancy, lost"),
    "unknown cause": ('causes = ["soft", "unknown"]', 'causes = ["bored"]', 42, "'bored'", "natural, soft, experience"),
    "unknown field": ("stages =", "stage =", 41, "stage is not a setting", "stages"),
    "unknown offer": ('offer = "coupon"', 'offer = "cupon"', 46, "offer is 'cupon'", "coupon"),
    "unknown channel": ('day = 3\nchannel = "sms"', 'day = 3\nchannel = "fax"', 50, "'fax'", "push, sms"),
    "unknown mode": ('"win_back"', '"winback"', 47, "mode is 'winback'", "win_back, welcome"),
    "unknown kind": ('["purchase"]', '["purchse"]', 39, "'purchse'", "purchase"),
    "done to the user": ('["purchase"]', '["delivered"]', 39, "'delivered'", "purchase"),
    "unknown trigger": ('on = "day"', 'on = "dya"', 32, "on is 'dya'", "'birthday'"),
    "unknown day": ('day = "payday"', 'day = "paidday"', 32, "'paidday'", "payday"),
    "setting of another trigger": (
        *("days_before = 1 }", "within_days = 1 }", 32),
        *('not a setting of a trigger on = "day"', "day, days_before"),
    ),
    "step before day 1": ('day = 1\nchannel = "push"\noffer', 'day = 0\nchannel = "push"\noffer', 44, "day is 0", "1"),
    "first step late": (
        'day = 1\nchannel = "push"\noffer',
        'day = 2\nchannel = "push"\noffer',
        44,
        "day is 2",
        "day 1",
    ),
    "days not ascending": ("day = 3", "day = 1", 49, "day is 1", "more than the step before, 1"),
    "cap under 1": ("week = 3", "week = 0", 4, "week is 0", "greater than or equal to 1"),
    "cap of no channel": ("{ sms = 1 }", "{ fax = 1 }", 5, "fax is not a channel", "push, sms"),
    "longer than the caps allow": ("week = 3", "week = 1", 49, "caps.week is 1", "move the step"),
    "longer than the channel's cap": (
        *('channel = "push"\noffer', 'channel = "sms"\noffer', 49),
        *("its cap is 1", "raise it"),
    ),
    "quiet all day": ("to_hour = 8", "to_hour = 21", 9, "nothing could ever go out", "leave [quiet] out"),
    "zone": ("Asia/Shanghai", "Shanghai", 1, "zone is 'Shanghai'", "IANA"),
    "a day without days": ("days_of_month = [25]", "", 25, "has no day", "dates or days_of_month"),
    "no such date": ("days_of_month = [25]", 'dates = ["31-12"]', 28, "'31-12'", "MM-DD"),
    "same name": ('name = "recall"', 'name = "payday"', 38, "given to another ladder", "names"),
    "slash in a name": ('name = "recall"', 'name = "re/call"', 38, "name is 're/call'", "match"),
    "no channel": ('\nchannel = "sms"', "", 48, "channel is missing", ""),
    "cause of a lift": ("{ soft = 0.1 }", "{ bored = 0.1 }", 23, "bored", "natural, soft, experience"),
    "no pause": ("returned_by", "again_after_days = 0\nreturned_by", 39, "never end", "1 or more"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_told_with_line_and_valid_words(name: str) -> None:
    old, new, line, wrong, words = WRONG[name]
    assert BOOK.count(old) == 1, "the case is not about one place"
    with pytest.raises(UserError) as told:
        parse_table(BOOK.replace(old, new), Playbook, "book.toml")
    assert str(told.value).startswith(f"book.toml:{line}: ")
    assert wrong in str(told.value)
    assert words in str(told.value)


def test_a_ladder_that_could_never_act_is_told() -> None:
    again = BOOK[BOOK.index('[[ladder]]\nname = "recall"') :].replace('name = "recall"', 'name = "recall2"')
    with pytest.raises(UserError, match="recall2 is for the same users at the same time as recall, which comes first"):
        parse_table(BOOK + again, Playbook, "book.toml")


def test_kinds_of_the_shop_may_end_a_ladder_if_they_are_named() -> None:
    text = BOOK.replace('["purchase"]', '["lesson_watched"]')
    with pytest.raises(UserError, match="lesson_watched"):
        parse_table(text, Playbook, "book.toml")
    assert parse_table('own_kinds = ["lesson_watched"]\n' + text, Playbook, "book.toml").ladder[1].returned_by


def test_needs_are_checked_against_the_needs_file(tmp_path: Path) -> None:
    file = tmp_path / "book.toml"
    file.write_text(BOOK.replace('stages = ["dormancy"]', 'needs = ["baby"]'), "utf-8")
    assert load_playbook(file, needs=["baby", "winter"]).ladder[1].who.needs == ("baby",)
    with pytest.raises(UserError, match=r"book.toml:41: .*'baby'; use some of winter"):
        load_playbook(file, needs=["winter"])


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"cannot read nowhere\.toml"):
        load_playbook(Path("nowhere.toml"))
