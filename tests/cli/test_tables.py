"""Tables on their way into files."""

from pathlib import Path

import pyarrow as pa
import pytest

from cli.tables import checked_out, write_table
from features.errors import UserError
from tests.features.support import at


def test_lists_and_instants_in_a_csv(tmp_path: Path):
    """An instant between two seconds loses its parts of a second, and stops nothing."""
    table = pa.table(
        {
            "at": pa.array([at("2024-06-01T08:00") + 500_000, None], pa.timestamp("us")),
            "texts": pa.array([["a", "b,c"], []], pa.list_(pa.string())),
            "numbers": pa.array([[0.5], None], pa.list_(pa.float64())),
        }
    )
    write_table(tmp_path / "out" / "table.csv", table)
    lines = (tmp_path / "out" / "table.csv").read_text().splitlines()
    assert lines == ['"at","texts","numbers"', '"2024-06-01T08:00:00Z","a | b,c","0.5"', ',"",']
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["table.csv"]


def test_other_forms_are_refused():
    with pytest.raises(UserError, match="is neither"):
        checked_out(Path("contacts.xlsx"))
