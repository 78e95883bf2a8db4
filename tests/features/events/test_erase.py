"""Who is erased is gone from the store, and nobody else's timeline has changed."""

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from features.errors import UserError
from features.events.erase import erase
from features.events.ingest import ingest, locked
from features.events.sources import Source
from features.events.store import Store
from features.events.traces import counts, look, still_anonymous
from features.mentions import Name, files_of, mentions
from tests.features.events.anonymous import Known, dense_log, oracle, told, with_devices
from tests.features.support import NOW, RANDOM_MOMENTS, folder_bytes, ingest_frame, ingest_rows, rows_by_user, write_log
from tests.killed import Killed
from tests.randomlog import random_items, random_log

DEVICES = ("d", "e", "ü3", *(f"d{number}" for number in range(99)))
ROW: dict[str, Any] = {"ts": "2024-05-01", "kind": "view", "user_id": "anna42"}


def whole(path: Path) -> dict[str, list[Known]]:
    return told(Store.open(path).timelines(300), Store.open(path), DEVICES)


def expected_without(log: pd.DataFrame, user: str) -> dict[str, list[Known]]:
    """The slow and obvious timelines: the user's leaves, and the devices' lose what had become the user's."""
    before = oracle(log)
    gone = {event._replace(known=0) for event in before[user]}
    for name in [name for name in before if name.startswith("device:")]:
        device = name.removeprefix("device:")
        left = [
            e for e in before[name] if e.device != device or e._replace(known=0) not in gone or not _claims(log, user)
        ]
        before[name] = left
    return {name: events for name, events in before.items() if name != user and events}


def _claims(log: pd.DataFrame, user: str) -> bool:
    return bool(((log["user_id"] == user) & log["kind"].isin(["login", "register"])).any())


def in_batches(log: pd.DataFrame, path: Path, batches: int) -> None:
    """Equal rows come in one batch, or they would be one row."""
    whose = log.assign(user_id=log["user_id"].fillna("device:" + log["device_id"]))
    part = pd.util.hash_pandas_object(whose.astype(str), index=False).to_numpy() % batches
    for number in range(batches):
        ingest_frame(log[part == number], path)


LOGS: dict[str, pd.DataFrame] = {
    "nothing late": dense_log(1, 60, late=False, repeated=False),
    "late rows and logins": dense_log(2, 90, late=True, repeated=False),
    "late again": dense_log(12, 120, late=True, repeated=False),
    "late, many": dense_log(13, 240, late=True, repeated=False),
}


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("name", LOGS)
def test_timelines_are_what_the_contract_leaves(
    name: str, batches: int, tmp_path: Path, tell: Callable[..., None]
) -> None:
    log = LOGS[name]
    in_batches(log, tmp_path / "before", batches)
    compared = 0
    for user in oracle(log):
        path = tmp_path / user
        shutil.copytree(tmp_path / "before", path)
        found = erase(path, user)
        assert found.own_keys.size
        after, expected = whole(path), expected_without(log, user)
        # An erased device gives to others what they claimed of it, so what is left of devices is told of users only.
        same = [one for one in expected if not (user.startswith("device:") and one.startswith("device:"))]
        assert {one: after[one] for one in same} == {one: _as_stored(expected[one], after[one]) for one in same}
        assert user not in after
        assert sum(counts(Store.open(path), found).values()) == 0
        compared += len(same)
    tell(timelines_compared=compared)


def _as_stored(expected: Sequence[Known], after: Sequence[Known]) -> list[Known]:
    """A login without a name that is now the other user's own has lost its device, or it would claim."""
    nameless = Counter(e for e in after if e.kind in ("login", "register") and e.device is None)
    out = []
    for event in expected:
        bare = event._replace(device=None)
        if event not in after and nameless[bare]:
            nameless[bare] -= 1
            event = bare
        out.append(event)
    return sorted(out, key=repr)


def test_a_row_of_two_users_stays_the_others_and_nobody_gains_it(tmp_path: Path) -> None:
    """u logs in on the 4th and gets both rows; w had logged in on the 2nd, as turns out on the 9th; v on the 6th."""
    view = {"user_id": None, "device_id": "d", "kind": "view"}
    login = {"device_id": "d", "kind": "login"}
    rows: list[dict[str, Any]] = [
        *({**view, "ts": f"2024-05-0{day}", "item_id": f"i{day}"} for day in (1, 3)),
        *({**login, "user_id": user, "ts": f"2024-05-0{day}"} for user, day in (("u", 4), ("v", 6))),
        {**login, "user_id": "w", "ts": "2024-05-02", "arrived_at": "2024-05-09"},
    ]
    ingest_rows(rows, tmp_path / "store")
    before = whole(tmp_path / "store")
    assert [event.item for event in before["w"]] == ["i1", None]
    assert erase(tmp_path / "store", "u").claimed_keys.size == 2
    assert whole(tmp_path / "store") == {user: before[user] for user in ("v", "w")}
    # The source again: u is back, and nobody has anything twice.
    ingest_rows(rows, tmp_path / "store")
    assert whole(tmp_path / "store") == before


