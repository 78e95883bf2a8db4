"""Figures in words, as the audience report writes them; a figure that is not known is None."""

import numpy as np

from analysis.structure import Structure
from features.audience.stages import STAGES
from features.timeline import Array

WORDS = {
    "retention_1d": "back on day 1",
    "retention_7d": "back on day 7",
    "retention_30d": "back on day 30",
    "active_7d": "active in 7 days",
    "active_30d": "active in 30 days",
    "kept_buying": "two or more orders",
}


def said(name: str) -> str:
    """A measure's code in words."""
    return WORDS.get(name, name.replace("_", " "))


def percent(part: float) -> str | None:
    """A share in percent."""
    return None if np.isnan(part) else f"{part:.1%}"


def share(part: float, whole: float) -> str | None:
    """A part of a whole in percent."""
    return f"{part / whole:.1%}" if whole else None


def mean(values: Array) -> float:
    """Of the values that are known; NaN if none is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def number(count: int | None) -> str | None:
    """A count."""
    return None if count is None else f"{count:,}"


def day(moment: int) -> str:
    """The date of an instant (µs)."""
    return str(np.datetime64(moment, "us").astype("datetime64[D]"))


def moved(found: Structure) -> str:
    """The last flows in a sentence."""
    flow = found.flows[-1]
    dormant, lost = (STAGES.index(stage) for stage in ("dormancy", "lost"))
    active = [STAGES.index(stage) for stage in ("introduction", "growth", "maturity")]
    fell = flow[[place + 1 for place in active]][:, [dormant, lost]].sum()
    woke, recalled = (flow[place + 1, active].sum() for place in (dormant, lost))
    return (
        f"Since {day(found.moments[-2])}, {fell:,} customers fell dormant and {flow[dormant + 1, lost]:,} dormant ones "
        f"were lost; {woke:,} dormant and {recalled:,} lost ones bought again."
    )
