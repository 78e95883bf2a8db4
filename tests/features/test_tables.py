"""Files that people edit: each mistake is told with its file and line, and the words that would have been right."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from features.errors import UserError
from features.tables import Place, Table, parse_table, read_table


class Step(Table):
    day: Annotated[int, Field(ge=1)]
    offer: Literal["coupon", "trial"] = "coupon"


class Ladder(Table):
    name: str
    step: tuple[Step, ...] = ()


class Settings(Table):
    caps: dict[str, int] = Field(default={})
    ladder: tuple[Ladder, ...] = ()

    def problems(self) -> Iterator[tuple[Place, str]]:
        for number, ladder in enumerate(self.ladder):
            for place, (one, other) in enumerate(zip(ladder.step, ladder.step[1:], strict=False), 1):
                if other.day <= one.day:
                    yield ("ladder", number, "step", place, "day"), f"is {other.day}: give a day after {one.day}"


GOOD = """
[caps]
week = 3          # [not a header]

[[ladder]]
name = "wake"

  [[ladder.step]]
  day = 1
  [[ladder.step]]
  day = 3
  offer = "trial"

[[ladder]]
name = "back"
[[ladder.step]]
day = 2
"""


def test_what_a_file_says_is_read(tmp_path: Path):
    path = tmp_path / "ladders.toml"
    path.write_text(GOOD)
    table = read_table(path, Settings)
    assert [[step.day for step in ladder.step] for ladder in table.ladder] == [[1, 3], [2]]
    assert table.caps == {"week": 3}


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('offer = "trial"', 'offer = "trail"', 12, "ladder wake, step 2, offer is 'trail'; use 'coupon' or 'trial'"),
        ('name = "back"', 'names = "back"', 15, "ladder 2, names is not a setting; there are name, step"),
        ("day = 2", "days = 2", 17, "ladder back, step 1, days is not a setting; there are day, offer"),
        (
            'name = "back"',
            'name = "back"\ncolour = 1',
            16,
            "ladder back, colour is not a setting; there are name, step",
        ),
        ("day = 2", "", 16, "ladder back, step 1, day is missing"),
        ("day = 2", "day = 0", 17, "ladder back, step 1, day is 0: Input should be greater than or equal to 1"),
        ("week = 3", 'week = "x"', 3, "caps, week is 'x'"),
        ("  day = 3", "  day = 1", 11, "ladder wake, step 2, day is 1: give a day after 1"),
        ("[caps]", "[cups]", 2, "cups is not a setting; there are caps, ladder"),
    ],
)
def test_a_mistake_has_a_line(old: str, new: str, line: int, said: str):
    assert old in GOOD
    with pytest.raises(UserError) as caught:
        parse_table(GOOD.replace(old, new), Settings, "mine.toml")
    assert str(caught.value).startswith(f"mine.toml:{line}: {said}"), str(caught.value)


def test_elements_in_brackets_have_lines_of_their_own():
    text = '[[ladder]]\nname = "wake"\nstep = [\n  { day = 1 },\n  # later\n  { day = 3, offer = "trail" },\n]\n'
    with pytest.raises(UserError, match=r"^mine.toml:6: ladder wake, step 2, offer is 'trail'"):
        parse_table(text, Settings, "mine.toml")
    with pytest.raises(UserError, match=r"^mine.toml:9: ladder 2, nam is not"):
        parse_table(text.replace("trail", "trial") + '[[ladder]]\nnam = "x"\n', Settings, "mine.toml")


def test_what_is_not_toml_or_not_there_is_told(tmp_path: Path):
    with pytest.raises(UserError, match=r"mine.toml is not TOML: .* line 2"):
        parse_table("[caps]\nweek = three", Settings, "mine.toml")
    with pytest.raises(UserError, match="cannot read"):
        read_table(tmp_path / "nowhere.toml", Settings)
