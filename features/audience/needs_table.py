"""The file of needs: which goods, looked at or bought how, tell what a user is after."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from features.tables import Place, Table, read_table

DEFAULT: Final = Path(__file__).with_name("needs.toml")

Kind = Literal["view", "favourite", "cart", "share", "order_placed", "purchase", "review"]
KINDS: Final[tuple[Kind, ...]] = ("view", "favourite", "cart", "purchase")
Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[\w-]+$")]
Kinds = Annotated[tuple[Kind, ...], Field(min_length=1)]
Year = Annotated[int, Field(ge=1, le=366)]
TenYears = Annotated[int, Field(ge=1, le=3660)]


class Goods(Table):
    """Goods: of any of these categories (a path, or the beginning of one), or with any of these words.

    A word is looked for, whole and whatever its case, in the item's name and in the event's category; one with Chinese,
    Japanese or Korean letters, which are written without spaces, also within other text.
    """

    categories: tuple[Text, ...] = ()
    words: tuple[Text, ...] = ()


class OnDays(Goods):
    """Events about these goods on `days` dates (UTC) of `within` successive ones; on days running without `within`."""

    kinds: Kinds = KINDS
    days: Year
    within: Year | None = None

    @property
    def span(self) -> int:
        """The successive dates looked at."""
        return self.within or self.days


class InTurn(Table):
    """An event about the first goods, then one about the others at most `within_days` days (of 24 hours) later."""

    first: Goods
    then: Goods
    within_days: Year
    kinds: Kinds = KINDS


class MovesOn(Table):
    """What a need of a stage of life turns into, so many days after it was first told."""

    to: str
    after_days: TenYears


class Need(Table):
    """A need, told when any of its rules is fulfilled.

    Attributes:
        en, zh: what people read.
        half_life_days: after so many days an event speaks half as strongly.
        ends_after_days: days without any event that fits a rule, after which the need has ended.
        ended_by: goods whose purchase ends it.
    """

    name: Name
    en: Text
    zh: Text
    half_life_days: TenYears = 14
    ends_after_days: TenYears = 30
    ended_by: Goods | None = None
    moves_on: MovesOn | None = None
    on_days: tuple[OnDays, ...] = ()
    in_turn: tuple[InTurn, ...] = ()


class NeedsTable(Table):
    """All needs of a shop."""

    needs: tuple[Need, ...] = ()

    def problems(self) -> Iterator[tuple[Place, str]]:
        """What single fields cannot tell."""
        names = [need.name for need in self.needs]
        successors = [need.moves_on.to for need in self.needs if need.moves_on]
        for number, need in enumerate(self.needs):
            place: Place = ("needs", number)
            if names.index(need.name) < number:
                yield (*place, "name"), f"is {need.name!r}, as that of another need; each needs a name of its own"
            if not need.on_days and not need.in_turn and need.name not in successors:
                yield place, "has no rule and none moves on to it; add [[needs.on_days]] or [[needs.in_turn]]"
            for where, goods in _goods(need):
                yield from _problems_of_goods((*place, *where), goods)
            for at, rule in enumerate(need.on_days):
                if rule.within is not None and rule.within < rule.days:
                    wrong = f"is {rule.within}: within so many days nothing falls on {rule.days} days"
                    yield (*place, "on_days", at, "within"), f"{wrong}; use {rule.days} or more"
        yield from self._problems_of_moves()

    def _problems_of_moves(self) -> Iterator[tuple[Place, str]]:
        names = [need.name for need in self.needs]
        reached: set[str] = set()
        for number, need in enumerate(self.needs):
            if need.moves_on is None:
                continue
            place, to = ("needs", number, "moves_on"), need.moves_on.to
            others = [name for name in names if name != need.name]
            if to not in names:
                yield place, f"is to {to!r}, which is not a need; there are {', '.join(others)}"
            elif need.name in self.after(to):
                yield place, f"is to {to!r}, which leads back to {need.name!r}; stages of life do not come again"
            elif to in reached:
                yield place, f"is to {to!r}, to which another need moves on; let one need lead to it"
            reached.add(to)

    def after(self, name: str) -> list[str]:
        """A need and those that it moves on to in turn."""
        moves = {need.name: need.moves_on.to for need in self.needs if need.moves_on}
        chain = [name]
        while chain[-1] in moves and moves[chain[-1]] not in chain:
            chain.append(moves[chain[-1]])
        return chain

    def chains(self) -> list[list[int]]:
        """Numbers of needs that move on to one another, in turn; most needs stand alone."""
        at = {need.name: number for number, need in enumerate(self.needs)}
        successors = {need.moves_on.to for need in self.needs if need.moves_on}
        return [[at[name] for name in self.after(need.name)] for need in self.needs if need.name not in successors]

    def texts(self, language: Literal["en", "zh"]) -> dict[str, str]:
        """What people read, by name."""
        return {need.name: need.zh if language == "zh" else need.en for need in self.needs}


def load_needs(path: Path | None = None) -> NeedsTable:
    """The shipped needs, or those of a file.

    Raises:
        UserError: the file cannot be read or something in it is wrong; it tells the line and the valid words.
    """
    return read_table(path or DEFAULT, NeedsTable)


def _goods(need: Need) -> Iterator[tuple[Place, Goods]]:
    for number, rule in enumerate(need.on_days):
        yield ("on_days", number), rule
    for number, turn in enumerate(need.in_turn):
        yield ("in_turn", number, "first"), turn.first
        yield ("in_turn", number, "then"), turn.then
    if need.ended_by is not None:
        yield ("ended_by",), need.ended_by


def _problems_of_goods(place: Place, goods: Goods) -> Iterator[tuple[Place, str]]:
    if not goods.categories and not goods.words:
        yield place, "names no goods; set categories, words or both"
    for word in goods.words:
        if not any(letter.isalnum() for letter in word):
            yield (*place, "words"), f"has {word!r}, in which there is no letter and no figure"
    for category in goods.categories:
        if not category.strip():
            yield (*place, "categories"), "has an empty one; a category is a path or the beginning of one"
