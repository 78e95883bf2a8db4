"""What is shown has the propensity that is stated, and the log of it survives whatever happens to it."""

import json
import logging
import threading
from collections import Counter
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from features.errors import UserError
from models.exposure import (
    COLUMNS,
    Draw,
    Exploration,
    Exposure,
    append,
    decode,
    draw,
    encode,
    erase_user,
    propensities,
    read_exposures,
)
from tests.conftest import Tell
from tests.features.support import at
from tests.killed import Killed

NOON = at("2024-06-01T12:00:00")
HOUR = 3_600_000_000
UNLIKELY = 1e-4
GOLDEN = [3, 16, 6, 5, 12]


def _draws(users: int, candidates: int, k: int, exploration: Exploration) -> list[Draw]:
    return [draw(candidates, k, exploration, f"u{number}", NOON) for number in range(users)]


# ---------------------------------------------------------------------------------------------- what is shown


def test_without_exploration_the_ranking_is_shown_and_certain() -> None:
    for one in _draws(50, 30, 4, Exploration(0, 20)):
        assert one == Draw([0, 1, 2, 3], False, 20, [1.0] * 4, [1.0] * 4)


def test_the_same_question_is_answered_alike_on_every_machine() -> None:
    asked = draw(30, 5, Exploration(1, 20, "shop"), "Zoë", NOON)
    assert asked == draw(30, 5, Exploration(1, 20, "shop"), "Zoë", NOON)
    assert asked.ranks == GOLDEN
    others = [
        draw(30, 5, Exploration(1, 20, "shop"), "Zoe", NOON),
        draw(30, 5, Exploration(1, 20, "shop"), "Zoë", NOON + 1),
        draw(30, 5, Exploration(1, 20, "web"), "Zoë", NOON),
    ]
    assert len({tuple(one.ranks) for one in [asked, *others]}) == 4


def test_lists_come_up_as_often_as_stated() -> None:
    exploration, slots, pool, users = Exploration(0.3, 5), 2, 5, 20_000
    seen = Counter(tuple(one.ranks) for one in _draws(users, 40, slots, exploration))
    lists = list(permutations(range(pool), slots))
    chance = {ranks: 0.3 / len(lists) + 0.7 * (ranks == (0, 1)) for ranks in lists}
    expected = [users * chance[ranks] for ranks in lists]
    assert stats.chisquare([seen[ranks] for ranks in lists], expected).pvalue > UNLIKELY
    # The closed forms are what the lists' probabilities sum to.
    for ranks in lists:
        anywhere, here = propensities(ranks, pool, 0.3)
        for slot, rank in enumerate(ranks):
            assert anywhere[slot] == pytest.approx(sum(p for other, p in chance.items() if rank in other))
            assert here[slot] == pytest.approx(sum(p for other, p in chance.items() if other[slot] == rank))


@pytest.mark.parametrize(("share", "pool", "k"), [(0.1, 40, 8), (0.6, 25, 20), (1.0, 10, 10)])
def test_items_come_up_as_often_as_stated(share: float, pool: int, k: int, tell: Tell) -> None:
    users = 8_000
    draws = _draws(users, 60, k, Exploration(share, pool, "items"))
    ranks = np.array([one.ranks for one in draws])
    stated, shown = {}, {}
    for one in draws:
        for slot, rank in enumerate(one.ranks):
            stated[slot, rank], shown[rank] = one.slot_propensity[slot], one.propensity[slot]
    assert set(shown) == set(range(pool))
    p_values = []
    for slot in range(k):
        counts = np.bincount(ranks[:, slot], minlength=pool)
        p_values.append(stats.chisquare(counts, [users * stated[slot, rank] for rank in range(pool)]).pvalue)
    for rank in range(pool):
        times = int((ranks == rank).any(axis=1).sum())
        p_values.append(stats.binomtest(times, users, min(shown[rank], 1.0)).pvalue)
    assert min(p_values) * len(p_values) > UNLIKELY
    explored = sum(one.explored for one in draws)
    assert stats.binomtest(explored, users, share).pvalue > UNLIKELY
    tell(tests=len(p_values), least_p=round(min(p_values), 5), explored=explored)


