"""The best query a specialist writes for the same signals in DuckDB, Polars and pandas, and the bare scan.

Every peer computes ``COLUMNS`` of one moment over a file of ``benchmarks.generate`` and is checked, cell by cell,
against ``tests/oracle.py`` (``tests/test_peers.py``). What makes them good:

- one pass for all counts, sums and first and last times; a second one over the last 35 days only;
- a distinct count is the latest time per (user, thing), then counted for each window;
- active days are bits of a word per user (the moments of the benchmark are midnights, so windows are whole days);
- purchases, one event in twenty, are read apart; the rest is joined by user at the end;
- DuckDB also reads its own table, sorted by user and time (``duckdb_prepare``), where every group is a run.

For several moments, ``duckdb_many`` first adds up each user's days once, and each moment adds up days.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

COLUMNS = (
    "days_since_purchase", "days_since_seen", "days_since_view", "days_since_cart", "days_since_first_seen",
    "days_since_first_purchase",
    "orders_7d", "orders_30d", "orders_90d", "orders_180d",
    "active_days_7d", "active_days_30d", "active_days_90d", "active_days_180d",
    "carts_7d", "carts_30d", "sessions_7d", "sessions_30d", "purchases_30d", "purchases_90d", "purchases_decayed_30d",
    "spend_7d", "spend_30d", "spend_90d", "spend_180d", "spend_decayed_90d", "order_value_mean_90d",
    "spend_recent_share",
    "views_1d", "views_7d", "views_30d", "views_90d", "views_ratio", "browse_minutes_7d", "browse_minutes_30d",
    "browse_minutes_ratio", "browse_minutes_ratio_at_last_seen", "minutes_per_view_30d",
    "items_viewed_7d", "items_viewed_30d", "purchases_per_view_30d", "carts_per_view_30d",
    "order_gap_mean_days", "order_gap_last_days", "order_gap_longest_days", "overdue_ratio",
    "categories_30d", "categories_90d", "category_penetration", "categories_viewed_30d",
    "items_bought_30d", "items_bought_90d",
)  # fmt: skip

DAY_US = 86_400_000_000
TABLE = "events"


@dataclass(frozen=True)
class Answer:
    """What a contender hands back: enough to see that it did the work and that all did the same."""

    rows: int
    checksum: float


def answer(table: pa.Table) -> Answer:
    """Rows, and the sum of the first and last columns (all columns are there, in memory, as Arrow)."""
    import pyarrow.compute as pc

    ends = (table.column_names[1], table.column_names[-1])
    return Answer(table.num_rows, math.fsum(pc.sum(table[name]).as_py() or 0.0 for name in ends))


def bare_scan(path: Path) -> Answer:
    """The limit: DuckDB reads the same input columns of the raw, unsorted file once and adds them up."""
    row = duckdb.execute(f"""
        SELECT count(*), sum(user_id), sum(epoch_us(ts)), sum((kind = 'view')::INT), sum(item_id), sum(category),
               sum(price), sum(order_id), sum(session_id), sum(dwell_s)
        FROM read_parquet('{path}')
    """).fetchall()[0]
    return Answer(int(row[0]), float(sum(row[1:])))


# --------------------------------------------------------------------------------------------------- DuckDB


def duckdb_prepare(path: Path, database: Path) -> None:
    """Load the file into a DuckDB database, sorted by user and time. Its time is told apart, as our ingest's is."""
    database.unlink(missing_ok=True)
    with duckdb.connect(str(database)) as con:
        con.execute("SET enable_progress_bar = false")
        con.execute(f"""
            CREATE TABLE {TABLE} AS
            SELECT user_id, ts, kind::ENUM('view', 'cart', 'purchase') AS kind, item_id, category, price, order_id,
                   session_id, dwell_s
            FROM read_parquet('{path}') ORDER BY user_id, ts
        """)


def duckdb_signals(path: Path, as_of: datetime, columns: Sequence[str] = COLUMNS) -> Answer:
    """One moment, from the raw Parquet file or from a prepared ``.duckdb``."""
    return answer(duckdb_table(path, as_of, columns))


def duckdb_table(path: Path, as_of: datetime, columns: Sequence[str] = COLUMNS) -> pa.Table:
    con, source = _open(path)
    with con:
        return con.sql(_query(source, as_of, columns)).to_arrow_table()


