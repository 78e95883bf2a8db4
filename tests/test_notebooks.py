"""The notebooks run from top to bottom, and what is committed of them can be shown to anybody.

`python -m tests.test_notebooks` runs them and writes their outputs into them.
"""

import re
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST = 300_000  # bytes of a notebook with its outputs
SECONDS = 120  # for one cell, on a busy machine
# Places of one machine, and what a run on it may leave.
PRIVATE = re.compile(r"(?<![\w.>/])/(?:home|root|tmp|work|usr|var|opt|private|Users)\b|[A-Z]:\\|[Ww]arning:|Traceback")


def read(path: Path) -> Any:
    """The notebook at `path`."""
    return nbformat.reads(path.read_text(), as_version=4)  # type: ignore[no-untyped-call]


def executed(path: Path, folder: Path) -> Any:
    """The notebook with fresh outputs, run in a folder."""
    notebook = read(path)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", record_timing=False, resources=resources).execute()
    notebook.metadata.language_info = {"name": "python"}  # without the version of the Python it ran on
    return notebook


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["01_signals", "02_churn", "03_cross_sell"]


# One of them shows with every change that notebooks still run; the others wait for test-slow.
ALWAYS = "02_churn"
RUN = [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem != ALWAYS)) for path in NOTEBOOKS]


@pytest.mark.parametrize("path", RUN)
def test_it_runs(path: Path, complete_journey: Path, tell: Callable[..., None]) -> None:
    """From the folder of notebooks or the root; nothing is left behind in the repository."""
    before = _files()
    started = perf_counter()
    executed(path, ROOT if path.stem.startswith("02") else path.parent)
    tell(**{f"seconds_{path.stem}": round(perf_counter() - started, 1)})
    assert _files() == before


def test_it_is_committed_with_its_outputs(path: Path) -> None:
    assert path.stat().st_size < LARGEST
    code = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), (
        f"{path.name} was not run in order: run `python -m tests.test_notebooks`"
    )
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert kinds <= {"execute_result", "display_data", "stream"}
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert pictures


def test_it_shows_nothing_of_the_machine_it_ran_on(path: Path) -> None:
    notebook = read(path)
    shown = [cell.source for cell in notebook.cells]
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        assert output.get("name") != "stderr", output.text
        shown += [output.get("text", "")]
        shown += [str(text) for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    assert [text for text in shown if PRIVATE.search(text)] == []


def _files() -> set[Path]:
    """What lies where a notebook could leave something."""
    folders = [ROOT, ROOT / "notebooks", ROOT / "mlruns", ROOT / "var"]
    return {path for folder in folders if folder.is_dir() for path in folder.iterdir()}


def main() -> None:
    """Run every notebook and write it back with its outputs."""
    for path in NOTEBOOKS:
        path.write_text(nbformat.writes(executed(path, path.parent)) + "\n")  # type: ignore[no-untyped-call]
        print(f"wrote {path.relative_to(ROOT)}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