def test_no_item_is_shown_twice_and_none_from_outside_the_pool() -> None:
    for one in _draws(500, 300, 20, Exploration(1, 50)):
        assert len(set(one.ranks)) == 20
        assert set(one.ranks) <= set(range(50))


def test_another_ranking_moves_nobody_in_or_out_of_exploring() -> None:
    few, many = (_draws(400, size, 5, Exploration(0.4, 100)) for size in (20, 90))
    assert [one.explored for one in few] == [one.explored for one in many]


@pytest.mark.parametrize(
    ("candidates", "k", "pool", "slots", "drawn_from"),
    [(3, 5, 9, 3, 3), (9, 5, 2, 5, 5), (7, 5, 9, 5, 7), (0, 5, 9, 0, 0)],
)
def test_few_candidates_fill_few_slots(candidates: int, k: int, pool: int, slots: int, drawn_from: int) -> None:
    for one in _draws(50, candidates, k, Exploration(0.5, pool)):
        assert (len(one.ranks), one.pool) == (slots, drawn_from)
        assert set(one.ranks) <= set(range(drawn_from))
        assert len(one.propensity) == len(one.slot_propensity) == slots


@pytest.mark.parametrize(("share", "pool"), [(-0.1, 5), (1.1, 5), (float("nan"), 5), (0.1, 0)])
def test_a_share_that_is_none_is_refused(share: float, pool: int) -> None:
    with pytest.raises(UserError, match="exploration"):
        Exploration(share, pool)


# ---------------------------------------------------------------------------------------------- the log


def exposure(number: int, user: str = "u", hours: int = 0, slots: int = 3) -> Exposure:
    """An answer that its number tells from others."""
    one = draw(10, slots, Exploration(0.5, 8), user, number)
    return Exposure(
        *(NOON + hours * HOUR + number, f"r{number}", user, NOON, "ebbtide-cross-sell/1", "sha256:ab", "all", "home"),
        *(slots, 0.5, one.pool, one.explored, [f"i{rank}" for rank in one.ranks], one.ranks, ["repeat"] * slots),
        *([0.1 * (slot + number) for slot in range(slots)], one.propensity, one.slot_propensity),
    )


def _requests(folder: Path) -> list[str]:
    table = read_exposures(folder)
    return [row["request_id"] for row in table.to_pylist() if row["slot"] == 0]


def test_what_is_written_is_read_item_by_item(tmp_path: Path) -> None:
    given = [exposure(0, 'Zoë "the 1st"\n'), exposure(1, "b", hours=13), exposure(2, "c", slots=5)]
    append(tmp_path, given[:2])
    append(tmp_path, given[2:])
    assert sorted(file.name for file in tmp_path.glob("*.jsonl")) == ["2024-06-01.jsonl", "2024-06-02.jsonl"]
    table = read_exposures(tmp_path)
    assert table.schema.equals(COLUMNS)
    rows = table.to_pylist()
    expected = []
    for answer, one in enumerate([given[0], given[2], given[1]]):  # by day
        about = vars(one)
        for slot in range(len(one.item_id)):
            each = {name: v[slot] if isinstance(v, list) else v for name, v in about.items()}
            expected.append({"answer": answer, "slot": slot, **each})
    assert rows == [{name: row[name] for name in COLUMNS.names} for row in expected]


def test_a_line_is_plain_json() -> None:
    one = exposure(7)
    line = encode(one)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == vars(one)
    assert decode(line) == one


@pytest.mark.parametrize("line", [b"", b"[1]", b"{}", b'{"time":1', encode(exposure(1)).replace(b'["repeat",', b"[")])
def test_what_is_no_answer_is_not_read_as_one(line: bytes) -> None:
    assert decode(line) is None


