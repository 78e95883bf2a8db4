"""The lists that a recommender would have given in place of those of an exposure log, and a plain model of what they
earn, for the estimates of `training.off_policy`.

A list is made anew from the store, as of the moment of the one that was shown, with its mode, scene, cart, excluded
items and filter. Events that came with a request count if they have been ingested since.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import pyarrow as pa
import pyarrow.compute as pc

from features.events.store import Store
from features.timeline import Array
from models.answers import CatalogueCodes, recommend_answers
from models.batch import each_bucket
from models.exposure import ask_again
from models.recommender import Recommender
from training.backtest import show
from training.off_policy import Context, contexts

SPOKEN_FOR = 100  # best ranked items whose head is known; the rest have none
DRAWN = 50.0  # rows that the rate of a wider group weighs as much as, in that of a narrower one

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Replay:
    """A recommender's answers to the questions of a log.

    Attributes:
        ranked: item ids of each question's list, best first, with more than its slots, and the head of each.
    """

    ranked: Mapping[Context, Mapping[str, str]]

    @classmethod
    def of(
        cls, exposures: pa.Table, store: Store, recommender: Recommender, progress: Progress = lambda _: None
    ) -> "Replay":
        """Ask the recommender all that was asked when the exposures were given."""
        codes = CatalogueCodes(store, recommender).of_store
        together: dict[Context, list[Context]] = defaultdict(list)
        asked = dict.fromkeys(contexts(exposures))
        for context in asked:
            together[context._replace(user_id="")].append(context)
        ranked: dict[Context, Mapping[str, str]] = {}
        for about, some in together.items():
            ask = ask_again(about.mode, about.slots, about.scene, about.limits)
            ask = replace(ask, spare=max(SPOKEN_FOR - ask.most, 0))
            users = iter(some)
            for _, timeline in each_bucket(store, [context.user_id for context in some]):
                for answer in recommend_answers(timeline, about.as_of, recommender, codes, ask):
                    ranked[next(users)] = {item.item_id: item.head for item in answer.items}
            progress(len(ranked) / len(asked))
        return cls(ranked)

    def policy(self, context: Context) -> Sequence[str]:
        """The list in place of the one shown."""
        return list(self.ranked[context])[: context.slots]

    def heads(self, context: Context, items: Sequence[str]) -> Iterator[str]:
        """Which head of this recommender speaks for each item; "" for an item far down or not at all in its ranking.

        It does not hang on what the log happened to show: the estimates need one model of an item's reward.
        """
        known = self.ranked[context]
        return (known.get(item, "") for item in items)


class Rates:
    """How often items earned something, by head and slot, drawn towards the head's rate and that towards all items'.

    Each user's come from the other half of the users, so that no rate has seen the reward that it is to correct.
    """

    def __init__(self, exposures: pa.Table, reward: Array, replay: Replay) -> None:
        self._replay = replay
        self._counts = tuple(defaultdict[_Group, list[float]](lambda: [0.0, 0.0]) for _ in range(2))
        rewards, items = iter(reward.astype(float).tolist()), iter(exposures["item_id"].to_pylist())
        for context in contexts(exposures):
            shown = [next(items) for _ in range(context.slots)]
            for slot, head in enumerate(replay.heads(context, shown)):
                earned = next(rewards)
                for group in _groups(head, slot):
                    counts = self._counts[half_of(context.user_id)][group]
                    counts[0] += earned
                    counts[1] += 1

    def __call__(self, context: Context, items: Sequence[str]) -> list[float]:
        """The expected reward of each item in its slot."""
        other = 1 - half_of(context.user_id)
        return [self.rate(other, head, slot) for slot, head in enumerate(self._replay.heads(context, items))]

    def rate(self, half: int, head: str, slot: int) -> float:
        """What half of the users tell of a head and slot."""
        rate = 0.0
        for group in _groups(head, slot):
            earned, shown = self._counts[half].get(group, (0.0, 0.0))
            rate = (earned + DRAWN * rate) / (shown + DRAWN)
        return rate


_Group = tuple[str | int, ...]


def _groups(head: str, slot: int) -> tuple[_Group, ...]:
    """What an item belongs to, widest first."""
    return (), (head,), (head, slot)


def hindsight(exposures: pa.Table, recommender: Recommender) -> list[str]:
    """Why the estimates flatter the recommender, if it has learned from what followed the lists."""
    first = pc.min(exposures["time"]).as_py()
    if recommender.as_of <= first:
        return []
    return [
        f"the model learned from the log until {show(recommender.as_of)}, and the first list was shown at "
        f"{show(first)}: it has seen what these users bought, so take one trained before"
    ]


def half_of(user_id: str) -> int:
    """0 or 1, by a hash: whichever rows a user has, they stay together."""
    return blake2b(user_id.encode(), digest_size=1).digest()[0] & 1
