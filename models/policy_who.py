"""Is a user one of those whom a ladder is for?"""

from collections.abc import Callable
from typing import Any, Final

from models.audience import Profile
from models.playbook_parts import Who

Asked = Callable[[Profile], Any]

_LISTS: Final[dict[str, Asked]] = {
    "stages": lambda profile: profile.stage,
    "leaving": lambda profile: profile.leaving,
    "segments": lambda profile: profile.segment,
    "tiers": lambda profile: profile.tier,
    "risks": lambda profile: profile.risk,
    "causes": lambda profile: profile.cause or "unknown",
    "newcomer": lambda profile: profile.newcomer,
}
_RANGES: Final[dict[str, Asked]] = {
    "decile": lambda profile: profile.decile,
    "value": lambda profile: profile.value,
    "days_since_purchase": lambda profile: profile.days_since_purchase,
}


class Matcher:
    """The conditions of one `who`, ready to be asked of many users."""

    def __init__(self, who: Who) -> None:
        self._lists = [(name, ask, frozenset(words)) for name, ask in _LISTS.items() if (words := getattr(who, name))]
        borders = (
            (n, ask, getattr(who, f"min_{n}", None), getattr(who, f"max_{n}", None)) for n, ask in _RANGES.items()
        )
        self._ranges = [border for border in borders if border[2:] != (None, None)]
        self._needs = frozenset(who.needs)

    def holds(self, profile: Profile) -> bool:
        """Do all conditions hold of a user? What is not known holds not."""
        for _, ask, words in self._lists:
            if ask(profile) not in words:
                return False
        for _, ask, low, high in self._ranges:
            value = ask(profile)
            if value is None or (low is not None and value < low) or (high is not None and value > high):
                return False
        return not self._needs or any(need.name in self._needs for need in profile.needs)

    def misses(self, profile: Profile) -> str:
        """Which conditions do not hold of a user, as text; "" if all hold."""
        out = [
            f"{name}: {ask(profile) or 'none'} is not in {', '.join(sorted(words))}"
            for name, ask, words in self._lists
            if ask(profile) not in words
        ]
        for name, ask, low, high in self._ranges:
            value = ask(profile)
            if value is None:
                out.append(f"{name}: none")
            elif low is not None and value < low:
                out.append(f"{name}: {value:g} is under {low:g}")
            elif high is not None and value > high:
                out.append(f"{name}: {value:g} is over {high:g}")
        if self._needs and not any(need.name in self._needs for need in profile.needs):
            out.append(f"needs: none of {', '.join(sorted(self._needs))}")
        return "; ".join(out)