def duckdb_many(path: Path, moments: Iterable[datetime], columns: Sequence[str] = COLUMNS) -> list[Answer]:
    """Several moments: each user's days are added up once, and every moment adds up days."""
    return [answer(table) for table in duckdb_many_tables(path, moments, columns)]


def duckdb_many_tables(path: Path, moments: Iterable[datetime], columns: Sequence[str] = COLUMNS) -> Iterable[pa.Table]:
    con, source = _open(path)
    with con:
        if path.suffix != ".duckdb":  # read the file once
            con.execute(f"CREATE TEMP TABLE loaded AS SELECT * FROM {source}")
            source = "loaded"
        con.execute(f"CREATE TEMP TABLE days AS {_days(source)}")
        con.execute(f"CREATE TEMP TABLE bought AS SELECT * FROM {source} WHERE kind = 'purchase'")
        for moment in moments:
            parts = {"counts": _counts_of_days(moment), "purchases": _purchases("bought", moment)}
            yield con.sql(_query(source, moment, columns, parts)).to_arrow_table()


def _open(path: Path) -> tuple[duckdb.DuckDBPyConnection, str]:
    con = duckdb.connect(str(path), read_only=True) if path.suffix == ".duckdb" else duckdb.connect()
    con.execute("SET enable_progress_bar = false")
    return con, TABLE if path.suffix == ".duckdb" else f"read_parquet('{path}')"


def _query(source: str, as_of: datetime, columns: Sequence[str], other: dict[str, str] | None = None) -> str:
    """All parts of one moment, joined by user."""
    if as_of.replace(hour=0, minute=0, second=0, microsecond=0) != as_of:
        raise ValueError(f"the peers' active days need a moment at midnight UTC, not {as_of}")
    parts = {
        "counts": _counts(source, as_of),
        "purchases": _purchases(source, as_of),
        "bought_sums": _bought_sums(as_of),
        "orders": _orders(as_of),
        "gaps": _gaps(),
        "at_last": _at_last(source, as_of),
        "viewed_items": _latest(source, "item_id", "viewed_items", as_of, (7, 30), "kind = 'view'"),
        "viewed_categories": _latest(source, "category", "viewed_categories", as_of, (30,), "kind = 'view'"),
        "visits": _latest(source, "session_id", "visits", as_of, (7, 30), "true"),
        "bought_items": _latest("purchases", "item_id", "bought_items", as_of, (30, 90), "true"),
        "bought_categories": _latest("purchases", "category", "bought_categories", as_of, (30, 90, None), "true"),
        "shelf": f"SELECT count(DISTINCT category) AS categories FROM {source} WHERE ts < {_at(as_of)}",
        **(other or {}),
    }
    ctes = ",\n".join(f"{name} AS MATERIALIZED ({sql})" for name, sql in parts.items())
    joined = [name for name in parts if name not in ("counts", "purchases", "order_times", "shelf")]
    joins = "\n".join(f"LEFT JOIN {name} USING (user_id)" for name in joined)
    signals = _signals(as_of)
    chosen = ",\n".join(f"CAST({signals[name]} AS FLOAT) AS {name}" for name in columns)
    return f"WITH {ctes}\nSELECT user_id, {chosen}\nFROM counts {joins}"


def _at(moment: datetime) -> str:
    return f"TIMESTAMP '{moment}'"


def _since(as_of: datetime, days: int, ts: str = "ts") -> str:
    return f"{ts} >= {_at(as_of - timedelta(days=days))}"


def _age(as_of: datetime, ts: str) -> str:
    return f"(epoch_us({_at(as_of)}) - epoch_us({ts})) / {DAY_US}"


def _counts(source: str, as_of: datetime) -> str:
    """One pass over everything for what goes far back, one over 35 days for what does not."""
    dwell = "CASE WHEN kind = 'view' THEN dwell_s END"
    recent = _recent(as_of, "ts", "(kind = 'view')::INT", "(kind = 'cart')::INT", dwell)
    return f"""
        SELECT * FROM (
            SELECT user_id, max(ts) AS seen, min(ts) AS first_seen, max(ts) FILTER (kind = 'view') AS last_view,
                   max(ts) FILTER (kind = 'cart') AS last_cart,
                   count(*) FILTER (kind = 'view' AND {_since(as_of, 90)}) AS views_90d, {_day_bits(as_of)}
            FROM (SELECT *, {_days_ago(as_of, "ts")} AS ago FROM {source} WHERE ts < {_at(as_of)})
            GROUP BY user_id
        ) LEFT JOIN (
            SELECT user_id, {recent} FROM {source} WHERE ts < {_at(as_of)} AND {_since(as_of, 35)} GROUP BY user_id
        ) USING (user_id)
    """