def test_half_a_line_spoils_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    append(tmp_path, [exposure(0), exposure(1)])
    file = tmp_path / "2024-06-01.jsonl"
    whole = file.read_bytes()
    last = len(encode(exposure(1)))
    for cut in (1, 2, *range(3, last - 1, 17), last - 1, last):
        file.write_bytes(whole[:-cut])
        kept = ["r0", "r1"] if cut == 1 else ["r0"]  # only the end of the line is missing
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            assert _requests(tmp_path) == kept
        assert ("skipped 1 unreadable" in caplog.text) == (1 < cut < last)
        append(tmp_path, [exposure(2)])
        assert _requests(tmp_path) == [*kept, "r2"]


def test_no_log_says_so(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="no exposures in"):
            read_exposures(folder)


def test_an_erased_user_is_in_no_file(tmp_path: Path) -> None:
    append(tmp_path, [exposure(n, ("ann", "ann2", "bob")[n % 3], hours=5 * n) for n in range(9)])
    append(tmp_path, [exposure(10, "ann", hours=200)])  # alone on its day
    torn = tmp_path / "2024-06-02.jsonl"
    torn.write_bytes(torn.read_bytes() + encode(exposure(11, "ann"))[:90])
    untouched = {f: f.stat().st_ino for f in tmp_path.glob("*.jsonl") if b'"ann"' not in f.read_bytes()}
    others = [r for r in _requests(tmp_path) if r not in ("r0", "r3", "r6", "r10")]
    assert erase_user(tmp_path, "ann") == 4
    assert _requests(tmp_path) == others
    assert not [file for file in tmp_path.iterdir() if b'"ann"' in file.read_bytes()]
    assert {file: file.stat().st_ino for file in untouched} == untouched
    assert erase_user(tmp_path, "ann") == 0
    assert erase_user(tmp_path, "ann2") + erase_user(tmp_path, "bob") == 6
    assert not list(tmp_path.glob("*.jsonl"))


def test_who_reads_while_a_user_is_erased_sees_the_old_file_whole(tmp_path: Path) -> None:
    append(tmp_path, [exposure(0, "ann"), exposure(1, "bob")])
    file = tmp_path / "2024-06-01.jsonl"
    whole = file.read_bytes()
    with file.open("rb") as reading:
        erase_user(tmp_path, "ann")
        assert reading.read() == whole
    assert file.read_bytes() == encode(exposure(1, "bob"))


def test_killed_while_erasing_loses_nobody_elses_answers(tmp_path: Path, tell: Tell) -> None:
    def fresh(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        append(folder, [exposure(n, ("ann", "bob")[n % 2], hours=8 * n) for n in range(6)])
        return folder

    alive = fresh("alive")
    work = Killed(partial(erase_user, alive, "ann"), alive)
    work.wait_until_it_writes()
    steps = work.steps()
    assert not work.join()
    for step in range(len(steps)):
        folder = fresh(f"killed-{step}")
        killed = Killed(partial(erase_user, folder, "ann"), folder, kill_at=step)
        assert killed.join()
        assert [r for r in _requests(folder) if r in ("r1", "r3", "r5")] == ["r1", "r3", "r5"]
        erase_user(folder, "ann")
        assert _requests(folder) == ["r1", "r3", "r5"]
        assert not [file for file in folder.iterdir() if b'"ann"' in file.read_bytes()]
    assert len(steps) >= 4
    tell(steps=len(steps))


def test_what_is_written_while_erasing_is_kept(tmp_path: Path) -> None:
    append(tmp_path, [exposure(0)])

    def write() -> None:
        for number in range(1, 301):
            append(tmp_path, [exposure(number, ("ann", "bob")[number % 2])])

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        erase_user(tmp_path, "ann")
    erase_user(tmp_path, "ann")
    assert _requests(tmp_path) == ["r0", *(f"r{number}" for number in range(1, 301, 2))]
