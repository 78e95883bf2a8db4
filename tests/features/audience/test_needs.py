"""Needs: rules told by hand and by a slow walk, and the laws."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.audience.directory import Directory
from features.audience.needs import Needs, NeedTag
from features.audience.needs_table import Goods, Need, NeedsTable, load_needs
from features.errors import UserError
from features.events.columns import DAY
from features.events.store import Store
from features.tables import parse_table
from tests.features.support import at, ingest_frame

ITEMS = {
    "pram": ("Baby Pram, blue", "baby > prams"),
    "prism": ("Pramesque prism", "toys > prisms"),
    "jacket": ("Down  Jacket (L)", "clothes > coats"),
    "warmer": ("Hand warmers, 2 pairs", "clothes > small"),
    "羽": ("男士羽绒服 黑色", "服装 > 外套"),
    "plain": ("", ""),
    "rattle": ("Rattle", "baby"),
}
DAY_0 = "2024-03-0"


def table(text: str) -> NeedsTable:
    return parse_table(text, NeedsTable, "needs.toml")


def need(name: str, rules: str, more: str = "") -> str:
    return f'[[needs]]\nname = "{name}"\nen = "{name}"\nzh = "{name}"\n{more}{rules}\n'


PRAM = need("pram", '[[needs.on_days]]\nwords = ["pram"]\ndays = 3')
WARM = need(
    "warm",
    '[[needs.in_turn]]\nfirst = { words = ["down jacket"] }\nthen = { words = ["hand warmers"] }\nwithin_days = 5',
)


def row(user: str, ts: str, item: str | None = "pram", kind: str = "view", **more: Any) -> dict[str, Any]:
    return {"user_id": user, "ts": pd.Timestamp(ts), "kind": kind, "item_id": item, **more}


def stored(rows: Sequence[Mapping[str, Any]], folder: Path) -> Store:
    log = pd.DataFrame(list(rows)).assign(event_id=[f"e{number}" for number in range(len(rows))])
    names = [{"item_id": item, "name": name, "category": path or None} for item, (name, path) in ITEMS.items()]
    store = ingest_frame(log, folder / "store", items=pd.DataFrame(names)).store
    assert store is not None
    return store


def tags_of(store: Store, needs: Needs, as_of: int) -> dict[str, list[NeedTag]]:
    out: dict[str, list[NeedTag]] = {}
    for timeline in store.timelines():
        out |= dict(zip(timeline.user_ids.to_pylist(), needs.tags(timeline, as_of), strict=True))
    return out


def told(rows: Sequence[Mapping[str, Any]], text: str, as_of: str, folder: Path) -> dict[str, list[NeedTag]]:
    store = stored(rows, folder)
    return tags_of(store, Needs(table(text), Directory(store)), at(as_of))


def spans(tags: Sequence[NeedTag]) -> list[tuple[str, str, str]]:
    return [(tag.name, day_of(tag.since), day_of(tag.last)) for tag in tags]


def day_of(ts: int) -> str:
    return str(np.datetime64(ts, "us"))[:10]


# ------------------------------------------------------------------------------------------------------ by hand


def test_three_days_running_and_no_fewer_and_no_gap(tmp_path: Path) -> None:
    rows = [row("runs", f"{DAY_0}{day} 09:00") for day in (1, 2, 3, 6)]
    rows += [row("twice a day", f"{DAY_0}{day} {hour}:00") for day in (1, 2) for hour in (10, 11, 12)]
    rows += [row("gap", f"{DAY_0}{day} 09:00") for day in (1, 2, 4, 5)]
    rows += [row("midnight", f"{DAY_0}{day}") for day in (1, 2, 3)]
    rows += [row("part of a word", f"{DAY_0}{day}", "prism") for day in (1, 2, 3)]
    rows += [row("searches", f"{DAY_0}{day}", kind="search") for day in (1, 2, 3)]
    found = told(rows, PRAM, "2024-03-07", tmp_path)
    assert {user: spans(tags) for user, tags in found.items() if tags} == {
        "runs": [("pram", "2024-03-03", "2024-03-06")],
        "midnight": [("pram", "2024-03-03", "2024-03-03")],
    }
    assert found["runs"][0].ends == at("2024-03-06 09:00") + 30 * DAY
    assert [e.ts for e in found["runs"][0].evidence] == [at(f"{DAY_0}{day} 09:00") for day in (6, 3, 2, 1)]
    assert {(e.kind, e.item_id, e.category) for e in found["runs"][0].evidence} == {("view", "pram", "baby > prams")}


def test_some_days_of_several(tmp_path: Path) -> None:
    rows = [row("u", f"{DAY_0}{day}") for day in (1, 3, 5)]
    for within, expected in ((4, []), (5, [("pram", "2024-03-05", "2024-03-05")])):
        text = PRAM + f"within = {within}\n"
        assert spans(told(rows, text, "2024-03-06", tmp_path / str(within))["u"]) == expected


def test_one_then_the_other_within_days_and_not_the_other_way_round(tmp_path: Path) -> None:
    rows = [row("in turn", f"{DAY_0}1", "jacket"), row("in turn", f"{DAY_0}6", "warmer")]
    rows += [row("too late", f"{DAY_0}1", "jacket"), row("too late", f"{DAY_0}6 00:00:00.000001", "warmer")]
    rows += [row("other way", f"{DAY_0}1", "warmer"), row("other way", f"{DAY_0}2", "jacket")]
    rows += [row("at once", f"{DAY_0}1", "warmer"), row("at once", f"{DAY_0}1", "jacket")]
    rows += [row("one only", f"{DAY_0}{day}", "warmer") for day in (1, 2, 3)]
    found = told(rows, WARM, "2024-03-08", tmp_path)
    assert {user: spans(tags) for user, tags in found.items() if tags} == {
        "in turn": [("warm", "2024-03-06", "2024-03-06")]
    }
    assert [e.item_id for e in found["in turn"][0].evidence] == ["warmer", "jacket"]


def test_it_ends_without_new_evidence_and_a_later_spell_is_new(tmp_path: Path) -> None:
    text = need("pram", '[[needs.on_days]]\nwords = ["pram"]\ndays = 2', "ends_after_days = 10\n")
    rows = [row("u", f"2024-03-{day:02}") for day in (1, 2, 11, 21, 22)] + [row("u", "2024-06-01", "plain")]
    store = stored(rows, tmp_path)
    needs = Needs(table(text), Directory(store))
    for moment, expected in (
        ("2024-03-02", []),
        ("2024-03-02 00:00:00.000001", [("pram", "2024-03-02", "2024-03-02")]),
        ("2024-03-20", [("pram", "2024-03-02", "2024-03-11")]),
        ("2024-03-21", []),
        ("2024-03-21 10:00", []),  # exactly ten days later it had ended: one view is no new spell
        ("2024-03-23", [("pram", "2024-03-22", "2024-03-22")]),
        ("2024-04-01", []),
    ):
        assert spans(tags_of(store, needs, at(moment))["u"]) == expected, moment


def test_strength_halves_by_the_date(tmp_path: Path) -> None:
    text = need("pram", '[[needs.on_days]]\nwords = ["pram"]\ndays = 2', "half_life_days = 4\nends_after_days = 90\n")
    rows = [row("u", ts) for ts in ("2024-03-01 12:00", "2024-03-02 06:00", "2024-03-02 12:00")]
    store = stored(rows, tmp_path)
    needs = Needs(table(text), Directory(store))
    for moment, ages in (("2024-03-02 12:00:00.000001", (1, 0)), ("2024-03-09 12:00", (8, 7))):
        tag = tags_of(store, needs, at(moment))["u"][0]
        assert tag.strength == pytest.approx(1 - 2 ** -sum(2 ** (-age / 4) for age in ages))


def test_a_purchase_of_what_ends_it_ends_it(tmp_path: Path) -> None:
    text = need("pram", '[[needs.on_days]]\nwords = ["pram"]\ndays = 2', 'ended_by = { categories = ["baby"] }\n')
    days = {"bought": (1, 2), "and looks on": (1, 2, 4), "and needs it again": (1, 2, 4, 5)}
    rows = [row(user, f"{DAY_0}{day}") for user, seen in days.items() for day in seen]
    rows += [row(user, f"{DAY_0}3", "rattle", "purchase") for user in days]
    rows += [row("only a view", f"{DAY_0}{day}", item) for day, item in ((1, "pram"), (2, "pram"), (3, "rattle"))]
    rows += [row("between", f"{DAY_0}{day}") for day in (3, 4)]
    rows += [row("between", f"{DAY_0}3 12:00", "rattle", "purchase")]
    found = told(rows, text, "2024-03-06", tmp_path)
    assert {user: spans(tags) for user, tags in found.items() if tags} == {
        "and needs it again": [("pram", "2024-03-05", "2024-03-05")],
        "only a view": [("pram", "2024-03-02", "2024-03-02")],
    }
    assert len(found["and needs it again"][0].evidence) == 2


CHILD = (
    need(
        "expecting", '[[needs.on_days]]\nwords = ["pram"]\ndays = 2', 'moves_on = { to = "baby", after_days = 20 }\n'
    ).replace("moves_on", "ends_after_days = 15\nmoves_on")
    + need("baby", '[[needs.on_days]]\nwords = ["rattle"]\ndays = 2', 'moves_on = { to = "child", after_days = 30 }\n')
    + need("child", "", "ends_after_days = 60\n")
)


def test_a_stage_of_life_moves_on(tmp_path: Path) -> None:
    days = {
        "keeps looking": (("pram", (1, 2, 12, 20, 40)),),
        "looks no more": (("pram", (1, 2)),),
        "tells sooner": (("pram", (1, 2)), ("rattle", (7, 8))),
        "was there already": (("rattle", (1, 2)), ("pram", (8, 9))),
    }
    rows = [
        row(user, str(pd.Timestamp("2024-03-01") + pd.Timedelta(days=day - 1)), item)
        for user, what in days.items()
        for item, seen in what
        for day in seen
    ] + [row("somebody", "2024-09-01", "plain")]
    store = stored(rows, tmp_path)
    needs = Needs(table(CHILD), Directory(store))
    for moment, expected in (
        (
            "2024-03-10",
            {
                "keeps looking": [("expecting", "2024-03-02", "2024-03-02")],
                "looks no more": [("expecting", "2024-03-02", "2024-03-02")],
                "tells sooner": [("baby", "2024-03-08", "2024-03-08")],
                "was there already": [("baby", "2024-03-02", "2024-03-09")],
            },
        ),
        (
            "2024-03-22",  # twenty days after the second of March
            {
                "keeps looking": [("baby", "2024-03-22", "2024-03-20")],
                "tells sooner": [("baby", "2024-03-08", "2024-03-08")],
                "was there already": [("baby", "2024-03-02", "2024-03-09")],
            },
        ),
        (
            "2024-04-22",
            {
                "keeps looking": [("child", "2024-04-21", "2024-04-09")],
                "was there already": [("child", "2024-04-01", "2024-03-09")],
            },
        ),
        ("2024-06-08", {}),
    ):
        found = {user: spans(tags) for user, tags in tags_of(store, needs, at(moment)).items() if tags}
        assert found == expected, moment


def test_goods_are_found_by_words_and_paths(tmp_path: Path) -> None:
    def who(goods: str) -> set[str]:
        text = need("x", f"[[needs.on_days]]\n{goods}\ndays = 1")
        return {
            user
            for user, tags in tags_of(store, Needs(table(text), Directory(store)), at("2024-03-10")).items()
            if tags
        }

    own = [row("own category", f"{DAY_0}1", None, category="baby > prams > light")]
    store = stored([row(item, f"{DAY_0}1", item, category=None) for item in ITEMS] + own, tmp_path)
    assert who('words = ["DOWN JACKET"]') == {"jacket"}
    assert who('words = ["down"]') == {"jacket"}
    assert who('words = ["jack", "own jacket"]') == set()
    assert who('words = ["羽绒服"]') == {"羽"}
    assert who('words = ["外套"]') == {"羽"}
    assert who('words = ["prams"]') == {"pram", "own category"}
    assert who('categories = ["Baby"]') == {"pram", "rattle", "own category"}
    assert who('categories = ["baby > prams"]') == {"pram", "own category"}
    assert who('categories = ["bab", "prams"]') == set()
    assert who('words = ["unheard-of"]\ncategories = ["nowhere"]') == set()


def test_the_shipped_table_is_whole_and_a_store_without_names_or_categories_fails_nothing(small_store: Store) -> None:
    shipped = load_needs()
    assert shipped.after("expecting") == ["expecting", "baby_0_1", "child_1_3"]
    assert all(any("\u4e00" <= letter <= "\u9fff" for letter in text) for text in shipped.texts("zh").values())
    assert set(shipped.texts("en")) == {one.name for one in shipped.needs}
    for needs in (shipped, NeedsTable()):
        assert not any(tags_of(small_store, Needs(needs, Directory(small_store)), at("2024-07-01")).values())


# ---------------------------------------------------------------------------------------------------- bad files


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (
            PRAM.replace("days = 3", "day = 3"),
            7,
            "day is not a setting; there are categories, words, kinds, days, within",
        ),
        (PRAM.replace("days = 3", "days = 0"), 7, "days is 0: .*greater than or equal to 1"),
        (PRAM.replace("days = 3", "days = 4\nwithin = 3"), 8, "within is 3: .* use 4 or more"),
        (PRAM.replace('words = ["pram"]', 'kinds = ["look"]'), 6, "is 'look'; use 'view', 'favourite'"),
        (PRAM.replace('words = ["pram"]\n', ""), 5, "names no goods; set categories, words or both"),
        (PRAM.replace('"pram"]', '"!?"]'), 6, "has '!\\?', in which there is no letter"),
        (PRAM + PRAM, 9, "name is 'pram', as that of another need"),
        (need("pram", ""), 1, "needs pram has no rule"),
        (
            CHILD.replace('"baby", after', '"babe", after'),
            6,
            "is to 'babe', which is not a need; there are baby, child",
        ),
        (
            CHILD + PRAM.replace("[[needs.", 'moves_on = { to = "baby", after_days = 3 }\n[[needs.'),
            28,
            "another need moves",
        ),
        (CHILD.replace("ends_after_days = 60", 'moves_on = { to = "expecting", after_days = 9 }'), 6, "leads back"),
        (WARM.replace("within_days = 5", "within_days = 400"), 8, "within_days is 400: .*less than or equal to 366"),
        (WARM.replace('words = ["down jacket"]', ""), 6, "first names no goods"),
        (PRAM.replace('zh = "pram"', ""), 1, "zh is missing"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        table(text)
    assert str(refused.value).startswith(f"needs.toml:{line}: ")


# --------------------------------------------------------------------------------------- a slow walk, and the laws

MANY = (
    need("pram", '[[needs.on_days]]\nwords = ["pram"]\ndays = 2\nkinds = ["view"]', "ends_after_days = 4\n")
    + need(
        "warm",
        WARM[WARM.index("[[needs.in") :] + '\n[[needs.on_days]]\ncategories = ["clothes"]\ndays = 3\nwithin = 6',
        'ended_by = { words = ["jacket", "rattle"] }\nends_after_days = 6\n',
    )
    + CHILD.replace('days = 2\n\n[[needs]]\nname = "child', 'days = 1\n\n[[needs]]\nname = "child')
    .replace("ends_after_days = 15", 'ends_after_days = 5\nended_by = { words = ["prism"] }')
    .replace("after_days = 20", "after_days = 7")
    .replace("after_days = 30", "after_days = 9")
)
MOMENTS = ("2024-02-10", "2024-02-19 12:00", "2024-03-04 06:00", "2024-03-20")


def random_rows(seed: int, users: int = 40, rows: int = 1_100) -> list[dict[str, Any]]:
    """Events at few instants, so that many coincide and many fall on borders; some arrive late."""
    rng = np.random.default_rng(seed)
    start = pd.Timestamp("2024-02-01")
    items = [*ITEMS, None]
    out = []
    for _ in range(rows):
        ts = start + pd.Timedelta(hours=6 * int(rng.integers(0, 160)))
        own = rng.choice(["baby > prams", "clothes/coats", "nothing"]) if rng.random() < 0.2 else None
        arrived = ts + pd.Timedelta(hours=6 * int(rng.integers(1, 20))) if rng.random() < 0.1 else pd.NaT
        user, item = f"u{int(rng.integers(0, users) * rng.random()):02}", items[rng.integers(0, len(items))]
        kind = str(rng.choice(["view", "view", "view", "cart", "purchase", "search"]))
        out.append(row(user, str(ts), item, kind, category=own, arrived_at=arrived))
    return out


class Walk:
    """Needs of one user, event by event, with nothing but the words of the rules."""

    def __init__(self, chain: list[Need], rows: Sequence[Mapping[str, Any]], as_of: int) -> None:
        self.chain, self.rows, self.now = chain, rows, as_of
        self.stage: int | None = None
        self.begin = self.since = self.last = 0

    def answer(self) -> tuple[str, int, int] | None:
        for ts in sorted({int(r["us"]) for r in self.rows}):
            self.time(ts)
            here = [r for r in self.rows if r["us"] == ts]
            for number, one in enumerate(self.chain):
                if self.fulfilled(one, ts) and (self.stage is None or number > self.stage):
                    self.begin = ts if self.stage is None else self.begin
                    self.stage, self.since = number, ts
            self.last = self.newest(ts)
            ender = self.chain[self.stage].ended_by if self.stage is not None else None
            if ender and any(fits(ender, ["purchase"], r) for r in here):
                self.stage = None
        self.time(self.now)
        return None if self.stage is None else (self.chain[self.stage].name, self.since, self.last)

    def newest(self, until: int) -> int:
        """The newest event, of the spell so far, about goods of the present stage or one before."""
        stages = self.chain[: self.stage + 1] if self.stage is not None else []
        rows = [r for r in self.rows if self.begin <= r["us"] <= until]
        return max((r["us"] for r in rows for s in stages if any(fits(*g, r) for g in goods_of(s))), default=0)

    def time(self, until: int) -> None:
        begin = until if self.stage is None else self.last
        for ts in sorted({*range(begin, until, DAY // 4), until}):  # a quarter of a day at a time
            while self.stage is not None:
                one = self.chain[self.stage]
                if ts >= self.last + one.ends_after_days * DAY:
                    self.stage = None
                elif one.moves_on and ts >= self.since + one.moves_on.after_days * DAY:
                    self.stage, self.since = self.stage + 1, self.since + one.moves_on.after_days * DAY
                    self.last = self.newest(ts - 1)
                else:
                    break

    def fulfilled(self, one: Need, now: int) -> bool:
        ended = [r["us"] for r in self.rows if one.ended_by and fits(one.ended_by, ["purchase"], r) and r["us"] < now]
        rows = [r for r in self.rows if max(ended, default=-1) < r["us"] <= now]
        for rule in one.on_days:
            some = [r["us"] for r in rows if fits(rule, rule.kinds, r)]
            dates = {ts // DAY for ts in some if ts // DAY > now // DAY - (rule.within or rule.days)}
            if now in some and len(dates) >= rule.days:
                return True
        for turn in one.in_turn:
            first = [r["us"] for r in rows if fits(turn.first, turn.kinds, r)]
            if any(r["us"] == now and fits(turn.then, turn.kinds, r) for r in rows) and any(
                0 < now - ts <= turn.within_days * DAY for ts in first
            ):
                return True
        return False


def goods_of(one: Need) -> list[tuple[Goods, Sequence[str]]]:
    turns = [(goods, turn.kinds) for turn in one.in_turn for goods in (turn.first, turn.then)]
    return [*((rule, rule.kinds) for rule in one.on_days), *turns]


def fits(goods: Goods, kinds: Sequence[str], r: Mapping[str, Any]) -> bool:
    name, path = ITEMS.get(str(r["item_id"]), ("", ""))
    path = r["category"] or path
    text = f" {name} {path} ".lower().replace(",", " ").replace("(", " ").replace("  ", " ")
    by_path = any(path == one or path.startswith((f"{one} >", f"{one}/")) for one in goods.categories)
    return r["kind"] in kinds and (by_path or any(f" {word} " in text for word in goods.words))


@pytest.mark.parametrize("seed", range(3))
def test_a_slow_walk_tells_the_same(seed: int, tmp_path: Path, tell: Callable[..., None]) -> None:
    rows, needs = random_rows(seed), table(MANY)
    store = stored(rows, tmp_path)
    compiled, seen = Needs(needs, Directory(store)), Counter[str]()
    for moment in map(at, MOMENTS):
        found = tags_of(store, compiled, moment)
        for user, tags in found.items():
            known = [
                {**r, "us": at(str(r["ts"]))}
                for r in rows
                if r["user_id"] == user
                and at(str(r["ts"])) < moment
                and (pd.isna(r["arrived_at"]) or at(str(r["arrived_at"])) <= moment)
            ]
            chains = [[needs.needs[number] for number in chain] for chain in needs.chains()]
            expected = [answer for chain in chains if (answer := Walk(chain, known, moment).answer())]
            assert sorted((tag.name, tag.since, tag.last) for tag in tags) == sorted(expected), (user, moment)
            seen.update(tag.name for tag in tags)
            for tag in tags:
                assert 0 < tag.strength < 1
                assert tag.evidence[0].ts == tag.last < moment < tag.ends
                assert list(tag.evidence) == sorted(tag.evidence, key=lambda e: -e.ts)
    assert len(seen) >= 3
    tell(tags_compared=seen.total())


def test_nothing_at_or_after_the_moment_changes_a_tag(tmp_path: Path, tell: Callable[..., None]) -> None:
    rows = random_rows(7)
    everything, compared = stored(rows, tmp_path / "all"), 0
    for number, moment in enumerate(map(at, MOMENTS)):
        known = [
            r
            for r in rows
            if at(str(r["ts"])) < moment and (pd.isna(r["arrived_at"]) or at(str(r["arrived_at"])) <= moment)
        ]
        past = stored(known, tmp_path / str(number))
        expected = tags_of(past, Needs(table(MANY), Directory(past)), moment)
        found = tags_of(everything, Needs(table(MANY), Directory(everything)), moment)
        assert {user: tags for user, tags in found.items() if tags} == {u: t for u, t in expected.items() if t}
        compared += sum(map(len, expected.values()))
    tell(tags_compared=compared)


def test_order_batches_and_who_else_is_asked_change_nothing(tmp_path: Path, tell: Callable[..., None]) -> None:
    rows = random_rows(8)
    log = pd.DataFrame(rows).assign(event_id=[f"e{number}" for number in range(len(rows))])
    one, moment = stored(rows, tmp_path / "one"), at(MOMENTS[2])
    expected = tags_of(one, Needs(table(MANY), Directory(one)), moment)
    names = [{"item_id": item, "name": name, "category": path or None} for item, (name, path) in ITEMS.items()]
    shuffled = log.sample(frac=1, random_state=1)
    ingest_frame(shuffled[600:], tmp_path / "two")
    other = ingest_frame(shuffled[:600], tmp_path / "two", items=pd.DataFrame(names).iloc[::-1]).store
    assert other is not None
    needs = Needs(table(MANY), Directory(other))
    assert tags_of(other, needs, moment) == expected
    for user, tags in expected.items():
        assert needs.tags(other.timeline_of([user]), moment) == [tags]
    tell(tags_compared=2 * sum(map(len, expected.values())))


def test_goods_the_store_did_not_have_fit_nothing(tmp_path: Path) -> None:
    """As those of a request: tables made for the older words still answer."""
    rows = [row("u", f"{DAY_0}{day}") for day in (1, 2, 3)]
    older = stored(rows, tmp_path)
    needs = Needs(table(PRAM), Directory(older))
    new = [
        {**row("v", f"{DAY_0}{day}", "new pram", category="prams of a new kind"), "event_id": f"n{day}"}
        for day in (1, 2, 3)
    ]
    newer = ingest_frame(pd.DataFrame(new), tmp_path / "store").store
    assert newer is not None
    found = tags_of(newer, needs, at("2024-03-04"))
    assert spans(found["u"]) == [("pram", "2024-03-03", "2024-03-03")]
    assert found["v"] == []


def test_a_device_without_an_account_has_needs_too(tmp_path: Path) -> None:
    rows = [{**row("", f"{DAY_0}{day}"), "user_id": None, "device_id": "d1"} for day in (1, 2, 3)]
    found = told([*rows, row("u", f"{DAY_0}1", device_id="d2")], PRAM, "2024-03-04", tmp_path)
    assert [tag.name for tag in found["device:d1"]] == ["pram"]
