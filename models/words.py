"""Numbers in words, in English and Chinese. The texts stand in `words.toml`; this fills them in."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

import numpy as np

from features.signals import Signal

Language = Literal["en", "zh"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "zh")
WHOLE = {"orders", "lines", "sessions", "visits", "events", "views", "items", "categories", "messages", "coupons"}
ONCE = WHOLE | {"days", "pieces", "minutes", "currency"}  # units that an English norm need not say again
BARE = "bare"  # no unit: the text around the number says what it is
_HOLE = re.compile(r"\{(\w+)(?::([^{}]*))?\}")
_WINDOW = re.compile(r"_(\d+)d$")


@dataclass(frozen=True)
class Words:
    """The texts of a language."""

    texts: Mapping[str, Any]

    def reason(self, signal: Signal, value: float, usual: float, norm: str, others: Mapping[str, float]) -> str:
        """What a signal is and what it usually is.

        Args:
            usual: NaN where there is no norm.
            norm: "own" or "customers": whose norm it is.
            others: the user's other signals by name, for texts that speak of them.
        """
        window = _WINDOW.search(signal.name)
        base = signal.name[: window.start()] if window else signal.name
        known = {name: number for name, number in others.items() if np.isfinite(number)}
        values = {
            **known,
            "value": value,
            "usual": usual,
            "norm": self.texts[norm],
            "days": window.group(1) if window else "",
            "description": signal.description.rstrip("."),
        }
        never = np.isnan(value) and signal.name.startswith("days_since")
        if np.isnan(value):
            values["value"] = self.texts["never"].lower() if never else ""
            candidates = [self.texts["generic" if never else "unknown"]]
        else:
            own_texts = self.texts["reasons"]
            early = known.get("days_since_purchase", np.inf) <= known.get("order_gap_mean_days", -np.inf)
            special = own_texts.get(f"{base}.early" if early else base) or own_texts.get(base, ())
            candidates = [*special, self.texts["generic"]]
        for text in candidates:
            if np.isnan(usual) and "{usual" in text:
                text = re.split("[;；]", text)[0] + self.texts["stop"]
            if all(name in values for name, _ in _HOLE.findall(text)):
                return self._first_letter(self._filled(text, values, signal.unit))
        raise AssertionError("the generic text asks for nothing that is not there")

    def has(self, signal: Signal) -> bool:
        """Whether a signal has a text of its own."""
        return _WINDOW.sub("", signal.name) in self.texts["reasons"]

    def evidence(self, name: str, **values: float | str) -> str:
        """What a sign of a cause looks like; `value` of `of`, where `usual` for each is usual."""
        out: dict[str, float | str] = dict(values)
        numbers = {key: value for key, value in values.items() if not isinstance(value, str)}
        if {"value", "of", "usual"} <= numbers.keys():
            out["expected"] = numbers["of"] * numbers["usual"]
            out["share"] = numbers["value"] / numbers["of"] if numbers["of"] else 0.0
        return self._first_letter(self._filled(self.texts["evidence"][name], out, BARE))

    def offer(self, name: str, values: Mapping[str, float | str]) -> str:
        """Why an item is offered."""
        return self._filled(self.texts["offers"][name], values, BARE)

    def plan(self, name: str, values: Mapping[str, float | str]) -> str:
        """A part of why a user is contacted."""
        return self._filled(self.texts["plan"][name], values, BARE)

    def answer(self, said: str) -> str:
        """What a survey answer says."""
        return str(self.texts["answers"][said])

    def filled(self, text: str, values: Mapping[str, float | str]) -> str:
        """A text of another file with its holes filled in, by the rules of this one's."""
        return self._filled(text, values, BARE)

    def _filled(self, text: str, values: Mapping[str, float | str], unit: str) -> str:
        def fill(hole: re.Match[str]) -> str:
            value, form = values[hole.group(1)], hole.group(2)
            if isinstance(value, str):
                return value
            if form:
                return self._formed(value, form, unit, hole.start() == 0)
            if hole.group(1) not in ("value", "usual"):
                return rounded(value, "days" if "days" in hole.group(1) else "events")
            if unit == BARE:
                return rounded(value, "events")
            return self._bare(value, unit) if hole.group(1) == "usual" else self._amount(value, unit)

        return _HOLE.sub(fill, text)

    def _formed(self, value: float, form: str, unit: str, first: bool = True) -> str:
        if form == "%":
            return f"{100 * value:.0f} %"
        one, many = form.split("|")
        number = rounded(value, unit)
        if number == "0" and unit != "days" and first:  # "No orders in …", but "… last 0 days ago"
            return f"{self.texts['no']} {many}"
        return f"{number} {one if number == '1' else many}"

    def _amount(self, value: float, unit: str) -> str:
        """A number with its unit."""
        template = self.texts["units"].get(unit, f"{{number}} {unit}")
        return self._filled_number(template, value, unit)

    def _bare(self, value: float, unit: str) -> str:
        """A norm beside a value that has its unit already: English leaves it out, Chinese repeats the measure word."""
        return rounded(value, unit) if self.texts["unit_once"] and unit in ONCE else self._amount(value, unit)

    def _filled_number(self, template: str, value: float, unit: str) -> str:
        def fill(hole: re.Match[str]) -> str:
            return self._formed(value, hole.group(2), unit) if hole.group(2) else rounded(value, unit)

        return _HOLE.sub(fill, template)

    def _first_letter(self, text: str) -> str:
        return text[:1].upper() + text[1:]


@cache
def load(language: Language) -> Words:
    """The texts of a language."""
    return Words(tomllib.loads((files("models") / "words.toml").read_text("utf-8"))[language])


def rounded(value: float, unit: str) -> str:
    """A number as people say it: whole where it is counted or large, one decimal or two where it is small."""
    size = abs(value)
    if size < 1e-4:  # what people would be told as 1e-05
        return "0"
    if size >= 10 or unit == "days" or (unit in WHOLE and abs(value - round(value)) < 0.05):
        text = f"{value:,.0f}"
    else:
        text = f"{value:.1f}" if size >= 1 or unit in WHOLE else f"{value:.2g}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text
