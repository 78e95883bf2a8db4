"""No request waits for the exposure log, and nothing that it took is lost unless it says so."""

import fcntl
import logging
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from features.errors import UserError
from models.exposure import read_exposures
from serving.exposures import ExposureLog
from tests.killed import Killed
from tests.models.test_exposure import exposure

PATIENCE = 60.0  # seconds until a test gives up


def _requests(folder: Path) -> list[str]:
    return read_exposures(folder)["request_id"].to_pylist()[::3]


def _until_written(folder: Path, answers: int) -> None:
    """Wait for so many whole lines."""
    gives_up = time.monotonic() + PATIENCE
    while sum(file.read_bytes().count(b"\n") for file in folder.glob("*.jsonl")) < answers:
        assert time.monotonic() < gives_up
        time.sleep(0.01)


def test_what_many_threads_add_is_written_once(tmp_path: Path) -> None:
    log = ExposureLog(tmp_path / "new" / "folder")

    def add(start: int) -> None:
        for number in range(start, start + 250):
            log.add(exposure(number))

    threads = [threading.Thread(target=add, args=(start,)) for start in range(0, 1_000, 250)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    written = _requests(tmp_path / "new" / "folder")
    assert sorted(written) == sorted(f"r{number}" for number in range(1_000))
    for start in range(0, 1_000, 250):  # in the order in which each thread gave them
        assert [r for r in written if start <= int(r[1:]) < start + 250] == [f"r{start + n}" for n in range(250)]
    assert log.dropped == 0


def test_it_is_written_before_the_log_is_closed(tmp_path: Path) -> None:
    log = ExposureLog(tmp_path)
    log.add(exposure(0))
    _until_written(tmp_path, 1)
    assert _requests(tmp_path) == ["r0"]
    log.close()


def test_nobody_waits_for_a_disk_that_hangs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = ExposureLog(tmp_path, most_waiting=10)
    with (tmp_path / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # as whoever erases a user does: nothing can be written
        for number in range(100):
            log.add(exposure(number))  # returns, or this test never ends
        assert 80 <= log.dropped <= 90  # ten wait, and up to ten are in the writer's hands
        assert not list(tmp_path.glob("*.jsonl"))
    with caplog.at_level(logging.ERROR):
        log.close()
    assert len(_requests(tmp_path)) + log.dropped == 100
    assert f"{log.dropped} exposures dropped" in caplog.text


def test_a_disk_that_refuses_costs_these_answers_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "2024-06-01.jsonl").mkdir()
    log = ExposureLog(tmp_path)
    with caplog.at_level(logging.ERROR):
        log.add(exposure(0))
        gives_up = time.monotonic() + PATIENCE
        while not log.dropped:
            assert time.monotonic() < gives_up
            time.sleep(0.01)
    (tmp_path / "2024-06-01.jsonl").rmdir()
    log.add(exposure(1))
    log.close()
    assert _requests(tmp_path) == ["r1"]
    assert log.dropped == 1
    assert "could not write 1 exposures" in caplog.text


def test_what_comes_after_the_end_is_counted_as_dropped(tmp_path: Path) -> None:
    log = ExposureLog(tmp_path)
    log.add(exposure(0))
    log.close()
    log.close()
    log.add(exposure(1))
    assert log.dropped == 1
    assert _requests(tmp_path) == ["r0"]


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="name a folder that can be written to"):
        ExposureLog(tmp_path / "file")


def _serve_for_ever(folder: Path) -> None:
    log, number = ExposureLog(folder, most_waiting=1_000), 0
    while True:
        log.add(exposure(number))
        number += 1


def test_a_killed_service_leaves_a_log_that_can_be_read_and_continued(tmp_path: Path) -> None:
    killed = Killed(partial(_serve_for_ever, tmp_path), tmp_path)
    killed.wait_until_it_writes()
    _until_written(tmp_path, 50)
    killed.kill()
    assert killed.join()
    before = _requests(tmp_path)
    assert len(before) >= 50
    log = ExposureLog(tmp_path)
    log.add(exposure(-1))
    log.close()
    assert _requests(tmp_path) == [*before, "r-1"]
