"""`ebbtide signals`."""

import json
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from cli.options import AsOfOption, OutOption, StoreOption, UsersOption, moment_in, progress, say, user_list
from features.engines.local import matrices
from features.events.columns import USER_ID
from features.events.store import Store
from features.signals import all_signals
from training.backtest import show


def signals(
    store: StoreOption,
    as_of: AsOfOption,
    out: OutOption,
    users: UsersOption = None,
    threads: Annotated[int, typer.Option(help="Buckets of users worked on at once.")] = 2,
) -> None:
    """Write every signal of every user at a moment.

    Example: ebbtide signals --store var/store --as-of 2017-12-01 --out s.parquet
    """
    opened = Store.open(store)
    moment = moment_in(opened, as_of)
    with progress() as told:
        matrix = matrices(
            opened, [moment], users=user_list(users), threads=threads, progress=lambda share: told("signals", share)
        )[0]
    columns = {USER_ID: matrix.user_ids} | {name: pa.array(matrix.column(name)) for name in matrix.names}
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), out)
    sidecar = _sidecar(out)
    described = [
        {"name": s.name, "family": s.family, "unit": s.unit, "description": s.description} for s in all_signals()
    ]
    about = {"as_of": show(moment), "data_digest": opened.digest(moment), "users": len(matrix), "signals": described}
    sidecar.write_text(json.dumps(about, indent=1, ensure_ascii=False))
    say(
        f"wrote {out}: {len(matrix):,} users x {len(matrix.names)} signals as of {show(moment)}; described in {sidecar}"
    )


def _sidecar(out: Path) -> Path:
    return out.with_name(f"{out.name}.json")
