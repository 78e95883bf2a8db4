"""The house keeps to its plan: imports point down the list of rooms, and importing has no side effect."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# room: the rooms it may import
MAY_IMPORT: dict[str, set[str]] = {
    "features": set(),
    "models": {"features"},
    "analysis": {"features", "models"},
    "training": {"features", "models", "analysis"},
    "serving": {"features", "models"},
    "cli": {"features", "models", "training", "analysis", "serving"},
    "benchmarks": {"features", "models", "training", "analysis", "serving", "cli"},
}
ROOMS = [room for room in MAY_IMPORT if (ROOT / room).is_dir()]
NOT_IN_SERVING = {"mlflow"}
PICKLES = {"pickle", "cPickle", "_pickle", "joblib", "cloudpickle", "dill"}
# Rooms whose modules are scripts and tests, not a library.
UNDOCUMENTED = {"benchmarks"}


def _files(room: str) -> Iterator[Path]:
    return (path for path in sorted((ROOT / room).rglob("*.py")) if "__pycache__" not in path.parts)


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports hide the direction"
            yield node.lineno, node.module or ""


def _where(path: Path, line: int, name: str) -> str:
    return f"{path.relative_to(ROOT)}:{line} imports {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_down_the_list_of_rooms(room: str, tell: Callable[..., None]) -> None:
    ours = {*MAY_IMPORT, "tests", "notebooks"}
    seen = [(path, line, name) for path in _files(room) for line, name in _imports(path)]
    forbidden = ours - MAY_IMPORT[room] - {room}
    assert [_where(*use) for use in seen if use[2].split(".")[0] in forbidden] == []
    if room in ("features", "models", "serving"):
        assert [_where(*use) for use in seen if use[2].split(".")[0] in NOT_IN_SERVING] == []
    tell(imports=len(seen))


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_of_ours_is_pickled(room: str) -> None:
    uses = [_where(path, line, name) for path in _files(room) for line, name in _imports(path)]
    assert [use for use in uses if use.split()[-1].split(".")[0] in PICKLES] == []
    loads = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in _files(room)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and not _is_false(node.value)
    ]
    assert loads == []


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def test_compiled_loops_are_in_one_file() -> None:
    users = [path for path in _files("features") if any(name.split(".")[0] == "numba" for _, name in _imports(path))]
    assert [str(path.relative_to(ROOT)) for path in users] == ["features/loops.py"]


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in UNDOCUMENTED])
def test_public_functions_and_modules_are_documented(room: str) -> None:
    missing = []
    for path in _files(room):
        tree = ast.parse(path.read_text())
        if tree.body and ast.get_docstring(tree) is None:
            missing.append(str(path.relative_to(ROOT)))
        missing += [
            f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and ast.get_docstring(node) is None
        ]
    assert missing == []


_IMPORT_ALL = """
import importlib, json, os, sys
before = dict(os.environ)
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
tracking = None
if "mlflow" in sys.modules:
    import mlflow
    tracking = mlflow.tracking._tracking_service.utils._tracking_uri
changed = sorted(k for k in os.environ.keys() | before if os.environ.get(k) != before.get(k) and k.startswith("MLFLOW"))
print(json.dumps([tracking, changed, "mlflow" in sys.modules]))
"""


@pytest.mark.parametrize("room", ROOMS)
def test_importing_has_no_side_effect(room: str, tmp_path: Path, tell: Callable[..., None]) -> None:
    """No file or folder appears where the process runs, at home or in the repository, and no tracking store is set."""
    work, home, cache = tmp_path / "work", tmp_path / "home", tmp_path / "cache"
    for folder in (work, home, cache):
        folder.mkdir()
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in _files(room)]
    # Compiled code and what other packages keep of their own go to the cache, which is exempt.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "BENTOML", "NUMBA"))}
    env |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(home), "MPLCONFIGDIR": str(cache)}
    env |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "BENTOML_HOME": str(cache),
        "XDG_CACHE_HOME": str(cache),
        "XDG_CONFIG_HOME": str(cache),
    }
    before = _ours()
    script = [sys.executable, "-c", _IMPORT_ALL, json.dumps(names)]
    done = subprocess.run(script, cwd=work, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    tracking, changed, has_mlflow = json.loads(done.stdout.splitlines()[-1])
    assert tracking is None
    assert changed == []
    assert not (has_mlflow and room in ("features", "models", "serving"))
    assert [str(path) for folder in (work, home) for path in folder.rglob("*")] == []
    assert _ours() - before == set()
    tell(modules_imported=len(names))


def _ours() -> set[Path]:
    """The files of the repository that a module might make."""
    rooms = [path for room in (*ROOMS, "mlruns") if (ROOT / room).is_dir() for path in (ROOT / room).rglob("*")]
    return {path for path in (*rooms, *ROOT.iterdir()) if "__pycache__" not in path.parts}
