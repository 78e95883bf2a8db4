"""docs/signals.md says what the code says."""

from features.page import signal_page
from features.signals import all_signals
from tests.features.support import ROOT


def test_the_page_in_docs_is_the_one_that_the_code_makes() -> None:
    page = ROOT / "docs" / "signals.md"
    again = "docs/signals.md is not what features/signals/ says: run `python -m features.page > docs/signals.md`"
    assert page.read_text() == signal_page(), again


def test_every_signal_has_a_line() -> None:
    lines = signal_page().splitlines()
    for signal in all_signals():
        assert f"| `{signal.name}` | {signal.unit} | {signal.description} |" in lines
