"""The catalogue of signals: complete, unique, and what the shop's documents promise is in it."""

import re
from collections.abc import Callable

import numpy as np

from features.events.store import Store
from features.signals import all_signals, by_name, plan
from features.timeline import Timeline
from tests.features.support import RANDOM_MOMENTS

FAMILIES = {
    *("recency", "frequency", "monetary", "browsing", "rhythm", "breadth", "friction", "messages", "newest", "season"),
}
FIXED = [
    *("days_since_purchase", "days_since_seen", "orders_30d", "orders_90d", "spend_30d", "spend_90d"),
    *("active_days_30d", "views_7d", "browse_minutes_7d", "browse_minutes_ratio", "browse_minutes_ratio_at_last_seen"),
    *("order_gap_mean_days", "order_gap_last_days", "overdue_ratio", "categories_90d", "category_penetration"),
    "refund_share_90d",
]


def test_every_signal_is_described(tell: Callable[..., None]) -> None:
    signals = all_signals()
    for signal in signals:
        assert re.fullmatch(r"[a-z][a-z0-9_]+", signal.name)
        assert signal.unit
        assert signal.description.endswith(".")
        assert "{" not in signal.description
        if window := re.search(r"_(\d+)d$", signal.name):
            assert window.group(1) in signal.description
    assert {signal.family for signal in signals} == FAMILIES
    assert len({signal.name for signal in signals}) == len(signals) >= 70
    assert len({signal.description for signal in signals}) == len(signals)
    assert len({signal.digest() for signal in signals}) == len(signals)
    tell(signals=len(signals))


def test_the_fixed_names_are_there_and_can_be_asked_for_alone() -> None:
    assert [signal.name for signal in by_name(FIXED)] == FIXED


def test_the_plan_names_all_that_the_signals_ask(small_store: Store) -> None:
    """So that a pass runs once for all windows: signals ask a planned moment nothing that is not in the plan."""
    planned = plan(all_signals())
    (timeline,) = small_store.timelines()
    for moments in (RANDOM_MOMENTS, RANDOM_MOMENTS[:1]):
        moment = timeline.as_of(moments, planned)[0]
        for signal in all_signals():
            signal.compute(moment)
        asked = {group: widths for group, widths in moment.asked.items() if group != ("last", "any kind")}
        assert asked.keys() <= planned.keys()
        assert all(widths <= planned[group] for group, widths in asked.items())


def test_a_plan_changes_no_value(small_store: Store, tell: Callable[..., None]) -> None:
    """Also the plan of one signal only, and none: what is shared between signals is work, not state."""
    timeline: Timeline
    (timeline,) = small_store.timelines()
    whole = timeline.as_of(RANDOM_MOMENTS, plan(all_signals()))
    compared = 0
    for signal in all_signals():
        for alone in (timeline.as_of(RANDOM_MOMENTS, plan((signal,))), timeline.as_of(RANDOM_MOMENTS)):
            for one, other in zip(whole, alone, strict=True):
                np.testing.assert_array_equal(signal.compute(one), signal.compute(other))
                compared += len(timeline)
    tell(cells_compared=compared)
