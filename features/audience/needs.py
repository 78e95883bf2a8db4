"""Needs: what behaviour tells that a user is after, by the rules of `needs.toml`.

A need is told from the event on that first fulfils one of its rules. Any event that fits a rule (even if the rule is
not fulfilled again) is evidence and keeps it alive; it ends when none came for `ends_after_days`, or with a purchase of
what ends it, and only what came after that purchase can tell it anew. A need of a stage of life turns into the next
stage some days after it was told, or at once when the next stage's own rule is fulfilled; from then on evidence of
either keeps it alive, and the stages before are not told beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.audience.directory import Directory
from features.audience.goods import Matchers
from features.audience.needs_table import Goods, Need
from features.audience.needs_table import NeedsTable as NeedsTable
from features.audience.needs_table import load_needs as load_needs
from features.audience.spells import Seen, fires_in_turn, fires_on_days, spells_of_chain, spells_of_one
from features.events import columns as c
from features.timeline import Array, Timeline

SHOWN = 5  # events of evidence that a tag carries


@dataclass(frozen=True)
class Evidence:
    """An event that speaks for a need; `ts` in µs."""

    ts: int
    kind: str
    item_id: str | None
    category: str | None


@dataclass(frozen=True)
class NeedTag:
    """A need of a user at a moment.

    Attributes:
        since: µs; the event that first fulfilled a rule in the present spell, or when it moved on to this need.
        last: µs; its newest evidence.
        ends: µs; when it ends if nothing more comes.
        strength: 0 to 1: 1 - 2^-S, S the sum of 2^(-age / half-life) over the dates with evidence. One date just now
            gives .5, three give .88.
        evidence: the newest first, one event a date and kind of goods, at most SHOWN.
    """

    name: str
    since: int
    last: int
    ends: int
    strength: float
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class _Compiled:
    """A need with the columns of `Matchers` that its goods have."""

    need: Need
    on_days: list[int]
    in_turn: list[tuple[int, int]]
    ended_by: int | None

    @property
    def parts(self) -> list[int]:
        return [*self.on_days, *(column for turn in self.in_turn for column in turn)]

    @property
    def keeps(self) -> int:
        return self.need.ends_after_days * c.DAY


class Needs:
    """A table of needs, made ready for the words of one store."""

    def __init__(self, table: NeedsTable, directory: Directory) -> None:
        self.table = table
        asked: list[tuple[Goods, Sequence[str]]] = []

        def column(goods: Goods, kinds: Sequence[str]) -> int:
            asked.append((goods, kinds))
            return len(asked) - 1

        self._needs = [
            _Compiled(
                need,
                [column(rule, rule.kinds) for rule in need.on_days],
                [(column(turn.first, turn.kinds), column(turn.then, turn.kinds)) for turn in need.in_turn],
                None if need.ended_by is None else column(need.ended_by, ["purchase"]),
            )
            for need in table.needs
        ]
        self._chains = [[self._needs[number] for number in chain] for chain in table.chains()]
        self._order = {need.name: number for number, need in enumerate(table.needs)}
        self._matchers = Matchers(asked, directory)

    def tags(self, timeline: Timeline, as_of: int) -> list[list[NeedTag]]:
        """The needs of each user as of a moment (µs), in the order of the table, from what was known then.

        Codes that the store did not have when this was made (of items that a request brings) fit no rule.
        """
        known = timeline.known_before(as_of)
        seen = self._matchers.seen(known, as_of)
        tags: list[list[NeedTag]] = [[] for _ in range(len(known))]
        for chain in self._chains if seen.ts.size else ():
            for user, tag in self._tags_of(chain, known, seen, as_of):
                tags[user].append(tag)
        for some in tags:
            some.sort(key=lambda tag: self._order[tag.name])
        return tags

    def _tags_of(self, chain: list[_Compiled], known: Timeline, seen: Seen, as_of: int) -> list[tuple[int, NeedTag]]:
        evidence = [_any(seen.fits[:, one.parts]) for one in chain]
        ended = [_column(seen, one.ended_by) for one in chain]
        fires = [_fires(one, seen, ended[number]) for number, one in enumerate(chain)]
        if len(chain) == 1:
            spells = spells_of_one(seen, evidence[0], fires[0], ended[0], chain[0].keeps, as_of)
        else:
            keeps = [one.keeps for one in chain]
            stays = [one.need.moves_on.after_days * c.DAY if one.need.moves_on else c.NEVER for one in chain]
            spells = spells_of_chain(seen, evidence, fires, ended, keeps, stays, as_of)
        found = []
        for spell in spells:
            so_far = chain[: spell.stage + 1]
            need, parts = chain[spell.stage].need, [part for one in so_far for part in one.parts]
            rows = seen.rows_of(spell.user)
            begin = max(spell.after, min(_reaches_back(one, spell.begin) for one in so_far) - 1)
            rows = rows[(seen.ts[rows] > begin) & _any(seen.fits[rows][:, parts])]
            shown = self._evidence(known, seen, rows, parts)
            ends = spell.last + chain[spell.stage].keeps
            strength = _strength(seen.ts[rows], as_of, need.half_life_days)
            found.append((spell.user, NeedTag(need.name, spell.since, spell.last, ends, strength, shown)))
        return found

    def _evidence(self, known: Timeline, seen: Seen, rows: Array, parts: list[int]) -> tuple[Evidence, ...]:
        """The newest event of each date and goods; of one instant the first by its texts, which no code may decide."""
        picked: dict[tuple[int, bytes], tuple[tuple[int, str, str, str], Evidence]] = {}
        oldest = c.NEVER
        for row in rows[::-1].tolist():
            if len(picked) >= SHOWN and seen.ts[row] < oldest:
                break
            told = Evidence(*self._matchers.told(known, seen, row))
            place = (-told.ts, told.kind, told.item_id or "", told.category or "")
            key = (told.ts // c.DAY, seen.fits[row, parts].tobytes())
            if key not in picked or place < picked[key][0]:
                picked[key], oldest = (place, told), min(oldest, told.ts)
        return tuple(told for _, told in sorted(picked.values(), key=lambda one: one[0])[:SHOWN])


def _any(fits: Array) -> Array:
    any_of: Array = np.logical_or.reduce(fits, axis=1)
    return any_of


def _column(seen: Seen, column: int | None) -> Array:
    return np.zeros(seen.ts.size, bool) if column is None else seen.fits[:, column]


def _fires(one: _Compiled, seen: Seen, ended: Array) -> Array:
    """bool[events seen]: fulfils a rule."""
    fires = np.zeros(seen.ts.size, bool)
    epoch = seen.epoch(ended)
    for rule, column in zip(one.need.on_days, one.on_days, strict=True):
        fires |= fires_on_days(seen, epoch, seen.fits[:, column], rule.days, rule.span)
    for turn, (first, then) in zip(one.need.in_turn, one.in_turn, strict=True):
        fires |= fires_in_turn(seen, epoch, seen.fits[:, first], seen.fits[:, then], turn.within_days * c.DAY)
    return fires


def _reaches_back(one: _Compiled, since: int) -> int:
    """The earliest instant whose events can have fulfilled a rule at `since`."""
    days = [(since // c.DAY - rule.span + 1) * c.DAY for rule in one.need.on_days]
    return min([since, *days, *(since - turn.within_days * c.DAY for turn in one.need.in_turn)])


def _strength(ts: Array, as_of: int, half_life_days: int) -> float:
    newest = {instant // c.DAY: instant for instant in ts.tolist()}  # in time order, so the last one stays
    return float(1 - 2 ** -sum(2 ** (-(as_of - instant) / c.DAY / half_life_days) for instant in newest.values()))
