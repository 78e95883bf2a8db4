"""A slow, obvious SQL for every signal, written apart from the kernel.

``oracle(events, items, as_of)`` reads the raw events (the contract's columns, any optional one may be absent) and gives
one row for each user with an event known before the moment: ``user_id`` (text) and one float column a signal.

The way: ``log`` gives every contract column a type, ``known`` keeps what was known at the moment, ``events`` adds what
needs a look at a row's neighbours (order, session, dwell, the user's last event), ``gaps`` walks from order to order;
then each signal is one aggregate over ``events`` or one expression over those aggregates. NULL is NaN in the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import duckdb
import pandas as pd
import pyarrow as pa

Table: TypeAlias = pd.DataFrame | pa.Table | duckdb.DuckDBPyRelation | str | Path
Columns = dict[str, str]  # signal name → SQL expression

DAY_US = 86_400_000_000
IDLE_US = 30 * 60 * 1_000_000  # a session ends after more than this; a gap longer than this is no dwell
DERIVED_DWELL_UNIT_US = 1  # a dwell derived from a gap is exact; 1000 would round it to whole milliseconds

CONTRACT = {
    "user_id": "VARCHAR", "ts": "TIMESTAMP", "kind": "VARCHAR", "item_id": "VARCHAR", "category": "VARCHAR",
    "price": "DECIMAL(18,4)", "quantity": "DECIMAL(18,4)", "amount": "DECIMAL(18,4)", "discount": "DECIMAL(18,4)",
    "order_id": "VARCHAR", "session_id": "VARCHAR", "dwell_s": "DECIMAL(18,3)", "arrived_at": "TIMESTAMP",
    "page": "VARCHAR", "search_results": "BIGINT",
}  # fmt: skip
MADE_TO_THE_USER = ("message_sent", "coupon_received", "delivered")


def oracle(events: Table, items: Table | None, as_of: datetime | int) -> pd.DataFrame:
    """Every signal of every user known before the moment, float64, sorted by user_id."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    moment = moment_us(as_of)
    _load_log(con, events)
    _load_items(con, items)
    _make_known(con, moment)
    seen = _observed(con)
    _make_events(con, seen)
    _make_gaps(con)
    _make_favourites(con)
    plain = _plain(seen)
    con.execute(f"CREATE TABLE plain AS SELECT user_id, {_select(plain)} FROM events GROUP BY user_id")
    con.execute(
        "CREATE TABLE parts AS SELECT * FROM favourites LEFT JOIN gaps USING (user_id) LEFT JOIN rhythm USING (user_id)"
        " JOIN plain USING (user_id)"
    )
    combined = _combined(seen)
    shown = [name for name in plain if not name.startswith("_")]
    answer = con.execute(f"""
        SELECT user_id, {", ".join(shown)}, {", ".join(GAPS)}, {_select(combined)}
        FROM parts ORDER BY user_id
    """).df()
    con.close()
    return answer


def moment_us(as_of: datetime | int) -> int:
    """µs since 1970 UTC; a datetime without a zone is UTC."""
    if isinstance(as_of, int):
        return as_of
    aware = as_of if as_of.tzinfo else as_of.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


# ---------------------------------------------------------------------------------------------- the rows


def _relation(con: duckdb.DuckDBPyConnection, table: Table) -> duckdb.DuckDBPyRelation:
    if isinstance(table, str | Path):
        return con.read_csv(str(table)) if str(table).endswith((".csv", ".csv.gz")) else con.read_parquet(str(table))
    if isinstance(table, duckdb.DuckDBPyRelation):
        return con.from_arrow(table.to_arrow_table())
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table, preserve_index=False)
    return con.from_arrow(table)


def _typed(given: duckdb.DuckDBPyRelation, contract: dict[str, str]) -> str:
    """Each contract column, cast; an absent one is NULL, and so is a float NaN."""
    types = {name: str(kind) for name, kind in zip(given.columns, given.types, strict=True)}

    def cast(name: str, kind: str) -> str:
        if name not in types:
            return f"CAST(NULL AS {kind}) AS {name}"
        value = f"nullif({name}, 'nan')" if types[name] in ("DOUBLE", "FLOAT") else name
        return f"CAST({value} AS {kind}) AS {name}"

    return ", ".join(cast(name, kind) for name, kind in contract.items())


