"""Needs told in simulated shops, beside the truth.

    python -m benchmarks.needs                                   # five shops of 5,000 users, about three minutes
    python -m benchmarks.needs --users 1000 --seeds 2

Writes `results/needs.json` and prints tables. Each shop is simulated with `needs` (four of ten users get a need, three
of ten others look at such goods for a few days and need nothing) and read with `needs.toml` beside this file, whose
settings were tried on seed 1; `days` is then varied in the first form of rule. A tag is right if the user has that
need, in that stage of life, at the moment. Of the wrong ones is told what they are: a need that is over, the other
stage of the life that the user is in, goods that the user likes at all times, or chance. All figures are of simulated
shops.
"""

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.causes import shop
from features.audience.directory import Directory
from features.audience.needs import Needs, NeedsTable
from features.events.columns import ANONYMOUS, DAY
from features.events.store import Store
from features.tables import read_table
from features.timeline import Array, Timeline
from training.simulation.needs import NEXT_STAGE

TABLE = Path(__file__).with_name("needs.toml")
OUT = Path(__file__).parent / "results" / "needs.json"
SEEDS = (2, 3, 4, 5, 6)
DAYS = 240
MOMENTS = range(100, DAYS, 20)  # days of the log at which tags are held against the truth
LOOK_EVERY = 10  # days; no need ends sooner, so that no spell is missed
VARIED = (2, 3, 4)
RESAMPLES = 500
LIKED = "likes such goods"  # at all times: the user's taste, which is no need


@dataclass
class Counts:
    """Tags and needs of each user over the moments, and how soon needs were told.

    Attributes:
        right, told, true: by user, one element a user of any of the shops.
        forms: right, told and true by form of rule: need (days running), pair (one, then the other), stage (of life).
        wrong: tags by what they are.
        days: from the first evidence of a need to its tag, of those told.
        begun: needs of which there was any evidence; some are never told.
    """

    right: list[int] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    true: list[int] = field(default_factory=list)
    forms: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    wrong: Counter[str] = field(default_factory=Counter)
    days: list[float] = field(default_factory=list)
    begun: int = 0


def main() -> None:
    """Run all seeds and print what they gave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=5_000)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    given = parser.parse_args()
    shipped = read_table(TABLE, NeedsTable)
    variants = {"as in needs.toml": shipped} | {f"{days} days running": with_days(shipped, days) for days in VARIED}
    counts = {name: Counts() for name in variants}
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as folder:
            store, users = shop("needs", given.users, seed, Path(folder), DAYS)
            truth = Truth(users, pd.read_parquet(Path(folder) / "truth" / "needs.parquet"))
            for name, table in variants.items():
                add_shop(counts[name], store, Needs(table, Directory(store)), truth)
        print(f"seed {seed}: measured", flush=True)
    found = {
        "simulated": {"users": given.users, "days": DAYS, "seeds": given.seeds, "parameters": "needs"},
        "moments": list(MOMENTS),
        "variants": {name: figures(one) for name, one in counts.items()},
    }
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    show(found)


def with_days(table: NeedsTable, days: int) -> NeedsTable:
    """The table with other days running in its first form of rule."""
    needs = [
        need.model_copy(
            update={"on_days": tuple(r.model_copy(update={"days": days, "within": None}) for r in need.on_days)}
        )
        for need in table.needs
    ]
    return NeedsTable(needs=tuple(needs))


class Truth:
    """Who needs what when, in µs."""

    def __init__(self, users: pd.DataFrame, needs: pd.DataFrame) -> None:
        self.users = users.index.to_list()
        self.taste = {user: set(row) for user, *row in users[[f"taste_{n}" for n in range(1, 5)]].itertuples()}
        begin, until, moved = (micros(needs[name]) for name in ("from", "until", "moved_at"))
        self.needs = dict(zip(needs["user_id"], zip(needs["need"], begin, until, moved, strict=True), strict=True))

    def at(self, user: str, moment: int) -> str | None:
        """The need a user has."""
        name, begin, until, moved = self.needs.get(user, ("", 0, 0, 0))
        if not begin < moment < until:
            return None
        return NEXT_STAGE if moved <= moment else str(name)

    def what(self, user: str, name: str, moment: int, categories: set[str]) -> str:
        """What a wrong tag is."""
        own, begin, until, moved = self.needs.get(user, ("", 0, 0, 0))
        if own and begin < moment and name in (own, NEXT_STAGE if moved <= moment else own):
            return "need is over" if until <= moment else "other stage"
        if own and own.startswith("stage") and name.startswith("stage") and begin < moment < until:
            return "other stage"
        return LIKED if self.taste[user] & categories else "chance"


def micros(times: pd.Series) -> list[int]:
    """Never for none."""
    return times.fillna(pd.Timestamp("2200-01-01")).to_numpy().astype("datetime64[us]").astype(np.int64).tolist()


def add_shop(counts: Counts, store: Store, needs: Needs, truth: Truth) -> None:
    """Count the tags of a shop at the moments, and how soon its needs were told."""
    start, timelines = store.span[0] // DAY * DAY, list(store.timelines())
    goods = {need.name: categories_of(needs.table, need.name) for need in needs.table.needs}
    place = {user: number for number, user in enumerate(truth.users)}
    right, told, true = (np.zeros(len(place), int) for _ in range(3))
    since: dict[tuple[str, str], list[int]] = {}
    for day in range(LOOK_EVERY, DAYS + 1, LOOK_EVERY):
        moment = start + day * DAY
        for user, tag in tags_at(timelines, needs, moment):
            since.setdefault((user, tag.name), []).append(tag.since)
            if day not in MOMENTS:
                continue
            told[place[user]] += 1
            form = counts.forms[tag.name.split("_")[0]]
            form["told"] += 1
            if truth.at(user, moment) == tag.name:
                right[place[user]] += 1
                form["right"] += 1
            else:
                counts.wrong[truth.what(user, tag.name, moment, goods[tag.name])] += 1
        if day in MOMENTS:
            for user, number in place.items():
                if name := truth.at(user, moment):
                    true[number] += 1
                    counts.forms[name.split("_")[0]]["true"] += 1
    for total, own in ((counts.right, right), (counts.told, told), (counts.true, true)):
        total.extend(own.tolist())
    first = first_evidence(store, needs.table, truth)
    counts.begun += len(first)
    for user, ts in first.items():
        name, begin, until, _ = truth.needs[user]
        # A tag that chance or liking had told before the need began was there from its first evidence on.
        times = [max(at, ts) for at in since.get((user, name), []) if begin <= at < until]
        if times:
            counts.days.append((min(times) - ts) / DAY)


def tags_at(timelines: Sequence[Timeline], needs: Needs, moment: int) -> Iterator[tuple[str, Any]]:
    """Tags of users, not of devices."""
    for timeline in timelines:
        for user, tags in zip(timeline.user_ids.to_pylist(), needs.tags(timeline, moment), strict=True):
            if not user.startswith(ANONYMOUS):
                for tag in tags:
                    yield user, tag


def categories_of(table: NeedsTable, name: str) -> set[str]:
    """Categories that a need's rules name."""
    need = next(one for one in table.needs if one.name == name)
    turns = [goods for turn in need.in_turn for goods in (turn.first, turn.then)]
    return {category for goods in (*need.on_days, *turns) for category in goods.categories}


