"""A search that finds a user in any file, and takes nobody else for them."""

from html import escape
from json import dumps
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.events.intake import hash_text
from features.mentions import Name, files_of, mentions

ANNA = Name("anna42")


@pytest.mark.parametrize(
    "text", ["anna42", "/profile/anna42", '{"user_id":"anna42"}', "of anna42, too", "device:anna42"]
)
def test_an_id_is_found_as_a_word(text: str) -> None:
    assert ANNA.stands_in(text)


@pytest.mark.parametrize("text", ["", "anna421", "Xanna42", "anna42@x.org", "anna42-2", "anna42é", "anna"])
def test_an_id_within_another_word_is_not_theirs(text: str) -> None:
    assert not ANNA.stands_in(text)


def test_a_short_id_is_only_found_as_a_whole_text() -> None:
    assert Name("u1").stands_in("u1")
    assert not Name("u1").stands_in("of u1")


@pytest.mark.parametrize("user", ["anna42", 'O"Hara & Søn'])
@pytest.mark.parametrize(
    "form", ["json", "json with letters", "html", "bytes of the hash", "hexadecimal", "compressed"]
)
def test_however_it_is_written(user: str, form: str, tmp_path: Path) -> None:
    written = {
        "json": (dumps([user]).encode(), "a.json"),
        "json with letters": (dumps([user], ensure_ascii=False).encode(), "a.json"),
        "html": (f"<p>{escape(user)}</p>".encode(), "a.html"),
        "bytes of the hash": (b"..." + np.array([7, hash_text(user)], np.uint64).tobytes(), "users.hash"),
        "hexadecimal": (f"<h3>({hash_text(user):x})</h3>".encode(), "a.html"),
        "compressed": (b"", "a.parquet"),
    }
    content, name = written[form]
    (tmp_path / name).write_bytes(content)
    if form == "compressed":
        table = pa.table({"x": [f"{user[:-1]}!"] * 50 + [f"{user[:-1]}! of {user} here"]})
        pq.write_table(table, tmp_path / name, compression="zstd", write_statistics=False)
        assert user.encode() not in (tmp_path / name).read_bytes()
    (tmp_path / "other.json").write_text('["somebody else"]')
    assert mentions(files_of(tmp_path), Name(user)).certain == (tmp_path / name,)
    assert mentions(files_of(tmp_path), Name("nobody 1")).certain == ()


@pytest.mark.parametrize("integers", ["uint64", "int64"])
def test_a_table_names_a_user_by_hash(integers: str, tmp_path: Path) -> None:
    user = next(f"u{number}" for number in range(100) if hash_text(f"u{number}") >= 2**63)
    pq.write_table(
        pa.table({"user": np.array([hash_text(user), 5], np.uint64).astype(integers)}), tmp_path / "a.parquet"
    )
    assert mentions(files_of(tmp_path), Name(user)).certain == (tmp_path / "a.parquet",)
    assert mentions(files_of(tmp_path), Name("v")).certain == ()


def test_ids_in_a_list_of_users_are_compared_as_a_whole(tmp_path: Path) -> None:
    """In an Arrow file texts stand one after another without a gap."""
    users = pa.table({"user_id": ["bob", "anna42", "carl"]})
    with pa.OSFile(str(tmp_path / "users.arrow"), "wb") as sink, pa.ipc.new_file(sink, users.schema) as writer:
        writer.write_table(users)
    assert [bool(mentions(files_of(tmp_path), Name(u)).certain) for u in ("anna42", "bob", "bobann", "anna")] == [
        *(True, True, False, False)
    ]


def test_a_number_as_text_is_told_apart(tmp_path: Path) -> None:
    """Items and counts are numbers too."""
    (tmp_path / "items.json").write_text('["1234567"]')
    pq.write_table(pa.table({"user_id": ["1234567"]}), tmp_path / "users.parquet")
    found = mentions(files_of(tmp_path), Name("1234567"))
    assert found.number == (tmp_path / "items.json",)
    assert found.certain == (tmp_path / "users.parquet",)


def test_an_order_of_the_same_number_is_not_the_user(tmp_path: Path) -> None:
    for name in ("order_id", "other"):
        np.array([hash_text("123")], np.uint64).tofile(tmp_path / name)
    assert mentions(files_of(tmp_path), Name("123")).certain == (tmp_path / "other",)