def _load_log(con: duckdb.DuckDBPyConnection, events: Table) -> None:
    given = _relation(con, events)
    given.create_view("given_events")
    con.execute(f"CREATE TABLE log AS SELECT {_typed(given, CONTRACT)} FROM given_events")


def _load_items(con: duckdb.DuckDBPyConnection, items: Table | None) -> None:
    con.execute("CREATE TABLE items (item_id VARCHAR, category VARCHAR)")
    if items is not None:
        given = _relation(con, items)
        given.create_view("given_items")
        typed = _typed(given, {"item_id": "VARCHAR", "category": "VARCHAR"})
        con.execute(f"INSERT INTO items SELECT {typed} FROM given_items")


def _make_known(con: duckdb.DuckDBPyConnection, moment: int) -> None:
    """What was known at the moment, with the row's own quantity, amount, category and order settled."""
    made_to = ", ".join(f"'{kind}'" for kind in MADE_TO_THE_USER)
    con.execute(f"""
        CREATE TABLE known AS
        SELECT
            row_number() OVER ()                                 AS row_no,
            log.user_id,
            log.kind,
            log.kind NOT IN ({made_to})                          AS made,
            epoch_us(log.ts)                                     AS t,
            {moment} - epoch_us(log.ts)                          AS age_us,
            CAST(log.ts AS DATE)                                 AS day,
            log.item_id,
            coalesce(log.category, items.category)               AS category,
            coalesce(log.quantity, 1)                            AS quantity,
            coalesce(log.amount, round(log.price * coalesce(log.quantity, 1), 4)) AS amount,
            log.discount,
            log.order_id,
            log.session_id,
            log.dwell_s,
            log.page,
            log.search_results
        FROM log LEFT JOIN items ON log.item_id = items.item_id
        WHERE epoch_us(log.ts) < {moment}
          AND epoch_us(coalesce(log.arrived_at, log.ts)) <= {moment}
    """)


@dataclass(frozen=True)
class Observed:
    """What the log knew before the moment: its kinds, and the columns with at least one value."""

    kinds: frozenset[str]
    columns: frozenset[str]
    made: bool  # any event made by a user
    categories: int  # distinct categories of the items table, else of the known log


def _observed(con: duckdb.DuckDBPyConnection) -> Observed:
    kinds = frozenset(kind for (kind,) in con.execute("SELECT DISTINCT kind FROM known").fetchall())
    looked_at = ("item_id", "category", "amount", "discount", "session_id", "dwell_s", "order_id", "search_results")
    counts = con.execute(f"SELECT {', '.join(f'count({name})' for name in looked_at)} FROM known").fetchall()[0]
    listed = _one(con, "SELECT count(DISTINCT category) FROM items")
    in_log = _one(con, "SELECT count(DISTINCT category) FROM known")
    return Observed(
        kinds=kinds,
        columns=frozenset(name for name, count in zip(looked_at, counts, strict=True) if count),
        made=bool(kinds - set(MADE_TO_THE_USER)),
        categories=listed or in_log,
    )


