"""One HTML page in one file: headings, sentences, tables and pictures, without scripts and without anything to fetch.

It can be read on a telephone and printed, by day and by night; wide tables scroll by themselves. All text is escaped.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import NewType

from matplotlib.figure import Figure

Html = NewType("Html", str)
Cell = str | int | None

DOTS = 120  # an inch of a picture
MISSING = "–"
LONG = 30  # letters; a column of more keeps some width on a telephone
OWN, NUMBER, TEXT = ' class="own"', ' class="number"', ' class="text"'
_NUMBER = re.compile(r"[+-]?[\d,]*\.?\d+( ?%)?( \(.*\))?|\d{4}-\d\d-\d\d.*")  # or a date: neither is broken

STYLE = """
:root { color-scheme: light dark; --ink: #1c2328; --soft: #5b6770; --ground: #fff; --line: #dde3e7; --shade: #f4f7f8;
  --own: #0b6e8a; --warn: #8a4b00; --warn-ground: #fff4e2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ec; --soft: #9aa7b0; --ground: #14191d; --line: #323b42;
  --shade: #1c2328; --own: #5cc3de; --warn: #ffc46b; --warn-ground: #33270f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem; max-width: 70rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .5rem 0; max-width: 48rem; }
.soft, .caption, figcaption { color: var(--soft); font-size: .9rem; }
nav { margin: .8rem 0; font-size: .9rem; }
nav a { color: var(--own); margin-right: .9rem; display: inline-block; }
.verdict, .warning { padding: .7rem 1rem; border-left: 4px solid var(--own); background: var(--shade);
  max-width: none; }
.verdict { font-size: 1.1rem; }
.warning { border-color: var(--warn); background: var(--warn-ground); color: var(--warn); }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
.caption { margin: 1rem 0 -.5rem; }
th, td { padding: .28rem .7rem .28rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 500; white-space: nowrap; }
.number { text-align: right; padding-left: .7rem; white-space: nowrap; }
.text { min-width: 16rem; }
.own th, .own td { color: var(--own); font-weight: 600; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
.beside { display: grid; grid-template-columns: repeat(2, minmax(0, 2fr)) minmax(0, 5fr); gap: 0 1.6rem; }
.beside .text { min-width: 9rem; overflow-wrap: anywhere; }
figure { margin: .8rem 0; }
figure img { width: 100%; max-width: 48rem; height: auto; display: block; background: #fff; border-radius: 4px; }
dl { display: grid; grid-template-columns: minmax(8rem, 14rem) 1fr; gap: .35rem 1rem; margin: .8rem 0; }
dt { color: var(--soft); }
dd { margin: 0; }
@media (max-width: 62rem) { .beside { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 36rem) { body { padding: .8rem; font-size: 15px; } dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .6rem; } tbody th { position: sticky; left: 0; background: var(--ground); } }
@media print { nav { display: none; } figure, tr { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; `anchor` is what a link within the page goes to."""

    anchor: str
    heading: str
    parts: Sequence[Html]


def page(title: str, lead: Sequence[Html], sections: Sequence[Section], language: str = "en") -> Html:
    """The whole page, in a language by its code; `lead` stands above the list of sections."""
    links = "".join(f'<a href="#{escape(s.anchor)}">{escape(s.heading)}</a>' for s in sections)
    body = "".join(
        f'<section id="{escape(s.anchor)}"><h2>{escape(s.heading)}</h2>{"".join(s.parts)}</section>\n' for s in sections
    )
    return Html(
        f'<!DOCTYPE html>\n<html lang="{escape(language)}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{''.join(lead)}\n<nav>{links}</nav>\n{body}</body>\n</html>\n"
    )


def heading(text: str) -> Html:
    """A heading within a section."""
    return Html(f"<h3>{escape(text)}</h3>\n")


def paragraph(text: str, kind: str = "") -> Html:
    """Plain sentences; kind "verdict", "warning", "caption" or "soft" (small print) sets them apart."""
    return Html(f'<p class="{escape(kind)}">{escape(text)}</p>\n' if kind else f"<p>{escape(text)}</p>\n")


def table(
    head: Sequence[str], rows: Sequence[Sequence[Cell]], *, caption: str = "", own: str | frozenset[str] | None = None
) -> Html:
    """A table; the first column names the rows, columns of numbers are aligned to the right, None is a dash.

    Args:
        own: the row of this name, or of these, is set apart.
    """
    apart = own if isinstance(own, frozenset) else frozenset() if own is None else frozenset((own,))
    texts = [[MISSING if cell is None else str(cell) for cell in row] for row in rows]
    number = [all(_NUMBER.fullmatch(cell) or cell == MISSING for cell in column) for column in zip(*texts, strict=True)]
    long = [max(map(len, column)) > LONG for column in zip(*texts, strict=True)]
    kinds = [NUMBER if n else TEXT if is_long else "" for n, is_long in zip(number, long, strict=True)]
    kinds = kinds or [""] * len(head)
    top = "".join(f"<th{kind}>{escape(text)}</th>" for kind, text in zip(kinds, head, strict=True))
    lines = []
    for row in texts:
        cells = "".join(f"<td{kind}>{escape(text)}</td>" for kind, text in zip(kinds[1:], row[1:], strict=True))
        lines.append(f'<tr{OWN if row[0] in apart else ""}><th scope="row">{escape(row[0])}</th>{cells}</tr>')
    named = paragraph(caption, "caption") if caption else ""
    inside = f"<thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return Html(f'{named}<div class="wide"><table>{inside}</table></div>\n')


def picture(figure: Figure, says: str) -> Html:
    """A figure inline, with what it says for those who do not see it, which also stands under it."""
    data = BytesIO()
    figure.savefig(data, format="png", dpi=DOTS)
    source = base64.b64encode(data.getvalue()).decode()
    text = escape(says)
    return Html(
        f'<figure><img src="data:image/png;base64,{source}" alt="{text}"><figcaption>{text}</figcaption></figure>\n'
    )


def pictures(figures: Sequence[Html]) -> Html:
    """Pictures side by side where there is room."""
    return Html(f'<div class="pictures">{"".join(figures)}</div>\n')


def beside(narrow: Html, other: Html, wide: Html) -> Html:
    """Three parts side by side where there is room, else one below the other."""
    return Html(f'<div class="beside"><div>{narrow}</div><div>{other}</div><div>{wide}</div></div>\n')


def listing(pairs: Sequence[tuple[str, str]]) -> Html:
    """Names and what they are."""
    return Html("<dl>" + "".join(f"<dt>{escape(n)}</dt><dd>{escape(t)}</dd>" for n, t in pairs) + "</dl>\n")