def first_evidence(store: Store, table: NeedsTable, truth: Truth) -> dict[str, int]:
    """When each user with a need first looked at its goods while having it, µs."""
    goods = {need.name: categories_of(table, need.name) for need in table.needs}
    paths = store.words["category"].texts
    out = {}
    for timeline in store.timelines():
        category, ts = timeline.column("category"), timeline.columns["ts"]
        for number, user in enumerate(timeline.user_ids.to_pylist()):
            if user not in truth.needs:
                continue
            name, begin, until, _ = truth.needs[user]
            rows = slice(int(timeline.offsets[number]), int(timeline.offsets[number + 1]))
            fits = np.isin(category[rows], [code for code, path in enumerate(paths) if path in goods[name]])
            seen = ts[rows][fits & (ts[rows] >= begin) & (ts[rows] < until)]
            if seen.size:
                out[user] = int(seen[0])
    return out


def figures(counts: Counts) -> dict[str, Any]:
    """Precision and recall with intervals of 95 % over users, what wrong tags are, and days until told."""
    right, told, true = (np.array(x) for x in (counts.right, counts.told, counts.true))
    wrong = sum(counts.wrong.values())
    return {
        "tags": int(told.sum()),
        "needs": int(true.sum()),
        "precision": share(right, told),
        "recall": share(right, true),
        "precision_but_for_liking": round(right.sum() / max(told.sum() - counts.wrong[LIKED], 1), 3),
        "forms": {
            name: {
                "precision": round(one["right"] / max(one["told"], 1), 3),
                "recall": round(one["right"] / max(one["true"], 1), 3),
            }
            for name, one in sorted(counts.forms.items())
        },
        "wrong": {name: round(count / max(wrong, 1), 3) for name, count in counts.wrong.most_common()},
        "ever_told": round(len(counts.days) / max(counts.begun, 1), 3),
        "begun": counts.begun,
        "days_to_tag": [round(float(q), 2) for q in np.quantile(counts.days or [np.nan], [0.25, 0.5, 0.75])],
    }


def share(part: Array, whole: Array) -> list[float]:
    """The share, and the interval of 95 % by bootstrap over users."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, part.size, part.size) for _ in range(RESAMPLES)]
    low, high = np.quantile([part[rows].sum() / max(whole[rows].sum(), 1) for rows in drawn], [0.025, 0.975])
    return [round(float(x), 3) for x in (part.sum() / max(whole.sum(), 1), low, high)]


def show(found: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"\n{found['simulated']}, at {len(found['moments'])} moments\n")
    print("rules              precision             recall                ever told  days to tag (quartiles)")
    for name, one in found["variants"].items():
        spans = ["{:.3f} ({:.3f}–{:.3f})".format(*one[what]) for what in ("precision", "recall")]
        print(f"{name:<18} {spans[0]}   {spans[1]}   {one['ever_told']:>9.1%}  {one['days_to_tag']}")
    print("\nprecision and recall by form of rule; last, precision without the wrong tags of")
    print("users who like such goods at all times, whose right tags still count: it flatters")
    for name, one in found["variants"].items():
        forms = "  ".join(f"{form} {x['precision']:.3f} {x['recall']:.3f}" for form, x in one["forms"].items())
        print(f"{name:<18} {forms}   {one['precision_but_for_liking']:.3f}")
    print("\nwrong tags, shares")
    for name, one in found["variants"].items():
        print(f"{name:<18} {one['wrong']}")


if __name__ == "__main__":
    main()
