"""The page builder: valid, self-contained, escaped."""

from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

from analysis.page import Section, heading, listing, page, paragraph, picture, pictures, table

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Balanced(HTMLParser):
    """Notes what a browser would have to repair, and everything that would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        self.wrong += self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = [name for name, _ in attrs]
        self.wrong += [f"{tag} {name} twice" for name in {n for n in names if names.count(n) > 1}]
        self.ids += [str(value) for name, value in attrs if name == "id"]
        self.links += [str(value) for name, value in attrs if name in ("href", "src", "action", "data", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def drawing() -> Figure:
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().plot([0, 1], [1, 0])
    return figure


NASTY = "<b>&\"'"


def example() -> str:
    parts = [
        paragraph(NASTY),
        heading(NASTY),
        table([NASTY, "n"], [[NASTY, 1], ["none", None]], caption=NASTY),
        pictures([picture(drawing(), NASTY)]),
        listing([(NASTY, NASTY)]),
    ]
    return page(NASTY, [paragraph("lead", "verdict")], [Section("one", NASTY, parts), Section("two", "Two", [])])


def test_a_page_is_balanced_and_links_only_into_itself() -> None:
    found = Balanced(example())
    assert found.wrong == []
    assert found.ids == ["one", "two"]
    assert [link for link in found.links if not link.startswith("data:image/png;base64,")] == ["#one", "#two"]
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    assert example().startswith("<!DOCTYPE html>")


def test_the_parser_of_these_tests_sees_what_is_wrong() -> None:
    assert Balanced("<p><b>x</p></b>").wrong
    assert Balanced("<p>").wrong == ["p"]
    assert Balanced('<a href="x" href="y"></a>').wrong == ["a href twice"]


def test_text_is_escaped_wherever_it_stands() -> None:
    found = Balanced(example())
    assert "b" not in found.tags
    assert found.text.count(NASTY) == 12  # four of title and headings, caption, head, row …
    assert "lead" in found.text


@pytest.mark.parametrize(
    ("cells", "is_number"),
    [
        ([1, None], True),
        (["+0.021 (+0.016 to +0.026)", "-0.1"], True),
        (["12.5%", "1,234"], True),
        (["2011-10-10", "2011-10-10T10:00:00Z"], True),
        (["0.1", "recency"], False),
        (["3 of 6", "2 of 6"], False),
    ],
)
def test_numbers_are_aligned_to_the_right(cells: list[str | int | None], is_number: bool) -> None:
    made = table(["name", "cells"], [["row", cell] for cell in cells])
    assert made.count('class="number"') == (3 if is_number else 0)  # the head and two cells


def test_a_table_without_rows_has_its_head() -> None:
    assert Balanced(table(["a", "b"], [])).text == "a b"


def test_one_row_can_be_set_apart() -> None:
    made = table(["a", "b"], [["x", 1], ["y", 2]], own="y")
    assert made.count('class="own"') == 1
    assert '<tr class="own"><th scope="row">y' in made


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        table(["a", "b"], [["x"]])
