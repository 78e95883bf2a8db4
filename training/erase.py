"""A user leaves what a model's life has left behind: the tracked runs' tables and pages, and the exposure log.

Bundles hold items, and what was learned of all users together; no file of theirs lists users. They are searched, and
never changed: a changed bundle is refused.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities import Experiment, ViewType

from features.durable import replace
from features.events import columns as c
from features.events.erase import rewrite_table
from features.events.intake import hash_text
from features.mentions import Mentions, Name, files_of, mentions, texts_of
from models.exposure import erase_user, read_exposures
from training.paired import USER
from training.tracking import connect, scratch, tracking_uri

OURS = "ebbtide-%"  # experiments
MOST_RUNS = 1_000  # in one request
ERASED = "erased"

# ------------------------------------------------------------------------------------------------- tracked runs


@dataclass(frozen=True)
class Artifact:
    """A file of a tracked run, here to be read; `put_back` sends it to where it came from, after a change."""

    path: Path
    put_back: Callable[[], None]


def tracking() -> MlflowClient | None:
    """The tracking store, if there is one."""
    uri = tracking_uri()
    database = Path(uri.removeprefix("sqlite:///"))
    return None if uri.startswith("sqlite:///") and not database.is_file() else connect()


def experiments(client: MlflowClient) -> list[Experiment]:
    """Ours, deleted ones too."""
    return list(client.search_experiments(view_type=ViewType.ALL, filter_string=f"name LIKE '{OURS}'"))


def local_folder(experiment: Experiment) -> Path | None:
    """The folder of an experiment's artifacts, if it is on this machine."""
    location = urlparse(str(experiment.artifact_location))
    return Path(unquote(location.path)) if location.scheme in ("", "file") else None


def artifacts(client: MlflowClient) -> Iterator[Artifact]:
    """Every file of every run and model of our experiments; of those on other machines only the runs' tables and
    pages, each as long as the next is not asked for."""
    for experiment in experiments(client):
        folder = local_folder(experiment)
        if folder is not None:
            yield from (Artifact(path, lambda: None) for path in files_of(folder))
        else:
            yield from _remote(client, experiment)


def _remote(client: MlflowClient, experiment: Experiment) -> Iterator[Artifact]:
    token: str | None = None
    while True:
        page = client.search_runs([experiment.experiment_id], "", ViewType.ALL, MOST_RUNS, page_token=token)
        for run in page:
            for name in [one.path for one in client.list_artifacts(run.info.run_id) if not one.is_dir]:
                if Path(name).suffix in _REWRITE:
                    with _fetched(client, run.info.run_id, name) as artifact:
                        yield artifact
        token = page.token
        if not token:
            return


@contextmanager
def _fetched(client: MlflowClient, run_id: str, name: str) -> Iterator[Artifact]:
    with scratch() as folder:
        path = Path(client.download_artifacts(run_id, name, str(folder)))
        yield Artifact(path, lambda: client.log_artifact(run_id, str(path)))


def count_tracked(client: MlflowClient, name: Name) -> dict[str, int]:
    """How many rows of tracked tables and examples on tracked pages are the user's."""
    found = {label: 0 for label, _ in _REWRITE.values()}
    for artifact in artifacts(client):
        if artifact.path.suffix in _REWRITE:
            label, rewrite = _REWRITE[artifact.path.suffix]
            found[label] += rewrite(artifact.path, name, False)
    return found


def erase_tracked(client: MlflowClient, name: Name) -> None:
    """Rewrite the tables without the user's rows and the pages without the user's example, each in one durable step."""
    for artifact in artifacts(client):
        if artifact.path.suffix in _REWRITE:
            if artifact.path.name.startswith("."):  # of an erasure that was killed
                artifact.path.unlink()
            elif _REWRITE[artifact.path.suffix][1](artifact.path, name, True):
                artifact.put_back()


def _rows(path: Path, name: Name, erase: bool) -> int:
    """Rows of a table that are the user's, by the hash or by the id."""
    try:
        table = pq.ParquetFile(path).read()
    except pa.ArrowException:
        return 0
    mine = np.zeros(len(table), bool)
    if USER in table.column_names and pa.types.is_integer(table.schema.field(USER).type):
        mine |= table[USER].to_numpy().astype(np.uint64) == np.uint64(name.hash)
    if c.USER_ID in table.column_names:
        mine |= pc.fill_null(pc.equal(texts_of(table[c.USER_ID]), name.user_id), False).to_numpy()
    if erase and mine.any():
        rewrite_table(path, table.filter(pa.array(~mine)))
    return int(mine.sum())


def _examples(path: Path, name: Name, erase: bool) -> int:
    """Examples on a page that are the user's: from the heading with the user's hash to the next heading."""
    example = re.compile(rf"<h3>(\d*\.?)[^<]*\({name.hash:x}\)[^<]*</h3>.*?(?=<h3>|</section>|</body>|\Z)", re.DOTALL)
    text, found = example.subn(rf"<h3>\g<1> {ERASED}</h3>\n", path.read_text(encoding="utf-8"))
    if erase and found:
        replace(path, text)
    return found


# suffix → what is counted, and how: it says how many there are, and takes them out if asked to
_REWRITE: dict[str, tuple[str, Callable[[Path, Name, bool], int]]] = {
    ".parquet": ("rows of tracked tables", _rows),
    ".html": ("examples on tracked pages", _examples),
}

# ------------------------------------------------------------------------------------------------- exposure log


def shown_to(folder: Path, user_id: str, devices: frozenset[int]) -> list[str]:
    """Who is called what in an exposure log: the user, and those of these devices (hashes) that were answered while
    nobody was known on them."""
    if not any(folder.glob("*.jsonl")):
        return [user_id]
    names = pc.unique(read_exposures(folder)["user_id"]).to_pylist()
    anonymous = [name for name in names if name.startswith(c.ANONYMOUS)]
    return [user_id, *(n for n in anonymous if n != user_id and hash_text(n.removeprefix(c.ANONYMOUS)) in devices)]


def count_shown(folder: Path, names: list[str]) -> int:
    """Answers in the log to any of these."""
    if not any(folder.glob("*.jsonl")):
        return 0
    shown = read_exposures(folder)
    theirs = shown.filter(pc.is_in(shown["user_id"], pa.array(names)))
    return len(pc.unique(theirs["answer"]))


def erase_shown(folder: Path, names: list[str]) -> None:
    """Rewrite the log without the answers to these."""
    for name in names:
        erase_user(folder, name)


# ---------------------------------------------------------------------------------------------------- all files


def search(folders: list[Path], client: MlflowClient | None, name: Name) -> Mentions:
    """Files under the folders, and of the tracked runs, that name the user, whatever they are."""
    found = [mentions(files_of(folder), name) for folder in folders]
    for artifact in artifacts(client) if client is not None else ():
        found.append(mentions([artifact.path], name))
    return Mentions(
        tuple(path for one in found for path in one.certain), tuple(path for one in found for path in one.number)
    )