@pytest.mark.parametrize("batches", [1, 2])
def test_signals_of_others_are_the_same_to_the_byte(batches: int, tmp_path: Path, tell: Callable[..., None]) -> None:
    log = with_devices(random_log(8, 30, 1_500), 8).drop(columns="event_id")
    in_batches(log, tmp_path / "before", batches)
    ingest_frame(log.head(5), tmp_path / "before", items=random_items(8))
    signals = rows_by_user(Store.open(tmp_path / "before"), RANDOM_MOMENTS, horizon=30)
    compared = 0
    loudest = log["user_id"].value_counts().index[:3].tolist()
    for user in (*loudest, "one view", "only messages"):
        path = tmp_path / user
        shutil.copytree(tmp_path / "before", path)
        claimed = erase(path, user).claimed_keys.size
        after = rows_by_user(Store.open(path), RANDOM_MOMENTS, horizon=30)
        for old, new in zip(signals, after, strict=True):
            same = [one for one in old if one != user and not (claimed and one.startswith("device:"))]
            assert {one: new[one] for one in same} == {one: old[one] for one in same}
            assert user not in new
            compared += len(same)
    tell(users_compared=compared)


def test_rows_of_others_keep_their_digest(tmp_path: Path) -> None:
    log = random_log(9, 20, 800)
    ingest_frame(log, tmp_path / "store")
    user = log["user_id"].iloc[0]
    ingest_frame(log[log["user_id"] != user], tmp_path / "without")
    erase(tmp_path / "store", user)
    assert Store.open(tmp_path / "store").digest() == Store.open(tmp_path / "without").digest()


def test_later_data_comes_in_as_if_nobody_had_been_erased(tmp_path: Path) -> None:
    log = random_log(10, 20, 900)
    user = str(log["user_id"].value_counts().index[0])
    half = len(log) // 2
    for path in (tmp_path / "erased", tmp_path / "kept"):
        ingest_frame(log[:half], path)
        if path.name == "erased":
            erase(path, user)
        ingest_frame(log[half:][log["user_id"][half:] != user], path)
    erased, kept = (rows_by_user(Store.open(tmp_path / n), RANDOM_MOMENTS, horizon=30) for n in ("erased", "kept"))
    for one, other in zip(erased, kept, strict=True):
        assert one == {name: row for name, row in other.items() if name != user}


def test_what_the_log_first_knew_through_a_user_stays_known(tmp_path: Path) -> None:
    """Without complaints in the log "no complaint" would be unknown, for everybody."""
    rows = [
        {**ROW, "kind": "complaint", "ts": "2024-01-01", "category": "prams", "dwell_s": 3},
        {**ROW, "user_id": "bob", "ts": "2024-03-01"},
        {**ROW, "user_id": "bob", "ts": "2024-04-01", "category": "coats"},
    ]
    for number, batches in enumerate([[rows], [rows[:1], rows[1:]], [rows[1:], rows[:1]]]):
        path = tmp_path / f"{number}"
        for batch in batches:
            ingest_rows(batch, path)
        old = Store.open(path).facts
        erase(path, "anna42")
        new = Store.open(path).facts
        assert (new.kinds_known, new.columns_known) == (old.kinds_known, old.columns_known)
        assert new.category_known.tolist() == old.category_known.tolist()
        assert new.categories(NOW) == old.categories(NOW) == 2
        assert Store.open(path).rows == 2


