"""The page of all signals, docs/signals.md, from the code: `python -m features.page > docs/signals.md`."""

from importlib import import_module

from features import signals
from features.events.columns import NOT_BY_USER
from features.signals import Signal

HEAD = """# Signals

<!-- Made by `python -m features.page > docs/signals.md` from features/signals/; a test holds it to the code. -->

What Ebbtide knows of a user at a moment: {count} numbers, one column each, in {families} families.
`ebbtide signals` writes them as of any moment, models are trained on them, and a reason in an answer names one of them.

- **Windows.** "In the last N days" is `[moment − N days, moment)`: an event at the moment itself is not in it. Nothing
  at or after the moment is read, nor what arrived after it.
- **0 or not observed.** 0: the log has such events, this user has none in the window. NaN (`null` over HTTP): such
  events or such a column are nowhere in the log before the moment, so that nobody can know. NaN also stands where there
  is nothing to count from: days since what never happened, a ratio to 0, a gap with fewer than two orders.
- **Made by the user** is every kind of event but {not_by_user}.
- **An order** is a distinct `order_id` among purchases; a purchase without one is an order of its own. A missing
  quantity is 1, and the amount of a line without one is price × quantity.
- **Minutes browsed** are the `dwell_s` of views. In a log without that column it is the time from a view to the user's
  next event in the session; over 30 minutes, or without a next event yet, it counts nothing.
- Days and dates are UTC. A column is a `float32`; counts and sums are exact before they are put there.

To add one: [CONTRIBUTING.md](../CONTRIBUTING.md#how-to-add-a-signal).
"""


def signal_page() -> str:
    """Every signal as Markdown: a table a family, in the order of `all_signals`."""
    families: dict[str, list[Signal]] = {}
    for signal in signals.all_signals():
        families.setdefault(signal.family, []).append(signal)
    count = sum(map(len, families.values()))
    *others, last = (f"`{kind}`" for kind in NOT_BY_USER)
    head = HEAD.format(count=count, families=len(families), not_by_user=f"{', '.join(others)} and {last}")
    return "\n".join([head, *(_table(family, members) for family, members in families.items())])


def _table(family: str, members: list[Signal]) -> str:
    about = import_module(f"{signals.__name__}.{family}").__doc__ or ""
    rows = [f"| `{s.name}` | {s.unit} | {s.description} |" for s in members]
    head = [f"## {family}", "", about.strip(), "", "| column | unit | meaning |", "| --- | --- | --- |"]
    return "\n".join([*head, *rows, ""])


if __name__ == "__main__":
    print(signal_page(), end="")