def _days_ago(as_of: datetime, ts: str) -> str:
    """0 for the day before the moment."""
    return f"(epoch_us({_at(as_of)}) - 1 - epoch_us({ts})) // {DAY_US}"


def _day_bits(as_of: datetime) -> str:
    """Three words of 60 days each."""
    words = (f"bit_or(1::BIGINT << (ago % 60)) FILTER (ago BETWEEN {60 * n} AND {60 * n + 59})" for n in range(3))
    return ", ".join(f"coalesce({word}, 0) AS days_{n}" for n, word in enumerate(words))


def _bits(*words: str) -> str:
    return " + ".join(f"bit_count({word})::INT" for word in words)


def _recent(as_of: datetime, ts: str, views: str, carts: str, dwell: str) -> str:
    def inside(value: str, days: int) -> str:
        return f"coalesce(sum(CASE WHEN {_since(as_of, days, ts)} THEN {value} END), 0)"

    wanted = {f"views_{days}d": inside(views, days) for days in (1, 7, 30, 35)}
    wanted |= {f"carts_{days}d": inside(carts, days) for days in (7, 30)}
    wanted |= {f"dwell_{days}d": inside(dwell, days) for days in (7, 30)}
    before = f"{_since(as_of, 35, ts)} AND NOT {_since(as_of, 7, ts)}"
    wanted["dwell_28d_before"] = f"coalesce(sum(CASE WHEN {before} THEN {dwell} END), 0)"
    return ", ".join(f"{sql} AS {name}" for name, sql in wanted.items())


def _days(source: str) -> str:
    """A row for each user and day: all that a window of whole days needs."""
    return f"""
        SELECT user_id, ts::DATE::TIMESTAMP AS day, max(ts) AS seen, min(ts) AS first_seen,
               max(ts) FILTER (kind = 'view') AS last_view, max(ts) FILTER (kind = 'cart') AS last_cart,
               count(*) FILTER (kind = 'view') AS views, count(*) FILTER (kind = 'cart') AS carts,
               sum(dwell_s) FILTER (kind = 'view') AS dwell
        FROM {source} GROUP BY ALL
    """


def _counts_of_days(as_of: datetime) -> str:
    return f"""
        SELECT user_id, max(seen) AS seen, min(first_seen) AS first_seen, max(last_view) AS last_view,
               max(last_cart) AS last_cart,
               coalesce(sum(CASE WHEN {_since(as_of, 90, "day")} THEN views END), 0) AS views_90d,
               {_day_bits(as_of)}, {_recent(as_of, "day", "views", "carts", "dwell")}
        FROM (SELECT *, {_days_ago(as_of, "day")} AS ago FROM days WHERE day < {_at(as_of)})
        GROUP BY user_id
    """


def _purchases(source: str, as_of: datetime) -> str:
    return f"""
        SELECT user_id, ts, item_id, category, price, order_id FROM {source}
        WHERE kind = 'purchase' AND ts < {_at(as_of)}
    """


def _bought_sums(as_of: datetime) -> str:
    spend = ", ".join(
        f"coalesce(sum(price) FILTER ({_since(as_of, days)}), 0) AS spend_{days}d" for days in (7, 30, 90, 180)
    )
    return f"""
        SELECT user_id, max(ts) AS last_purchase, min(ts) AS first_purchase, {spend},
               count(*) FILTER ({_since(as_of, 30)}) AS purchases_30d,
               count(*) FILTER ({_since(as_of, 90)}) AS purchases_90d,
               sum(pow(2.0, -({_age(as_of, "ts")}) / 30)) AS purchases_decayed_30d,
               sum(price * pow(2.0, -({_age(as_of, "ts")}) / 90)) AS spend_decayed_90d
        FROM purchases GROUP BY user_id
    """


def _orders(as_of: datetime) -> str:
    counts = ", ".join(
        f"count(*) FILTER ({_since(as_of, days, 'latest')}) AS orders_{days}d" for days in (7, 30, 90, 180)
    )
    return f"""
        SELECT user_id, {counts}
        FROM (SELECT user_id, order_id, max(ts) AS latest FROM purchases GROUP BY ALL) GROUP BY user_id
    """