def test_words_that_only_they_had_go_and_others_keep_their_places(tmp_path: Path) -> None:
    texts = {
        "page": ["/about anna", "home"],
        "item_id": ["her own print", "listed", "shared"],
        "category": ["of hers"],
        "channel": ["only hers", "for anna42"],
        "campaign_id": ["spring"],
    }
    rows = [
        {**ROW, "ts": f"2024-05-0{i + 1}", column: text} for column in texts for i, text in enumerate(texts[column])
    ]
    bobs = [{**ROW, "user_id": "bob", "page": "home", "item_id": "shared"}]
    items = tmp_path / "items.csv"
    items.write_text("item_id\nlisted\n")
    log = tmp_path / "log.jsonl"
    names = dict.fromkeys(name for row in rows for name in row)
    log.write_text("".join(json.dumps(dict.fromkeys(names) | row) + "\n" for row in rows + bobs))
    ingest(Source(log, items), tmp_path / "store", now=NOW)
    before = {column: words.texts for column, words in Store.open(tmp_path / "store").words.items()}
    found = erase(tmp_path / "store", "anna42")
    assert found.words == {
        "page": ("/about anna",),
        "item_id": ("her own print",),
        "category": ("of hers",),
        "channel": ("for anna42",),
    }
    after = {column: words.texts for column, words in Store.open(tmp_path / "store").words.items()}
    for column, old in before.items():
        gone = set(found.words.get(column, ()))
        assert [a for a, b in zip(after[column], old, strict=True) if b not in gone] == [
            b for b in old if b not in gone
        ]
        assert not gone & set(after[column])
    assert mentions(files_of(tmp_path / "store"), Name("anna42")).certain == ()


def test_the_users_table_and_invitations(tmp_path: Path) -> None:
    users = tmp_path / "users.csv"
    users.write_text("user_id,invited_by,region\nanna42,,north\nbob,anna42,south\ncarl,bob,\n")
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({**ROW, "user_id": user}) + "\n" for user in ("bob", "carl")))
    ingest(Source(log, users=users), tmp_path / "store", now=NOW)
    found = erase(tmp_path / "store", "anna42")
    assert (found.listed, found.invited, found.own_keys.size) == (1, 1, 0)
    table = Store.open(tmp_path / "store").table("users")
    assert table is not None
    assert table.to_pylist() == [
        {"user_id": "bob", "invited_by": None, "region": "south"},
        {"user_id": "carl", "invited_by": "bob", "region": None},
    ]
    assert mentions(files_of(tmp_path / "store"), Name("anna42")).certain == ()


def test_refused_rows_that_may_be_theirs(tmp_path: Path) -> None:
    """Theirs by name, by a device that was theirs, or cut before it says whose they are."""
    bad = {"price": -1, "kind": "view", "ts": "2024-05-01"}
    rows = [
        {**ROW, "kind": "login", "device_id": "d"},
        {**ROW, "user_id": "bob"},
        *({**bad, "user_id": user, "item_id": item} for user, item in (("anna42", "a"), ("bob", "b"))),
        *({**bad, "device_id": device, "item_id": device} for device in ("d", "e")),
        {**bad, "user_id": "bob", "item_id": "c", "page": "told by anna42"},
        {"category": "x" * 2_500, **bad, "user_id": "bob"},  # cut
    ]
    ingest_rows(rows, tmp_path / "store", max_rejected=1)
    ingest_rows([{**bad, "user_id": "anna42"}, {**ROW, "user_id": "bob"}], tmp_path / "store", max_rejected=1)
    found = erase(tmp_path / "store", "anna42")
    assert found.rejected == 4
    (file,) = (tmp_path / "store" / "rejected").iterdir()
    left = [
        json.loads(source)["item_id"] for source in pq.read_table(file)["source"].to_pylist() if len(source) < 2_000
    ]
    assert left == ["b", "e"]
    assert mentions(files_of(tmp_path / "store"), Name("anna42")).certain == ()


def test_what_a_device_did_for_nobody_is_told(tmp_path: Path) -> None:
    view = {"user_id": None, "device_id": "d", "kind": "view", "item_id": "i"}
    rows = [{**view, "ts": "2024-05-01"}, {**ROW, "kind": "login", "device_id": "d", "ts": "2024-05-02"}]
    store = ingest_rows([*rows, {**view, "ts": "2024-05-03"}], tmp_path / "store").store
    assert store is not None
    found = look(store, "anna42")
    erase(tmp_path / "store", "anna42")
    assert still_anonymous(Store.open(tmp_path / "store"), found) == {"device:d": 1}
    assert erase(tmp_path / "store", "device:d").own_keys.size == 1


def test_erasing_again_changes_nothing_but_sweeps(tmp_path: Path) -> None:
    ingest_frame(random_log(9, 10, 300), tmp_path / "store")
    erase(tmp_path / "store", "one view")
    before = folder_bytes(tmp_path / "store")
    (tmp_path / "store" / "segments" / "of a killed one").mkdir()
    (tmp_path / "store" / "tmp").mkdir()
    for user in ("one view", "nobody", "device:nobody"):
        assert not erase(tmp_path / "store", user).in_store
    assert folder_bytes(tmp_path / "store") == before
    assert not (tmp_path / "store" / "tmp").exists()
    assert not (tmp_path / "store" / "segments" / "of a killed one").exists()


