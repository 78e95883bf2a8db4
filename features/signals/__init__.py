"""The signals: one family a file, each a plain function of a `Moment`.

To add one, write a function in its family's file and put `@signal` over it; `all_signals` finds it.
"""

import ast
import hashlib
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from features import loops, passes, timeline
from features.events import columns as c
from features.timeline import Array, Facts, Moment, Plan, Timeline


@dataclass(frozen=True)
class Signal:
    """A number per user at a moment: its column name, family, unit, description and how it is computed."""

    name: str
    family: str
    unit: str
    description: str
    compute: Callable[[Moment], Array]
    source: str

    def digest(self) -> str:
        """Changes with the definition (not its wording or layout) and with the kernel under it."""
        return hashlib.sha256(f"{self.name} {self.unit} {self.source} {_kernel_digest()}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Family:
    """What `@signal` leaves in a module: one function and the signals it gives, one a window."""

    signals: tuple[Signal, ...]


def signal(
    family: str, unit: str, windows: Sequence[int] = (), suffix: str = "d"
) -> Callable[[Callable[..., Array]], Family]:
    """Make a function of a `Moment` a signal; with `windows` (days) one signal each, named `<function>_<days>d`.

    Windows that are not days have another suffix. The docstring names the window by the function's own parameter.
    """

    def declare(function: Callable[..., Array]) -> Family:
        text = " ".join((function.__doc__ or "").split())
        window = f"{{{[*inspect.signature(function).parameters][-1]}}}"
        source = _meaning(inspect.getsource(function))

        def one(days: int | None) -> Signal:
            name = function.__name__ if days is None else f"{function.__name__}_{days}{suffix}"
            compute = function if days is None else lambda m, d=days: function(m, d)
            return Signal(name, family, unit, text.replace(window, str(days)), compute, f"{source} {days}")

        return Family(tuple(one(days) for days in windows) or (one(None),))

    return declare


@cache
def all_signals() -> tuple[Signal, ...]:
    """Every signal of every family, in the order of file and definition; names are unique."""
    found: list[Signal] = []
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        members = vars(importlib.import_module(f"{__name__}.{module}")).values()
        found += [s for member in members if isinstance(member, Family) for s in member.signals]
    names = [s.name for s in found]
    if len(names) != len(set(names)):
        raise ValueError(f"signals share a name: {sorted({n for n in names if names.count(n) > 1})}")
    return tuple(found)


def by_name(names: Sequence[str]) -> tuple[Signal, ...]:
    """The named signals, in the order given."""
    return tuple(_by_name()[name] for name in names)


@cache
def _by_name() -> dict[str, Signal]:
    return {s.name: s for s in all_signals()}


@cache
def plan(signals: tuple[Signal, ...]) -> Plan:
    """Which passes and windows the signals ask for: they are run on a timeline of nobody, in a log in which all is
    observed, and what they ask is noted; once more for a log without session ids."""
    columns = dict.fromkeys(c.COLUMNS, -1)
    return passes.plan_of(_asked(signals, known) for known in (columns, columns | {c.SESSION_ID: c.NEVER}))


def _asked(signals: tuple[Signal, ...], columns_known: dict[str, int]) -> Plan:
    facts = Facts((), dict.fromkeys(c.KINDS, -1), columns_known, np.empty(0, np.int64))
    nothing: dict[str, Any] = {c.TS: np.empty(0, np.int64), c.KIND: np.empty(0, np.uint8)}
    moment = Timeline(pa.array([], pa.string()), np.zeros(1, np.int64), nothing, facts).as_of([0])[0]
    for s in signals:
        s.compute(moment)
    return moment.asked


def _meaning(source: str) -> str:
    """Source text without layout, comments and docstrings."""
    tree = ast.parse(textwrap.dedent(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


@cache
def _kernel_digest() -> str:
    return hashlib.sha256(
        "".join(_meaning(inspect.getsource(m)) for m in (loops, passes, timeline)).encode()
    ).hexdigest()