def _gaps() -> str:
    """Instants are distinct where the step from the one before is not 0."""
    return f"""
        SELECT user_id, avg(gap) AS gap_mean, arg_max(gap, first) AS gap_last, max(gap) AS gap_longest
        FROM (
            SELECT user_id, first,
                   (epoch_us(first) - epoch_us(lag(first) OVER (PARTITION BY user_id ORDER BY first))) / {DAY_US} AS gap
            FROM (SELECT user_id, order_id, min(ts) AS first FROM purchases GROUP BY ALL)
        )
        WHERE gap > 0 GROUP BY user_id
    """


def _at_last(source: str, as_of: datetime) -> str:
    return f"""
        SELECT user_id,
               coalesce(sum(dwell_s) FILTER (ts > seen - INTERVAL 7 DAY), 0) AS dwell_7d_at_last,
               coalesce(sum(dwell_s) FILTER (ts <= seen - INTERVAL 7 DAY), 0) AS dwell_28d_at_last
        FROM {source} JOIN (SELECT user_id, seen FROM counts) USING (user_id)
        WHERE kind = 'view' AND ts < {_at(as_of)} AND ts > seen - INTERVAL 35 DAY
        GROUP BY user_id
    """


def _latest(source: str, thing: str, name: str, as_of: datetime, windows: Sequence[int | None], where: str) -> str:
    """Distinct things in several windows: the latest time of each (user, thing) counted for each window."""
    longest = None if None in windows else max(days for days in windows if days)
    reach = "true" if longest is None else _since(as_of, longest)
    counts = ", ".join(
        f"count(*) FILTER ({_since(as_of, days, 'latest')}) AS {name}_{days}d" if days else f"count(*) AS {name}_ever"
        for days in windows
    )
    return f"""
        SELECT user_id, {counts} FROM (
            SELECT user_id, {thing}, max(ts) AS latest FROM {source}
            WHERE {where} AND ts < {_at(as_of)} AND {reach} AND {thing} IS NOT NULL GROUP BY ALL
        ) GROUP BY user_id
    """


def _signals(as_of: datetime) -> dict[str, str]:
    """Each column from the joined parts."""

    def zero(name: str) -> str:
        return f"coalesce({name}, 0)"

    signals = {name: zero(name) for name in COLUMNS}
    signals |= {
        f"days_since_{what}": _age(as_of, column)
        for what, column in (
            ("purchase", "last_purchase"), ("seen", "seen"), ("view", "last_view"), ("cart", "last_cart"),
            ("first_seen", "first_seen"), ("first_purchase", "first_purchase"),
        )
    }  # fmt: skip
    signals |= {f"sessions_{days}d": zero(f"visits_{days}d") for days in (7, 30)}
    signals |= {f"items_viewed_{days}d": zero(f"viewed_items_{days}d") for days in (7, 30)}
    signals |= {f"items_bought_{days}d": zero(f"bought_items_{days}d") for days in (30, 90)}
    signals |= {f"categories_{days}d": zero(f"bought_categories_{days}d") for days in (30, 90)}
    signals |= {f"browse_minutes_{days}d": f"{zero(f'dwell_{days}d')} / 60" for days in (7, 30)}
    signals |= {
        "active_days_7d": _bits(f"days_0 & {2**7 - 1}"),
        "active_days_30d": _bits(f"days_0 & {2**30 - 1}"),
        "active_days_90d": _bits("days_0", f"days_1 & {2**30 - 1}"),
        "active_days_180d": _bits("days_0", "days_1", "days_2"),
        "order_value_mean_90d": "spend_90d / nullif(orders_90d, 0)",
        "spend_recent_share": "spend_30d / nullif(spend_90d, 0)",
        "views_ratio": "4 * views_7d / nullif(views_35d - views_7d, 0)",
        "browse_minutes_ratio": "4 * dwell_7d / nullif(dwell_28d_before, 0)",
        "browse_minutes_ratio_at_last_seen": "4 * dwell_7d_at_last / nullif(dwell_28d_at_last, 0)",
        "minutes_per_view_30d": "dwell_30d / 60 / nullif(views_30d, 0)",
        "purchases_per_view_30d": f"{zero('purchases_30d')} / nullif(views_30d, 0)",
        "carts_per_view_30d": "carts_30d / nullif(views_30d, 0)",
        "order_gap_mean_days": "gap_mean",
        "order_gap_last_days": "gap_last",
        "order_gap_longest_days": "gap_longest",
        "overdue_ratio": f"({_age(as_of, 'last_purchase')}) / gap_mean",
        "categories_viewed_30d": zero("viewed_categories_30d"),
        "category_penetration": f"{zero('bought_categories_ever')} / (SELECT categories FROM shelf)",
    }
    return signals