def test_the_last_user_leaves_a_store_that_can_be_filled_again(tmp_path: Path) -> None:
    ingest_rows([ROW], tmp_path / "store")
    erase(tmp_path / "store", "anna42")
    store = Store.open(tmp_path / "store")
    assert store.rows == 0
    with pytest.raises(UserError, match="holds no events: ingest"):
        _ = store.span
    assert not look(store, "anna42").in_store
    again = ingest_rows([{**ROW, "user_id": "bob"}], tmp_path / "store").store
    assert again is not None
    assert again.rows == 1


def test_no_store_and_a_store_that_is_being_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no store at .*nowhere"):
        erase(tmp_path / "nowhere", "anna42")
    assert not (tmp_path / "nowhere").exists()
    ingest_rows([ROW], tmp_path / "store")
    before = folder_bytes(tmp_path / "store")
    with locked(tmp_path / "store"), pytest.raises(UserError, match="another process is writing"):
        erase(tmp_path / "store", "anna42", lambda: pytest.fail("must not begin"))
    assert folder_bytes(tmp_path / "store") == before


# ------------------------------------------------------------------------------------------------------- killed


def answer(path: Path) -> Mapping[str, Any]:
    store = Store.open(path)
    users = store.table("users")
    return {
        "signals": rows_by_user(store, RANDOM_MOMENTS[1:]),
        "rows": store.rows,
        "users": users and users.to_pylist(),
    }


def scene(tmp_path: Path) -> tuple[Path, str]:
    log = with_devices(random_log(31, 20, 600), 31)
    user = str(log["user_id"].value_counts().index[0])
    bad = log[log["user_id"] == user].head(5).assign(price=-1.0, event_id=[f"bad {i}" for i in range(5)])
    users = tmp_path / "users.csv"
    users.write_text(f"user_id,invited_by\n{user},\nu0001,{user}\n")
    for number, part in enumerate((log[:300], pd.concat([log[300:], bad]))):
        file = write_log(part, tmp_path / f"{number}.parquet")
        ingest(Source(file, users=users), tmp_path / "before", now=NOW, max_rejected=1)
    return tmp_path / "before", user


def killed(tmp_path: Path, points: Callable[[int, int], Sequence[int]], random_kills: int) -> dict[str, int]:
    before, user = scene(tmp_path)
    old = answer(before)
    path = tmp_path / "whole"
    shutil.copytree(before, path)
    begin = time.monotonic()
    process = Killed(partial(erase, path, user), path)
    process.wait_until_it_writes()
    steps = list(process.steps())
    assert not process.join()
    seconds, new = time.monotonic() - begin, answer(path)
    assert new != old
    swap = next(i for i, (what, name) in enumerate(steps) if what == "os.rename" and name == "/manifest.json")
    rng, seen = random.Random(1), {"old": 0, "new": 0, "steps": len(steps)}
    for number, point in enumerate([*points(swap, len(steps)), *[None] * random_kills]):
        path = tmp_path / f"killed {number}"
        shutil.copytree(before, path)
        process = Killed(partial(erase, path, user), path, point)
        if point is None:
            process.wait_until_it_writes()
            time.sleep(rng.uniform(0, seconds))
            process.kill()
        process.join()
        found = answer(path)
        assert found in (old, new)
        seen["new" if found == new else "old"] += 1
        erase(path, user)
        assert answer(path) == new
        assert sum(counts(Store.open(path), look(Store.open(before), user)).values()) == 0
        assert mentions(files_of(path), Name(user)).certain == ()
        shutil.rmtree(path)
    return seen


def test_killed_at_the_swap_and_elsewhere(tmp_path: Path, tell: Callable[..., None]) -> None:
    seen = killed(tmp_path, lambda swap, steps: [swap // 2, swap, swap + 1], 1)
    assert seen["old"] > 0
    assert seen["new"] > 0
    tell(**seen)


@pytest.mark.slow
def test_killed_at_many_steps_and_times(tmp_path: Path, tell: Callable[..., None]) -> None:
    tell(**killed(tmp_path, lambda swap, steps: [*range(0, swap - 10, 10), *range(swap - 10, steps, 2)], 10))