def _one(con: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(con.execute(sql).fetchall()[0][0])


def _make_events(con: duckdb.DuckDBPyConnection, seen: Observed) -> None:
    """``known`` with each row's order, session, dwell and the user's last event."""
    _make_derived_sessions(con)
    _make_derived_dwell(con, seen)
    _make_clocks(con)
    session = "session_id" if "session_id" in seen.columns else "derived_session"
    dwell = "1000 * CAST(1000 * dwell_s AS BIGINT)" if "dwell_s" in seen.columns else "derived_dwell_us"
    con.execute(f"""
        CREATE TABLE events AS
        SELECT
            known.*,
            coalesce('order ' || order_id, 'row ' || row_no)                    AS order_key,
            CAST({session} AS VARCHAR)                                          AS session,
            CASE WHEN kind = 'view' THEN coalesce({dwell}, 0) END               AS dwell_us,
            max(t) FILTER (made) OVER (PARTITION BY user_id) - t                AS before_last_us,
            CASE WHEN order_id IS NOT NULL
                 THEN t - min(t) FILTER (kind = 'purchase') OVER (PARTITION BY user_id, order_id) END AS since_paid_us,
            clocks.* EXCLUDE (user_id)
        FROM known LEFT JOIN clocks USING (user_id)
        LEFT JOIN derived_sessions USING (row_no)
        LEFT JOIN derived_dwell USING (row_no)
    """)


VISITS = (1, 2, 4, 8)
BEFORE = 16  # visits before those
CLOCKS = {
    "view": ("kind = 'view'", sorted({*VISITS, 16, *(n + BEFORE for n in VISITS)})),
    "purchase": ("kind = 'purchase'", [1, 2, 3, 4, 5, 10]),
    "made": ("made", [1]),
}


def _make_clocks(con: duckdb.DuckDBPyConnection) -> None:
    """A user each: the first instant of the n-th newest date with such an event; NULL with fewer dates, and then the
    first instant of all as `<clock>_first`. Without any, both are NULL."""
    con.execute("CREATE TABLE clocks AS SELECT DISTINCT user_id FROM known")
    for clock, (which, numbers) in CLOCKS.items():
        nth = ", ".join(f"max(t) FILTER (newest = {n}) AS {clock}_{n}" for n in numbers)
        con.execute(f"""
            CREATE OR REPLACE TABLE clocks AS
            WITH dates AS (SELECT user_id, day, min(t) AS t FROM known WHERE {which} GROUP BY user_id, day),
            numbered AS (SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY day DESC) AS newest FROM dates)
            SELECT * FROM clocks LEFT JOIN
                (SELECT user_id, {nth}, min(t) AS {clock}_first FROM numbered GROUP BY user_id) USING (user_id)
        """)


def _make_favourites(con: duckdb.DuckDBPyConnection) -> None:
    """For the newest n visits: views by category since then and in the 16 visits before; those of the most viewed."""
    con.execute("CREATE TABLE favourites AS SELECT DISTINCT user_id FROM known")
    for n in VISITS:
        con.execute(f"""
            CREATE OR REPLACE TABLE favourites AS
            WITH viewed AS (
                SELECT user_id, category, {since(f"view_{n}")} AS lately FROM events
                WHERE kind = 'view' AND category IS NOT NULL AND {since(f"view_{n + BEFORE}")}
            ),
            counted AS (
                SELECT user_id, category, count(*) FILTER (NOT lately) AS earlier, count(*) FILTER (lately) AS later
                FROM viewed GROUP BY user_id, category
            ),
            ranked AS (SELECT *, earlier = max(earlier) OVER (PARTITION BY user_id) AS most FROM counted),
            summed AS (
                SELECT user_id,
                    sum(earlier) AS _all_before_{n}, sum(earlier) FILTER (most) AS _favourite_before_{n},
                    sum(later) AS _all_lately_{n}, sum(later) FILTER (most) AS _favourite_lately_{n}
                FROM ranked GROUP BY user_id
            )
            SELECT * FROM favourites LEFT JOIN summed USING (user_id)
        """)


def _make_derived_sessions(con: duckdb.DuckDBPyConnection) -> None:
    """Sessions of a log without session ids: a new one after more than 30 idle minutes."""
    con.execute(f"""
        CREATE TABLE derived_sessions AS
        WITH steps AS (
            SELECT row_no, user_id, t, t - lag(t) OVER (PARTITION BY user_id ORDER BY t, row_no) AS idle_us
            FROM known WHERE made
        )
        SELECT row_no, count(*) FILTER (idle_us > {IDLE_US}) OVER (
            PARTITION BY user_id ORDER BY t, row_no ROWS UNBOUNDED PRECEDING
        ) AS derived_session
        FROM steps
    """)


def _make_derived_dwell(con: duckdb.DuckDBPyConnection, seen: Observed) -> None:
    """Dwell of a log without dwell: the gap to the user's next event, at most 30 minutes, in the same session.

    Events of one instant are taken together, so that no tie order matters: the time after an instant with views
    counts once (one of its views carries it), and the session goes on if any of its views shares an id with any event
    of the next instant. A null session id is the same session as nothing.
    """
    same_session = "list_has_any(view_sessions, next_sessions)" if "session_id" in seen.columns else "true"
    con.execute(f"""
        CREATE TABLE derived_dwell AS
        WITH instants AS (
            SELECT
                user_id, t,
                min(row_no) FILTER (kind = 'view')                                                 AS row_no,
                coalesce(list(session_id) FILTER (kind = 'view' AND session_id IS NOT NULL), [])   AS view_sessions,
                coalesce(list(session_id) FILTER (session_id IS NOT NULL), [])                     AS sessions
            FROM known WHERE made GROUP BY user_id, t
        ),
        followed AS (
            SELECT *, lead(t) OVER later - t AS gap_us, lead(sessions) OVER later AS next_sessions
            FROM instants WINDOW later AS (PARTITION BY user_id ORDER BY t)
        )
        SELECT row_no, CAST(round(gap_us / {DERIVED_DWELL_UNIT_US}) AS BIGINT) * {DERIVED_DWELL_UNIT_US}
            AS derived_dwell_us
        FROM followed
        WHERE row_no IS NOT NULL AND gap_us <= {IDLE_US} AND {same_session}
    """)


GAPS = ("order_gap_mean_days", "order_gap_last_days", "order_gap_longest_days", "order_gap_spread_days")
BEYOND = (0, 7, 14, 30, 60, 90)  # days that a gap is longer than the present silence
HALF_LIVES = (7, 14, 30, 60, 120, 365)


def _make_gaps(con: duckdb.DuckDBPyConnection) -> None:
    """Days between successive distinct order instants; an order's instant is its earliest known purchase row."""
    longer = ", ".join(
        f"count(*) FILTER (gap_us > silence_us + {days * DAY_US}) AS _gaps_longer_{days}d" for days in BEYOND
    )
    fading = ", ".join(
        f"sum(pow(2.0, -(age_us / {DAY_US}) / {days})) AS _orders_decayed_{days}d" for days in HALF_LIVES
    )
    con.execute(f"""
        CREATE TABLE rhythm AS
        WITH orders AS (
            SELECT user_id, order_key, min(t) AS t, arg_min(age_us, t) AS age_us
            FROM events WHERE kind = 'purchase' GROUP BY user_id, order_key
        ),
        instants AS (SELECT DISTINCT user_id, t, age_us FROM orders),
        steps AS (
            SELECT *,
                t - lag(t) OVER (PARTITION BY user_id ORDER BY t)    AS gap_us,
                min(age_us) OVER (PARTITION BY user_id)              AS silence_us
            FROM instants
        )
        SELECT user_id, {longer}, {fading} FROM steps GROUP BY user_id
    """)
    con.execute(f"""
        CREATE TABLE gaps AS
        WITH orders AS (
            SELECT user_id, order_key, min(t) AS t FROM events WHERE kind = 'purchase' GROUP BY user_id, order_key
        ),
        instants AS (SELECT DISTINCT user_id, t FROM orders),
        steps AS (
            SELECT user_id, t, (t - lag(t) OVER (PARTITION BY user_id ORDER BY t)) / {DAY_US} AS gap FROM instants
        )
        SELECT
            user_id,
            avg(gap)          AS order_gap_mean_days,
            arg_max(gap, t)   AS order_gap_last_days,
            max(gap)          AS order_gap_longest_days,
            stddev_pop(gap)   AS order_gap_spread_days
        FROM steps WHERE gap IS NOT NULL GROUP BY user_id
    """)


# ------------------------------------------------------------------------- pieces of SQL, one user's events


def within(days: int) -> str:
    """In [as_of - days, as_of)."""
    return f"age_us <= {days * DAY_US}"


def within_or_ever(days: int | None) -> str:
    return "true" if days is None else within(days)


def count(kind: str, days: int | None) -> str:
    return f"count(*) FILTER (kind = '{kind}' AND {within_or_ever(days)})"


def total(value: str, kind: str, days: int | None) -> str:
    return f"coalesce(sum({value}) FILTER (kind = '{kind}' AND {within_or_ever(days)}), 0)"


def since(clock: str) -> str:
    """Since the n-th newest date of a clock such as `view_4`: all of the time with fewer dates, no time with none."""
    return f"t >= coalesce({clock}, {clock.rpartition('_')[0]}_first)"


def count_since(which: str, clock: str) -> str:
    return f"count(*) FILTER ({which} AND {since(clock)})"


def days_ago(instant: str) -> str:
    """Days from an instant, one a user, to the moment."""
    return f"any_value(age_us + t - {instant}) / {DAY_US}"


def distinct(value: str, kind: str, days: int | None) -> str:
    return f"count(DISTINCT {value}) FILTER (kind = '{kind}' AND {within_or_ever(days)})"


def days_since(which: str) -> str:
    return f"min(age_us) FILTER ({which}) / {DAY_US}"


def days_since_first(which: str) -> str:
    return f"max(age_us) FILTER ({which}) / {DAY_US}"


def slope(value: str, kind: str, weeks: int = 12) -> str:
    """Least squares slope a week over the whole weeks: Σ (k - mean k) y / Σ (k - mean k)², 0 the oldest."""
    mean = (weeks - 1) / 2
    spread = sum((k - mean) ** 2 for k in range(weeks))
    terms = " + ".join(f"{k - mean} * {_in_week(value, kind, weeks - k)}" for k in range(weeks))
    return f"({terms}) / {spread}"


def _in_week(value: str, kind: str, weeks_ago: int) -> str:
    newest, oldest = (weeks_ago - 1) * 7 * DAY_US, weeks_ago * 7 * DAY_US
    chosen = f"kind = '{kind}' AND age_us > {newest} AND age_us <= {oldest}"
    return f"CAST(coalesce(sum({value}) FILTER ({chosen}), 0) AS DOUBLE)"


def decayed(value: str, kind: str, half_life: int) -> str:
    weighted = f"CAST({value} AS DOUBLE) * pow(2.0, -(age_us / {DAY_US}) / {half_life})"
    return f"coalesce(sum({weighted}) FILTER (kind = '{kind}'), 0)"


def ratio(part: str, whole: str) -> str:
    """NULL where a part is NULL or the whole is zero."""
    return f"CAST({part} AS DOUBLE) / nullif(CAST({whole} AS DOUBLE), 0)"


def _select(columns: Columns) -> str:
    return ",\n".join(f"CAST({sql} AS DOUBLE) AS {name}" for name, sql in columns.items())


def _named(name: str, windows: Iterable[int], sql: Callable[[int], str]) -> Columns:
    return {f"{name}_{days}d": sql(days) for days in windows}


def _if(observed: bool, columns: Columns) -> Columns:
    """Not observed in the log before the moment: NULL for every user."""
    return columns if observed else dict.fromkeys(columns, "NULL")


# --------------------------------------------------------------- aggregates over a user's events, family by family


def _plain(seen: Observed) -> Columns:
    return {
        **_recency(),
        **_frequency(seen),
        **_monetary(seen),
        **_browsing(seen),
        **_breadth(seen),
        **_friction(seen),
        **_messages(seen),
        **_newest(seen),
        **_rhythm(),
        **_season(seen),
    }


def _recency() -> Columns:
    return {
        "days_since_purchase": days_since("kind = 'purchase'"),
        "days_since_seen": days_since("made"),
        "days_since_view": days_since("kind = 'view'"),
        "days_since_cart": days_since("kind = 'cart'"),
        "days_since_login": days_since("kind = 'login'"),
        "days_since_first_seen": days_since_first("made"),
        "days_since_first_purchase": days_since_first("kind = 'purchase'"),
    }


def _counts(seen: Observed, name: str, kind: str, windows: Iterable[int]) -> Columns:
    return _if(kind in seen.kinds, _named(name, windows, lambda days: count(kind, days)))


def _frequency(seen: Observed) -> Columns:
    orders = _named("orders", (7, 14, 30, 60, 90, 180, 365), lambda days: distinct("order_key", "purchase", days))
    orders["orders_ever"] = distinct("order_key", "purchase", None)
    orders["orders_slope_12w"] = slope("1", "purchase")
    orders["_purchases_ever"] = count("purchase", None)
    orders["last_order_lines"] = count_since("kind = 'purchase'", "purchase_1")
    orders["weeks_with_orders_8w"] = _windows_with_purchase(7, 8)
    orders["months_with_orders_12m"] = _windows_with_purchase(30, 12)
    decays = _named("purchases_decayed", (30, 90), lambda days: decayed("1", "purchase", days))
    active = _named("active_days", (7, 30, 90, 180), lambda n: f"count(DISTINCT day) FILTER (made AND {within(n)})")
    sessions = _named("sessions", (7, 30), lambda n: f"count(DISTINCT session) FILTER (made AND {within(n)})")
    return {
        **_if("purchase" in seen.kinds, orders),
        **_if(seen.made, active),
        **_counts(seen, "carts", "cart", (7, 30)),
        **_counts(seen, "searches", "search", (7, 30)),
        **_counts(seen, "logins", "login", (7, 30)),
        **_counts(seen, "favourites", "favourite", (30,)),
        **_if(seen.made, sessions),
        **_counts(seen, "purchases", "purchase", (30, 90)),
        **_if("purchase" in seen.kinds, decays),
    }


def _windows_with_purchase(days: int, windows: int) -> str:
    """Windows of so many days, back from the moment, with a purchase; an age of exactly n windows is in the n-th."""
    number = f"CASE WHEN kind = 'purchase' THEN greatest(CAST(ceil(age_us / {days * DAY_US}) AS INT), 1) END"
    return f"count(DISTINCT {number}) FILTER ({number} <= {windows})"


def _rhythm() -> Columns:
    return {
        **{f"days_since_orders_{n}o": days_ago(f"purchase_{n}") for n in (2, 3, 5, 10)},
        "_days_since_1_order_days": days_ago("purchase_1"),
        "_days_since_4_order_days": days_ago("purchase_4"),
    }


def _season(seen: Observed) -> Columns:
    def dates(newest: int, oldest: int) -> str:
        whole = "count(DISTINCT day) FILTER (kind = 'purchase' AND {})"
        return f"{whole.format(within(oldest))} - {whole.format(within(newest))}"

    out = _named("order_days_a_year_ago", (14, 30, 60, 90), lambda days: dates(365 - days, 365))
    out["order_days_before_a_year_ago_30d"] = dates(365, 365 + 30)
    return _if("purchase" in seen.kinds, out)


def _monetary(seen: Observed) -> Columns:
    bought = "purchase" in seen.kinds
    spend = _named("spend", (7, 30, 90, 180, 365), lambda days: total("amount", "purchase", days))
    spend["spend_ever"] = total("amount", "purchase", None)
    spend["last_order_value"] = f"coalesce(sum(amount) FILTER (kind = 'purchase' AND {since('purchase_1')}), 0)"
    spend["spend_slope_12w"] = slope("amount", "purchase")
    spend["spend_decayed_90d"] = decayed("amount", "purchase", 90)
    units = _named("units", (30, 90), lambda days: total("quantity", "purchase", days))
    return {
        **_if(bought and "amount" in seen.columns, spend),
        **_if(bought, units),
        **_if(bought and "discount" in seen.columns, {"_discount_90d": total("discount", "purchase", 90)}),
    }


def _minutes(chosen: str) -> str:
    return f"coalesce(sum(dwell_us) FILTER (kind = 'view' AND {chosen}), 0) / 60e6"


def _browsing(seen: Observed) -> Columns:
    viewed = "view" in seen.kinds
    hours = {
        **_named("views", (1, 7, 30, 90), lambda days: count("view", days)),
        "_views_28d_before": f"count(*) FILTER (kind = 'view' AND {within(35)} AND NOT {within(7)})",
        **_named("browse_minutes", (7, 30), lambda days: _minutes(within(days))),
        "_minutes_28d_before": _minutes(f"{within(35)} AND NOT {within(7)}"),
        "_minutes_7d_at_last": _minutes(f"before_last_us >= 0 AND before_last_us < {7 * DAY_US}"),
        "_minutes_28d_at_last": _minutes(f"before_last_us >= {7 * DAY_US} AND before_last_us < {35 * DAY_US}"),
    }
    items = _named("items_viewed", (7, 30), lambda days: distinct("item_id", "view", days))
    return {**_if(viewed, hours), **_if(viewed and "item_id" in seen.columns, items)}


def _breadth(seen: Observed) -> Columns:
    bought, viewed = "purchase" in seen.kinds, "view" in seen.kinds
    categories = _named("categories", (30, 90, 365), lambda days: distinct("category", "purchase", days))
    categories["_categories_ever"] = distinct("category", "purchase", None)
    items = _named("items_bought", (30, 90, 365), lambda days: distinct("item_id", "purchase", days))
    items["items_bought_ever"] = distinct("item_id", "purchase", None)
    items["_item_lines_365d"] = f"count(item_id) FILTER (kind = 'purchase' AND {within(365)})"
    categorised, itemised = "category" in seen.columns, "item_id" in seen.columns
    return {
        **_if(bought and categorised, categories),
        **_if(viewed and categorised, {"categories_viewed_30d": distinct("category", "view", 30)}),
        **_if(bought and itemised, items),
    }


def _friction(seen: Observed) -> Columns:
    refunded = "refund" in seen.kinds
    searched = "search" in seen.kinds and "search_results" in seen.columns
    return {
        **_if(searched, _named("empty_searches", (30, 90), lambda n: f"count(*) FILTER ({EMPTY} AND {within(n)})")),
        **_counts(seen, "refunds", "refund", (30, 90)),
        **_if(refunded and "amount" in seen.columns, {"_refund_amount_365d": total("amount", "refund", 365)}),
        **_counts(seen, "complaints", "complaint", (30, 90)),
        **_counts(seen, "failed_payments", "payment_failed", (30, 90)),
        **_counts(seen, "not_interested", "not_interested", (90,)),
        "days_since_refund": days_since("kind = 'refund'"),
        "days_since_complaint": days_since("kind = 'complaint'"),
        "days_since_failed_payment": days_since("kind = 'payment_failed'"),
    }


def _messages(seen: Observed) -> Columns:
    answers = {
        f"days_since_answer_{page}": days_since(f"kind = 'survey_answer' AND page = '{page}'")
        for page in ("natural", "soft", "experience", "other")
    }
    return {
        **answers,
        "days_since_opt_out": days_since("kind = 'opt_out'"),
        **_counts(seen, "messages_sent", "message_sent", (7, 30, 90)),
        **_counts(seen, "messages_opened", "message_opened", (30, 90)),
        **_counts(seen, "coupons_used", "coupon_used", (30, 90)),
        "days_since_message_sent": days_since("kind = 'message_sent'"),
        "days_since_message_opened": days_since("kind = 'message_opened'"),
        "days_since_coupon_used": days_since("kind = 'coupon_used'"),
    }


EMPTY = "kind = 'search' AND search_results = 0"


def _newest(seen: Observed) -> Columns:
    viewed, bought = "view" in seen.kinds, "purchase" in seen.kinds
    out: Columns = {
        **_if(viewed, {"visits_ever": "count(DISTINCT day) FILTER (kind = 'view')"}),
        **_if(viewed, {"browse_minutes_ever": _minutes("true")}),
        **_if(bought, {"order_days_ever": "count(DISTINCT day) FILTER (kind = 'purchase')"}),
        **{f"days_since_visits_{n}v": days_ago(f"view_{n}") for n in (*VISITS, 16)},
        **_if(viewed, {f"browse_minutes_in_{n}v": _minutes(since(f"view_{n}")) for n in VISITS}),
    }
    searched = "search" in seen.kinds and "search_results" in seen.columns
    of_views = {
        "views": ("kind = 'view'", viewed, (*VISITS, 16)),
        "searches": ("kind = 'search'", "search" in seen.kinds, (4, 16)),
        "empty_searches": (EMPTY, searched, (4, 16)),
        "not_interested": ("kind = 'not_interested'", "not_interested" in seen.kinds, (4, 16)),
        "carts": ("kind = 'cart'", "cart" in seen.kinds, (4, 16)),
        "purchases": ("kind = 'purchase'", bought, (4, 16)),
        "messages_opened": ("kind = 'message_opened'", "message_opened" in seen.kinds, VISITS),
    }
    for name, (which, known, visits) in of_views.items():
        out |= _if(known and viewed, {f"{name}_in_{n}v": count_since(which, f"view_{n}") for n in visits})
        out |= _if(known, {f"{name}_ever": f"count(*) FILTER ({which})"})
    told = "kind = 'message_sent'"
    for n in VISITS:
        sent = f"{count_since(told, f'view_{n}')} - {count_since(told, 'made_1')}"
        out |= _if(viewed and "message_sent" in seen.kinds, {f"messages_sent_in_{n}v": sent})
    out |= _if("message_sent" in seen.kinds, {"messages_sent_ever": f"count(*) FILTER ({told})"})
    for name, kind in {"refunds": "refund", "complaints": "complaint", "failed_payments": "payment_failed"}.items():
        which, known = f"kind = '{kind}'", kind in seen.kinds
        out |= _if(known and bought, {f"{name}_in_3o": count_since(which, "purchase_3")})
        out |= _if(known, {f"{name}_ever": f"count(*) FILTER ({which})"})

    def delivered(chosen: str) -> str:
        return f"avg(since_paid_us) FILTER (kind = 'delivered' AND since_paid_us >= 0 AND {chosen}) / {DAY_US}"

    deliveries = {"delivery_days_ever": delivered("true"), "delivery_days_in_3o": delivered(since("purchase_3"))}
    return out | _if(bought and "delivered" in seen.kinds and "order_id" in seen.columns, deliveries)


# --------------------------------------------------------------- expressions over the aggregates


def _combined(seen: Observed) -> Columns:
    per_day_7, per_day_28 = "({} / 7.0)", "({} / 28.0)"
    favourites: Columns = {}
    for n in VISITS:
        lately = f"CASE WHEN _all_before_{n} > 0 THEN _all_lately_{n} END"
        favourites[f"favourite_category_before_{n}v"] = ratio(f"_favourite_before_{n}", f"_all_before_{n}")
        favourites[f"favourite_category_in_{n}v"] = ratio(f"coalesce(_favourite_lately_{n}, 0)", lately)
    longer = {days: f"coalesce(_gaps_longer_{days}d, 0)" for days in BEYOND}
    rate = ratio("orders_ever", "(days_since_first_purchase + 30)")
    rhythm: Columns = {
        "silence_usual_share": ratio(f"({longer[0]} + 1)", "(orders_ever + 1)"),
        **{f"silence_goes_on_{days}d": f"({longer[days]} + 0.5) / ({longer[0]} + 1)" for days in BEYOND if days},
    }
    decays = {f"orders_decayed_{days}d": f"coalesce(_orders_decayed_{days}d, 0)" for days in HALF_LIVES}
    return {
        **favourites,
        **_if("purchase" in seen.kinds, rhythm | decays),
        "silence_of_longest_gap": ratio("days_since_purchase", "order_gap_longest_days"),
        "overdue_spreads": "(days_since_purchase - order_gap_mean_days) / (order_gap_spread_days + 1)",
        "order_gap_recent_days": "(_days_since_4_order_days - _days_since_1_order_days) / 3",
        "overdue_recent_ratio": ratio(
            "_days_since_1_order_days * 3", "(_days_since_4_order_days - _days_since_1_order_days)"
        ),
        "order_rate": rate,
        "order_rate_ratio_30d": ratio("orders_30d / 30.0", rate),
        "order_rate_ratio_90d": ratio("orders_90d / 90.0", rate),
        "last_order_lines_ratio": ratio("last_order_lines * orders_ever", "_purchases_ever"),
        "last_order_value_ratio": ratio("last_order_value * orders_ever", "spend_ever"),
        "repeat_share": ratio("_purchases_ever - items_bought_ever", "_purchases_ever"),
        "repeat_share_within_90d": ratio("purchases_90d - items_bought_90d", "purchases_90d"),
        "orders_recent_share": ratio("orders_30d", "orders_90d"),
        "order_value_mean_90d": ratio("spend_90d", "orders_90d"),
        "order_value_mean_365d": ratio("spend_365d", "orders_365d"),
        "discount_share_90d": ratio("_discount_90d", "(spend_90d + _discount_90d)"),
        "unit_price_mean_90d": ratio("spend_90d", "units_90d"),
        "spend_recent_share": ratio("spend_30d", "spend_90d"),
        "browse_minutes_ratio": ratio(per_day_7.format("browse_minutes_7d"), per_day_28.format("_minutes_28d_before")),
        "browse_minutes_ratio_at_last_seen": ratio(
            per_day_7.format("_minutes_7d_at_last"), per_day_28.format("_minutes_28d_at_last")
        ),
        "views_ratio": ratio(per_day_7.format("views_7d"), per_day_28.format("_views_28d_before")),
        "minutes_per_view_30d": ratio("browse_minutes_30d", "views_30d"),
        "purchases_per_view_30d": ratio("purchases_30d", "views_30d"),
        "carts_per_view_30d": ratio("carts_30d", "views_30d"),
        "overdue_ratio": ratio("days_since_purchase", "order_gap_mean_days"),
        "overdue_days": "days_since_purchase - order_gap_mean_days",
        "order_gap_last_ratio": ratio("order_gap_last_days", "order_gap_mean_days"),
        "category_penetration": ratio("_categories_ever", str(seen.categories)),
        "repeat_line_share_365d": f"1 - {ratio('items_bought_365d', '_item_lines_365d')}",
        "refund_share_90d": ratio("refunds_90d", "(refunds_90d + purchases_90d)"),
        "refund_amount_share_365d": ratio("_refund_amount_365d", "(_refund_amount_365d + spend_365d)"),
        "message_open_rate_90d": ratio("messages_opened_90d", "messages_sent_90d"),
    }