# --------------------------------------------------------------------------------------------------- Polars


def polars_signals(path: Path, as_of: datetime, columns: Sequence[str] = COLUMNS) -> Answer:
    """One moment, from a Parquet file, in Polars' streaming engine."""
    return answer(polars_table(path, as_of, columns))


def polars_table(path: Path, as_of: datetime, columns: Sequence[str] = COLUMNS) -> pa.Table:
    import polars as pl

    return _polars_frame(pl.scan_parquet(path), as_of, columns).collect(engine="streaming").to_arrow()


def polars_many(path: Path, moments: Iterable[datetime], columns: Sequence[str] = COLUMNS) -> list[Answer]:
    """The file is read and sorted by user once; each moment is a query over the frame in memory."""
    import polars as pl

    loaded = pl.read_parquet(path).with_columns(pl.col("kind").cast(pl.Categorical)).sort("user_id").lazy()
    return [answer(_polars_frame(loaded, moment, columns).collect(engine="streaming").to_arrow()) for moment in moments]


def _polars_frame(source: pl.LazyFrame, as_of: datetime, columns: Sequence[str]) -> pl.LazyFrame:
    import polars as pl

    log = source.filter(pl.col("ts") < as_of).with_columns(
        is_view=pl.col("kind") == "view",
        is_cart=pl.col("kind") == "cart",
        ago=(pl.lit(as_of) - pl.col("ts")).dt.total_microseconds(),
    )
    bought = log.filter(pl.col("kind") == "purchase")
    counts = _polars_counts(log)
    views_30d = log.filter(pl.col("is_view") & _ago(30))
    parts = [
        _polars_recent(log.filter(_ago(35))),
        _polars_active_days(log),
        _polars_bought(bought),
        _polars_orders(bought),
        _polars_gaps(bought),
        _polars_at_last(log, counts),
        _polars_latest(views_30d, "item_id", "items_viewed", (7, 30)),
        _polars_latest(views_30d, "category", "categories_viewed", (30,)),
        _polars_latest(log.filter(_ago(30)), "session_id", "sessions", (7, 30)),
        _polars_latest(bought.filter(_ago(90)), "item_id", "items_bought", (30, 90)),
        _polars_latest(bought, "category", "categories", (30, 90, None)),
    ]
    joined = counts
    for part in parts:
        joined = joined.join(part, on="user_id", how="left")
    shelf = log.select(shelf=pl.col("category").n_unique())
    signals = _polars_signals()
    return joined.join(shelf, how="cross").select(
        "user_id", *(signals[name].cast(pl.Float32).alias(name) for name in columns)
    )


def _ago(days: int, column: str = "ago") -> pl.Expr:
    import polars as pl

    return pl.col(column) <= days * DAY_US


def _polars_counts(log: pl.LazyFrame) -> pl.LazyFrame:
    import polars as pl

    ago = pl.col("ago")
    return log.group_by("user_id").agg(
        seen=ago.min(),
        first_seen=ago.max(),
        last_view=pl.when("is_view").then(ago).min(),
        last_cart=pl.when("is_cart").then(ago).min(),
        views_90d=(pl.col("is_view") & _ago(90)).sum(),
    )


def _polars_recent(log: pl.LazyFrame) -> pl.LazyFrame:
    import polars as pl

    dwell = pl.when("is_view").then("dwell_s").otherwise(0.0)
    return log.group_by("user_id").agg(
        *((pl.col("is_view") & _ago(days)).sum().alias(f"views_{days}d") for days in (1, 7, 30, 35)),
        *((pl.col("is_cart") & _ago(days)).sum().alias(f"carts_{days}d") for days in (7, 30)),
        *(pl.when(_ago(days)).then(dwell).otherwise(0.0).sum().alias(f"dwell_{days}d") for days in (7, 30)),
        dwell_28d_before=pl.when(_ago(7)).then(0.0).otherwise(dwell).sum(),
    )


