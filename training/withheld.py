"""What each head is worth: the lists of the same model when the candidates that a head alone found are withheld."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.recommender import Aim, Ask, Past, Recommender, loops
from models.recommender.eligible import eligible
from models.recommender.heads import Scores
from models.recommender.model import BLOCK, WIDTH, Candidates
from training.cross_sell import MODE_OF, K
from training.cross_sell_fit import Lesson

ByHead = dict[str, dict[int, list[int]]]


RULES = "rules"


def lists_without(model: Recommender, one: Lesson, aim: Aim, users: Sequence[int]) -> ByHead:
    """Head → user's row → item codes, best first, for each head of the aim's blend; and what would be offered without
    the rules (`eligible`), but with all heads.

    The head's weight in the blend is 0, so that only what other heads put forward reaches the ranker; the ranker itself
    stays as it was taught, and goes on reading the head's score of what others found. Lists may be short.
    """
    blend = model.blends[aim]
    others = {RULES: model}
    for name in blend.heads:
        others[name] = model.with_blends({aim: replace(blend, weights={**blend.weights, name: 0.0})})
    out: ByHead = {name: {} for name in others}
    for begin in range(0, len(users), BLOCK):
        chosen = list(users[begin : begin + BLOCK])
        past = Past.of(one.past.some(chosen), one.as_of)
        may = eligible(model, past, Ask(MODE_OF[aim], K), np.ones(len(model.catalogue), np.bool_))
        free = np.ones_like(may)
        if aim == "new":
            free[past.bought.pair_user, past.bought.pair_item] = False
        scores = model.scores(past)
        reduced = {name: other.blended(scores, aim) for name, other in others.items()}
        found = {name: loops.top(total, free if name == RULES else may, WIDTH) for name, total in reduced.items()}
        learned = _learned(model, past, scores, found, aim)
        for name, codes in found.items():
            score = reduced[name]
            if learned is not None:  # which has seen only users who bought, and orders no others
                score = np.where(past.bought.orders[:, None] > 0, learned, score)
            ranked = loops.top(score, _marked(codes, may), K)
            for user, items in zip(chosen, ranked.tolist(), strict=True):
                out[name][user] = [code for code in items if code >= 0]
    return out


def _learned(
    model: Recommender, past: Past, scores: dict[str, Scores], found: dict[str, NDArray[np.int32]], aim: Aim
) -> Scores | None:
    """The ranker's order of whatever any of the reduced blends put forward, as whole numbers, higher is better (its
    scores would tie in 32 bits); None without a ranker."""
    ranker = model.rankers.get(aim)
    if ranker is None:
        return None
    asked = np.zeros_like(next(iter(scores.values())), np.bool_)
    for codes in found.values():
        asked |= _marked(codes, asked)
    user, item = np.nonzero(asked)
    candidates = Candidates(past, user, item, scores, np.zeros(len(user)))
    out = np.zeros(asked.shape, np.float32)
    out[user, item] = 1 + np.unique(ranker.scores(model.rows(candidates, ranker.names)[1]), return_inverse=True)[1]
    return out


def _marked(codes: NDArray[np.int32], like: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool[users, items]: which items are among each user's codes."""
    out = np.zeros_like(like)
    user, place = np.nonzero(codes >= 0)
    out[user, codes[user, place]] = True
    return out
