"""Figures and lists in words, as the pages for reviewers write them."""

from collections.abc import Sequence

from training.metrics import Interval


def and_(words: Sequence[str]) -> str:
    """A list in a sentence: "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def moment_count(moments: int) -> str:
    """So many moments."""
    return f"{moments} moment{'' if moments == 1 else 's'}"


def interval(figure: Interval | None, digits: int = 3) -> str | None:
    """A figure with its bounds; None stays None."""
    if figure is None:
        return None
    return f"{figure.value:.{digits}f} ({figure.low:.{digits}f}–{figure.high:.{digits}f})"


def margin(difference: Interval, digits: int = 3) -> str:
    """A difference, signed, with its bounds."""
    return f"{difference.value:+.{digits}f} ({difference.low:+.{digits}f} to {difference.high:+.{digits}f})"