def _polars_active_days(log: pl.LazyFrame) -> pl.LazyFrame:
    import polars as pl

    days = log.filter(_ago(180)).select("user_id", day=((pl.col("ago") - 1) // DAY_US).cast(pl.Int16)).unique()
    return days.group_by("user_id").agg(
        (pl.col("day") < window).sum().alias(f"active_days_{window}d") for window in (7, 30, 90, 180)
    )


def _polars_bought(bought: pl.LazyFrame) -> pl.LazyFrame:
    import polars as pl

    age = pl.col("ago") / DAY_US
    return bought.group_by("user_id").agg(
        pl.col("ago").min().alias("last_purchase"),
        pl.col("ago").max().alias("first_purchase"),
        *(_ago(days).sum().alias(f"purchases_{days}d") for days in (30, 90)),
        *(pl.when(_ago(n)).then("price").otherwise(0.0).sum().alias(f"spend_{n}d") for n in (7, 30, 90, 180)),
        (age * (-math.log(2) / 30)).exp().sum().alias("purchases_decayed_30d"),
        ((age * (-math.log(2) / 90)).exp() * pl.col("price")).sum().alias("spend_decayed_90d"),
    )


def _polars_orders(bought: pl.LazyFrame) -> pl.LazyFrame:
    import polars as pl

    orders = bought.group_by("user_id", "order_id").agg(pl.col("ago").min())
    return orders.group_by("user_id").agg(_ago(days).sum().alias(f"orders_{days}d") for days in (7, 30, 90, 180))


def _polars_gaps(bought: pl.LazyFrame) -> pl.LazyFrame:
    import polars as pl

    orders = bought.group_by("user_id", "order_id").agg(pl.col("ago").max())
    instants = orders.select("user_id", "ago").unique().sort("user_id", "ago", descending=[False, True])
    steps = instants.with_columns(
        gap=pl.when(pl.col("user_id") == pl.col("user_id").shift()).then(pl.col("ago").shift() - pl.col("ago")) / DAY_US
    ).filter(pl.col("gap").is_not_null())
    gap = pl.col("gap")
    return steps.group_by("user_id").agg(
        gap_mean=gap.mean(), gap_last=gap.get(pl.col("ago").arg_min()), gap_longest=gap.max()
    )


def _polars_at_last(log: pl.LazyFrame, counts: pl.LazyFrame) -> pl.LazyFrame:
    import polars as pl

    before_last = pl.col("ago") - pl.col("seen")
    return (
        log.filter("is_view")
        .select("user_id", "ago", "dwell_s")
        .join(counts.select("user_id", "seen"), on="user_id")
        .filter(before_last < 35 * DAY_US)
        .group_by("user_id")
        .agg(
            dwell_7d_at_last=pl.when(before_last < 7 * DAY_US).then("dwell_s").otherwise(0.0).sum(),
            dwell_28d_at_last=pl.when(before_last >= 7 * DAY_US).then("dwell_s").otherwise(0.0).sum(),
        )
    )


def _polars_latest(log: pl.LazyFrame, thing: str, name: str, windows: Sequence[int | None]) -> pl.LazyFrame:
    import polars as pl

    latest = log.filter(pl.col(thing).is_not_null()).group_by("user_id", thing).agg(pl.col("ago").min())
    return latest.group_by("user_id").agg(
        _ago(days).sum().alias(f"{name}_{days}d") if days else pl.len().alias(f"{name}_ever") for days in windows
    )


def _polars_signals() -> dict[str, pl.Expr]:
    import polars as pl

    def zero(name: str) -> pl.Expr:
        return pl.col(name).fill_null(0)

    def ratio(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
        return pl.when(whole != 0).then(part / whole)

    dates = {
        "purchase": "last_purchase", "seen": "seen", "view": "last_view", "cart": "last_cart",
        "first_seen": "first_seen", "first_purchase": "first_purchase",
    }  # fmt: skip
    signals = {name: zero(name) for name in COLUMNS}
    signals |= {f"days_since_{what}": pl.col(column) / DAY_US for what, column in dates.items()}
    signals |= {f"browse_minutes_{days}d": zero(f"dwell_{days}d") / 60 for days in (7, 30)}
    signals |= {
        "order_value_mean_90d": ratio(zero("spend_90d"), zero("orders_90d")),
        "spend_recent_share": ratio(zero("spend_30d"), zero("spend_90d")),
        "views_ratio": ratio(4 * zero("views_7d"), zero("views_35d").cast(pl.Int64) - zero("views_7d")),
        "browse_minutes_ratio": ratio(4 * zero("dwell_7d"), zero("dwell_28d_before")),
        "browse_minutes_ratio_at_last_seen": ratio(4 * zero("dwell_7d_at_last"), zero("dwell_28d_at_last")),
        "minutes_per_view_30d": ratio(zero("dwell_30d") / 60, zero("views_30d")),
        "purchases_per_view_30d": ratio(zero("purchases_30d"), zero("views_30d")),
        "carts_per_view_30d": ratio(zero("carts_30d"), zero("views_30d")),
        "order_gap_mean_days": pl.col("gap_mean"),
        "order_gap_last_days": pl.col("gap_last"),
        "order_gap_longest_days": pl.col("gap_longest"),
        "overdue_ratio": pl.col("last_purchase") / DAY_US / pl.col("gap_mean"),
        "category_penetration": zero("categories_ever") / pl.col("shelf"),
    }
    return signals


# --------------------------------------------------------------------------------------------------- pandas


def pandas_signals(path: Path, as_of: datetime, columns: Sequence[str] = COLUMNS) -> Answer:
    """One moment, from a Parquet file."""
    return answer(pandas_table(path, as_of, columns))


def pandas_table(path: Path, as_of: datetime, columns: Sequence[str] = COLUMNS) -> pa.Table:
    return pa.Table.from_pandas(_pandas_frame(_pandas_load(path), as_of, columns), preserve_index=False)


def pandas_many(path: Path, moments: Iterable[datetime], columns: Sequence[str] = COLUMNS) -> list[Answer]:
    """The file is read once."""
    log = _pandas_load(path)
    return [answer(pa.Table.from_pandas(_pandas_frame(log, m, columns), preserve_index=False)) for m in moments]


def _pandas_load(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_parquet(path).sort_values("user_id", kind="stable", ignore_index=True)


def _pandas_frame(log: pd.DataFrame, as_of: datetime, columns: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    moment = pd.Timestamp(as_of)
    log = log[log["ts"] < moment]
    log = log.assign(ago=(moment - log["ts"]).dt.total_seconds() * 1e6, ts=None)
    log["ago"] = log["ago"].round().astype("int64")
    views, carts = log[log["kind"] == "view"], log[log["kind"] == "cart"]
    bought = log[log["kind"] == "purchase"]
    all_ago = log.groupby("user_id")["ago"]
    wide = pd.DataFrame({"seen": all_ago.min(), "first_seen": all_ago.max()})
    wide["last_view"] = views.groupby("user_id")["ago"].min()
    wide["last_cart"] = carts.groupby("user_id")["ago"].min()
    _pandas_windows(wide, views, "views", (1, 7, 30, 35, 90))
    _pandas_windows(wide, carts, "carts", (7, 30))
    _pandas_windows(wide, bought, "purchases", (30, 90))
    _pandas_windows(wide, views, "dwell", (7, 30, 35), "dwell_s")
    _pandas_windows(wide, bought, "spend", (7, 30, 90, 180), "price")
    _pandas_bought(wide, bought)
    before_last = views["ago"].to_numpy() - wide["seen"].reindex(views["user_id"]).to_numpy()
    _pandas_windows(wide, views.assign(ago=before_last + 1), "dwell_at_last", (7, 35), "dwell_s")
    days = log[["user_id", "ago"]].assign(day=(log["ago"] - 1) // DAY_US)
    days["ago"] = days["day"] * DAY_US
    for name, table, thing, windows in (
        ("active_days", days[days["day"] < 180], "day", (7, 30, 90, 180)),
        ("sessions", log, "session_id", (7, 30)),
        ("items_viewed", views, "item_id", (7, 30)),
        ("categories_viewed", views, "category", (30,)),
        ("orders", bought, "order_id", (7, 30, 90, 180)),
        ("items_bought", bought, "item_id", (30, 90)),
        ("categories", bought, "category", (30, 90, 100_000)),
    ):
        _pandas_distinct(wide, table, thing, name, windows, exclusive=thing == "day")
    return _pandas_signals(wide, log["category"].nunique(), columns)


def _pandas_windows(
    wide: pd.DataFrame, log: pd.DataFrame, name: str, windows: Sequence[int], value: str | None = None
) -> None:
    """Counts or sums, widest window first, so that each narrower one looks at fewer rows."""
    for days in sorted(windows, reverse=True):
        log = log[log["ago"] <= days * DAY_US]
        groups = log.groupby("user_id")
        sums = groups.size() if value is None else groups[value].sum()
        wide[f"{name}_{days}d"] = sums.reindex(wide.index).fillna(0)


def _pandas_distinct(
    wide: pd.DataFrame, log: pd.DataFrame, thing: str, name: str, windows: Sequence[int], exclusive: bool = False
) -> None:
    """The latest time of each (user, thing), then counted for each window; a day's own time is its beginning."""
    log = log[log["ago"] <= max(windows) * DAY_US]
    latest = log.groupby(["user_id", thing], sort=False)["ago"].min().reset_index()
    for days in windows:
        inside = latest["ago"] < days * DAY_US if exclusive else latest["ago"] <= days * DAY_US
        wide[f"{name}_{days}d"] = latest[inside].groupby("user_id").size().reindex(wide.index).fillna(0)


def _pandas_bought(wide: pd.DataFrame, bought: pd.DataFrame) -> None:
    import numpy as np

    groups = bought.groupby("user_id")["ago"]
    wide["last_purchase"], wide["first_purchase"] = groups.min(), groups.max()
    age = bought["ago"] / DAY_US
    decayed = bought[["user_id"]].assign(
        purchases_decayed_30d=np.exp2(-age / 30), spend_decayed_90d=bought["price"] * np.exp2(-age / 90)
    )
    sums = decayed.groupby("user_id").sum().reindex(wide.index).fillna(0)
    wide[sums.columns] = sums
    orders = bought.groupby(["user_id", "order_id"])["ago"].max().reset_index()
    instants = orders[["user_id", "ago"]].drop_duplicates().sort_values(["user_id", "ago"], ascending=[True, False])
    instants["gap"] = -instants.groupby("user_id")["ago"].diff() / DAY_US
    gaps = instants.dropna().groupby("user_id")["gap"]
    wide["gap_mean"], wide["gap_last"], wide["gap_longest"] = gaps.mean(), gaps.last(), gaps.max()


def _pandas_signals(wide: pd.DataFrame, shelf: int, columns: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    def ratio(part: pd.Series, whole: pd.Series) -> pd.Series:
        return part / whole.where(whole.abs() > 1e-9)

    dates = {
        "purchase": "last_purchase", "seen": "seen", "view": "last_view", "cart": "last_cart",
        "first_seen": "first_seen", "first_purchase": "first_purchase",
    }  # fmt: skip
    signals = {f"days_since_{what}": wide[column] / DAY_US for what, column in dates.items()}
    signals |= {f"browse_minutes_{days}d": wide[f"dwell_{days}d"] / 60 for days in (7, 30)}
    at_last = wide["dwell_at_last_7d"]
    signals |= {
        "order_value_mean_90d": ratio(wide["spend_90d"], wide["orders_90d"]),
        "spend_recent_share": ratio(wide["spend_30d"], wide["spend_90d"]),
        "views_ratio": ratio(4 * wide["views_7d"], wide["views_35d"] - wide["views_7d"]),
        "browse_minutes_ratio": ratio(4 * wide["dwell_7d"], (wide["dwell_35d"] - wide["dwell_7d"]).round(6)),
        "browse_minutes_ratio_at_last_seen": ratio(4 * at_last, (wide["dwell_at_last_35d"] - at_last).round(6)),
        "minutes_per_view_30d": ratio(wide["dwell_30d"] / 60, wide["views_30d"]),
        "purchases_per_view_30d": ratio(wide["purchases_30d"], wide["views_30d"]),
        "carts_per_view_30d": ratio(wide["carts_30d"], wide["views_30d"]),
        "order_gap_mean_days": wide["gap_mean"],
        "order_gap_last_days": wide["gap_last"],
        "order_gap_longest_days": wide["gap_longest"],
        "overdue_ratio": wide["last_purchase"] / DAY_US / wide["gap_mean"],
        "category_penetration": wide["categories_100000d"] / shelf,
    }
    chosen = {name: signals[name] if name in signals else wide[name] for name in columns}
    return pd.DataFrame(chosen, dtype="float32").rename_axis("user_id").reset_index()
