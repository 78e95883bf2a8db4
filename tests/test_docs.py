"""The pages say what is there: commands parse, requests validate, the SQL runs, links lead somewhere."""

import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args
from urllib.parse import SplitResult, parse_qsl, urlsplit

import pytest
import typer

from cli.main import VERBS, build
from features.events.store import Store
from models.answers import Status
from models.recommender import HEADS, MODES
from models.recommender.scenes import shipped
from serving.answers import ENDPOINTS
from serving.schemas import Filter
from tests.features.support import ingest_rows

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "mlruns" / "README.md"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEXTS = [*PAGES, *NOTEBOOKS]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PRIVATE = re.compile(r"(?<![\w.>/])/(?:home|root|tmp|work|Users|mnt)/|[A-Z]:\\")
# In pieces, so that this file does not name what it looks for.
REGISTRY = re.compile("|".join(("py" + r"pi\.", "python" + "hosted", "index" + "-url", "npm" + "js")), re.IGNORECASE)


def text_of(path: Path) -> str:
    """A page's text, or that of a notebook's written cells."""
    if path.suffix == ".md":
        return path.read_text()
    cells = json.loads(path.read_text())["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def fences(path: Path) -> Iterator[tuple[str, str]]:
    """Language and content of each fenced block."""
    return ((match[1], match[2]) for match in FENCE.finditer(text_of(path)))


def commands(path: Path) -> Iterator[list[str]]:
    """The words of every command in the fenced blocks of a shell."""
    for language, block in fences(path):
        if language in ("", "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                for command in line.split(" && "):
                    if words := shlex.split(command, comments=True):
                        yield words


def exit_code(words: list[str]) -> int | str | None:
    """What `ebbtide` would exit with if its verbs did nothing: 2 for a command line that it does not understand."""
    command = typer.main.get_command(build(words))
    _disarm(command)
    with pytest.raises(SystemExit) as done:
        command.main(words, prog_name="ebbtide")
    return done.value.code


def _disarm(command: Any) -> None:
    command.callback = None
    for below in getattr(command, "commands", {}).values():
        _disarm(below)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_are_known(path: Path, tell: Callable[..., None]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    seen = 0
    for words in commands(path):
        seen += 1
        name = words[0].rpartition("/")[2]
        if name == "ebbtide":
            assert exit_code(words[1:]) == 0, shlex.join(words)
        elif name == "make":
            assert set(words[1:]) <= targets, words
        elif name == "python":
            assert words[1] == "-m", words
            _module_exists(words[2])
    tell(commands=seen)


def _module_exists(name: str) -> None:
    file = ROOT / name.replace(".", "/")
    assert name == "pytest" or file.with_suffix(".py").is_file(), f"no module {name}"


WRONG = (
    "sing --store s",
    "score --store s --as-of 2024-01-01",
    "train churn --shop s",
    "train churn",
    "recommend -k x",
)


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_would_be_noticed(line: str) -> None:
    assert exit_code(line.split()) == 2


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_verbs_in_the_text_are_known(path: Path) -> None:
    verbs = {*VERBS, *(verb.split()[0] for verb in VERBS)}
    for command in re.findall(r"`ebbtide ([^`]+)`", text_of(path)):
        words = command.split()
        assert " ".join(words[:2]) in verbs or words[0] in verbs, f"{path.name}: ebbtide {command}"
    for target in re.findall(r"`make ([^`]+)`", text_of(path)):
        assert re.search(rf"^{target.split()[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


def test_the_requests_of_the_pages_are_valid() -> None:
    asked = {page: [words for words in commands(page) if words[0] == "curl"] for page in PAGES}
    assert {_path(words) for words in asked[ROOT / "README.md"]} == set(ENDPOINTS)
    for words in [words for of_page in asked.values() for words in of_page]:
        ENDPOINTS[_path(words)].request.model_validate_json(_body(words))


def test_the_answers_of_the_readme_are_such() -> None:
    requests = [words for words in commands(ROOT / "README.md") if words[0] == "curl"]
    answers = [block for language, block in fences(ROOT / "README.md") if language == "json"]
    for words, answer in zip(requests, answers, strict=True):
        given = json.loads(answer)
        response = ENDPOINTS[_path(words)].response
        assert response.model_validate(given).model_dump(mode="json") == given


OFFERS = ROOT / "docs" / "recommendations.md"


def test_the_page_of_recommendations_tells_all_there_is() -> None:
    tables = {row[0] for row in re.findall(r"^\| (`[^|]+) \| ([^|]*)", text_of(OFFERS), re.MULTILINE)}
    told = {name for cell in tables for name in re.findall(r"`(\w+)`", cell)}
    there = {*MODES, *HEADS, *Filter.model_fields, *shipped(), *get_args(Status)}
    assert told - {"filter", "status"} == there


def test_evidence_on_the_page_of_recommendations_is_worded_so() -> None:
    """Each example is a text of the words with its holes filled."""
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", text_of(OFFERS), re.MULTILINE)
    assert {head for head, _ in rows} == set(HEADS)
    words = tomllib.loads((ROOT / "models" / "words.toml").read_text())["en"]["offers"].values()
    patterns = [re.compile(".+?".join(map(re.escape, re.split(r"\{[^}]*\}", text)))) for text in words]
    for _, evidence in rows:
        assert any(pattern.fullmatch(evidence) for pattern in patterns), evidence


def _path(words: list[str]) -> str:
    path = _url(words).path
    return path if path in ENDPOINTS else path.rpartition("/")[0]


def _body(words: list[str]) -> str:
    """What is asked, as the service sees it: a GET's id and query string as JSON."""
    if "-d" in words:
        return words[words.index("-d") + 1]
    url = _url(words)
    return json.dumps({"id": url.path.rpartition("/")[2], **dict(parse_qsl(url.query))})


def _url(words: list[str]) -> SplitResult:
    return urlsplit(next(word for word in words if word.startswith("http://127.0.0.1:3000")))


def test_the_source_of_the_readme_can_be_read(tmp_path: Path) -> None:
    from features.events.ingest import ingest
    from features.events.sources import find_source

    (sql,) = (block for language, block in fences(ROOT / "README.md") if language == "sql")
    (tmp_path / "events.sql").write_text(sql)
    orders = (
        "customer,paid_at,sku,invoice,qty,unit_price",
        "7,2024-05-01 10:00,A1,101,2,9.95",
        "8,2024-05-02,B2,102,1,20",
    )
    (tmp_path / "orders.csv").write_text("\n".join(orders))
    (tmp_path / "clicks.csv").write_text("visitor,seen_at,sku,seconds\n7,2024-05-01 09:55,A1,31.5\n")
    report = ingest(find_source(tmp_path), tmp_path / "store", now=2 * 10**15).report
    assert (report.kept, report.users, report.kinds["view"], report.rejected.total()) == (3, 2, 1, 0)
    frame = Store.open(tmp_path / "store").matrix("2024-06-01", users=["7"])
    assert frame["spend_90d"].tolist() == pytest.approx([19.9])


def test_the_signal_of_contributing_can_be_computed(tmp_path: Path) -> None:
    from features.matrix import moments_of
    from features.signals import Family, friction

    (code,) = (block for language, block in fences(ROOT / "CONTRIBUTING.md") if language == "python")
    file = tmp_path / "more.py"  # a definition is read from its source, which must be a file
    file.write_text(code)
    names: dict[str, object] = {name: getattr(friction, name) for name in ("signal", "Moment", "Array")}
    exec(compile(code, str(file), "exec"), names)
    family = names["reviews"]
    assert isinstance(family, Family)
    assert [signal.name for signal in family.signals] == ["reviews_30d", "reviews_90d"]
    store = ingest_rows([{"user_id": "u", "ts": "2024-05-01", "kind": "review"}], tmp_path / "store").store
    assert store is not None
    (moment,) = moments_of(store.timeline_of(["u"]), [store.span[1] + 1], family.signals)
    assert [signal.compute(moment).tolist() for signal in family.signals] == [[1], [1]]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path, tell: Callable[..., None]) -> None:
    links = LINK.findall(FENCE.sub("", text_of(path)))
    for link in links:
        file, _, anchor = link.partition("#")
        assert not file.startswith("/"), f"{path.name}: {link}"
        if "://" in file:
            continue
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{path.name}: {link}"
        if anchor:
            assert anchor in _anchors(target), f"{path.name}: {link}"
    tell(links=len(links))


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_name_no_machine_and_no_registry(path: Path) -> None:
    text = text_of(path)
    assert PRIVATE.findall(text) == []
    assert REGISTRY.findall(text) == []


def test_pictures_are_small() -> None:
    pictures = sorted((ROOT / "docs" / "images").glob("*.png"))
    assert pictures
    shown = "".join(text_of(page) for page in PAGES)
    for picture in pictures:
        assert picture.stat().st_size < 200_000, picture.name
        assert picture.name in shown, f"no page shows {picture.name}"
