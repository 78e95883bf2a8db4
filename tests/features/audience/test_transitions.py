"""Who moved: stages at month ends over all of Online Retail II."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from features.audience.learn import learn
from features.audience.stages import STAGES, borders_of, load_stages, stages_at
from features.events.ingest import ingest
from features.events.sources import find_source
from features.timeline import Array
from tests.features.support import NOW, ROOT, at

MONTHS = [f"{year}-{month:02}-01" for year in (2010, 2011) for month in range(1, 13)] + ["2011-12-10"]
STATES = ("not there yet", *STAGES)


@pytest.mark.slow
def test_transitions_over_24_months_add_up(
    online_retail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Callable[..., None]
) -> None:
    monkeypatch.setenv("ONLINE_RETAIL_PARQUET", str(online_retail))
    store = ingest(find_source(ROOT / "sources" / "online_retail"), tmp_path / "store", now=NOW).store
    assert store is not None
    moments = [at(month) for month in MONTHS]
    learned = learn(store, moments[-1])
    borders = borders_of(load_stages(), learned)
    flows = np.zeros((len(moments) - 1, len(STATES), len(STATES)), int)
    sizes = np.zeros((len(moments), len(STATES)), int)
    for timeline in store.timelines():
        states = np.stack([stages_at(timeline, m, borders) + 1 for m in timeline.as_of(moments)])
        flows += np.stack([moved(before, after) for before, after in pairwise(states)])
        sizes += np.stack([np.bincount(state, minlength=len(STATES)) for state in states])
    assert (flows.sum(axis=2) == sizes[:-1]).all()  # everybody who was there goes somewhere
    assert (flows.sum(axis=1) == sizes[1:]).all()  # and everybody who is there came from somewhere
    assert (sizes.sum(axis=1) == store.user_hashes.size).all()
    assert not flows[:, 1:, 0].any()  # nobody comes not to have been
    assert not flows[:, STATES.index("introduction") :, STATES.index("registered")].any()
    assert not flows[:, STATES.index("maturity"), STATES.index("growth")].any()  # orders are not lost
    assert not flows[:, STATES.index("lost"), STATES.index("dormancy")].any()  # but by a purchase nobody leaves silence
    assert sizes[-1, 0] == 0
    tell(users=int(sizes[0].sum()), moves=int(flows.sum()), **dict(zip(STATES, sizes[-1].tolist(), strict=True)))


def moved(before: Array, after: Array) -> Array:
    size = len(STATES)
    return np.bincount(before * size + after, minlength=size * size).reshape(size, size)
