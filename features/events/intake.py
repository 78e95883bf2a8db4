"""Raw rows in, encoded events out: every row is either kept as exact numbers or rejected with a reason."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import duckdb
import numpy as np
import pyarrow as pa

from features import loops
from features.errors import UserError
from features.events import columns as c
from features.events.sources import query

BATCH_ROWS = 1_000_000
LONGEST_TEXT = 512  # bytes
CLOCK_TOLERANCE = 5_000_000  # µs that an event may lie ahead of our clock
LARGEST_AMOUNT = 9e10  # currency units: the product of price and quantity must fit in int64

Columns = dict[str, np.ndarray]


class Words:
    """A growing dictionary of texts: text ↔ dense code, with a hash a text that does not depend on the code."""

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self.texts = list(texts)
        self.codes = {text: code for code, text in enumerate(self.texts)}
        self._hashes = hash_array(pa.array(self.texts, pa.string()))

    def __len__(self) -> int:
        return len(self.texts)

    def copy(self) -> "Words":
        return Words(self.texts)

    @property
    def hashes(self) -> np.ndarray:
        if self._hashes.size < len(self.texts):
            fresh = hash_array(pa.array(self.texts[self._hashes.size :], pa.string()))
            self._hashes = np.concatenate([self._hashes, fresh])
        return self._hashes

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Codes of the texts, new ones appended."""
        for text in texts:
            if text not in self.codes:
                self.codes[text] = len(self.texts)
                self.texts.append(text)
        return np.array([self.codes[text] for text in texts], np.int32)


class MoreWords(Words):
    """Words with a few more of its own; those it stands on are neither copied nor changed."""

    def __init__(self, base: Words) -> None:
        super().__init__()
        self._base = base

    def __len__(self) -> int:
        return len(self._base) + len(self.texts)

    @property
    def hashes(self) -> np.ndarray:
        return np.concatenate([self._base.hashes, super().hashes])

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        known = [self._base.codes.get(text, -1) for text in texts]
        new = super().encode([text for text, code in zip(texts, known, strict=True) if code < 0])
        codes = np.array(known, np.int32)
        codes[codes < 0] = new + len(self._base)
        return codes


def hash_array(texts: pa.Array) -> np.ndarray:
    """64-bit hash a text; 0 where there is none. The same text has the same hash in every store and version."""
    texts = texts.cast(pa.large_string())
    if len(texts) == 0:
        return np.empty(0, np.uint64)
    _, bounds, data = texts.buffers()
    first = np.frombuffer(bounds, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    hashes = loops.hash_texts(first, np.frombuffer(data or b"", np.uint8))
    if texts.null_count:
        hashes[np.asarray(texts.is_null())] = 0
    return hashes


def hash_text(text: str) -> int:
    """The hash of one text."""
    return int(hash_array(pa.array([text], pa.string()))[0])


@dataclass
class Report:
    """What became of the rows of one ingest."""

    rows: int = 0
    kept: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    unknown_columns: tuple[str, ...] = ()
    users: int = 0
    items: int = 0
    first_ts: int | None = None
    last_ts: int | None = None
    kinds: Counter[str] = field(default_factory=Counter)


class Intake:
    """Validates the rows of a relation batch by batch; bad rows gather in `rejects` as (row number, reason, source)."""

    def __init__(self, relation: duckdb.DuckDBPyRelation, now: int) -> None:
        self.report = Report(unknown_columns=tuple(x for x in relation.columns if x not in c.COLUMNS))
        self.rejects: list[tuple[int, str, str]] = []
        _require(relation.columns)
        types = {name: str(kind) for name, kind in zip(relation.columns, relation.types, strict=True)}
        self.columns = tuple(name for name in c.COLUMNS if name in types)
        self._typed = query(relation, validation_query(types, now))

    def batches(self) -> Iterator[dict[str, pa.Array]]:
        """Good rows, typed: texts as text, times in µs, numbers in their stored units, -1 where there is none."""
        for batch in _at_least(BATCH_ROWS, self._typed.to_arrow_reader(BATCH_ROWS)):
            names = batch.schema.names
            reasons = batch.column(names.index("reason"))
            if reasons.null_count < len(reasons):
                self._reject(batch, reasons)
                batch = batch.filter(reasons.is_null())
            self.report.rows += len(reasons)
            yield {name: batch.column(names.index(name)) for name in self.columns}

    def _reject(self, batch: pa.RecordBatch, reasons: pa.Array) -> None:
        sources = batch.column(batch.schema.names.index("source"))
        for i in np.flatnonzero(np.asarray(reasons.is_valid())):
            reason, source = reasons[i].as_py(), sources[i].as_py()
            self.report.rejected[reason] += 1
            self.report.examples.setdefault(reason, f"row {self.report.rows + i + 1}: {source[:200]}")
            self.rejects.append((self.report.rows + int(i) + 1, reason, source))


def _at_least(rows: int, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Small batches joined: what is done once a batch is then done seldom."""
    gathered: list[pa.RecordBatch] = []
    for batch in batches:
        gathered.append(batch)
        if sum(map(len, gathered)) >= rows:
            yield pa.concat_batches(gathered)
            gathered = []
    if gathered:
        yield pa.concat_batches(gathered)


def _require(names: Sequence[str]) -> None:
    missing = [name for name in c.REQUIRED if name not in names]
    if missing:
        raise UserError(
            f"the events lack the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; they have "
            f"{', '.join(names)}. Rename in a .sql source, for instance: SELECT customer AS user_id, … FROM 'file.csv'"
        )


def validation_query(types: Mapping[str, str], now: int) -> str:
    """SQL over the view `source` that types every contract column and tells each bad row the first reason why."""
    expressions, reasons = [], []
    for name in (name for name in c.COLUMNS if name in types):
        value = f's."{name}"'
        if name in c.TIMES:
            expressions.append(f'coalesce(epoch_us({_instant(name, types[name])}), -1) AS "{name}"')
            reasons += _time_reasons(name, value, types[name], now)
        elif name in c.NUMBERS:
            units, dtype = c.NUMBERS[name]
            number = f"TRY_CAST({value} AS DOUBLE)"
            most = LARGEST_AMOUNT if dtype == "int64" else 2e9 / units
            good = f"isfinite({number}) AND {number} BETWEEN 0 AND {most}"
            stored = f"CASE WHEN {good} THEN CAST(round({number} * {units}) AS BIGINT) ELSE -1 END"
            expressions.append(f'coalesce({stored}, -1) AS "{name}"')
            not_number = f"({number} IS NULL OR NOT isfinite({number}))"
            reasons += [
                (f"{value} IS NOT NULL AND {not_number}", f"{name} is not a number"),
                (f"{number} < 0", f"{name} is negative"),
                (f"{number} > {most}", f"{name} is too large"),
            ]
        else:
            expressions.append(f'{_text(name, types)} AS "{name}"')
            reasons.append(
                (f"strlen(CAST({value} AS VARCHAR)) > {LONGEST_TEXT}", f"{name} is over {LONGEST_TEXT} bytes")
            )
    if c.PRICE in types and c.QUANTITY in types:
        product = " * ".join(f'TRY_CAST(s."{name}" AS DOUBLE)' for name in (c.PRICE, c.QUANTITY))
        reasons.append((f"{product} > {LARGEST_AMOUNT}", "price x quantity is too large"))
    for name, reason in ((c.USER_ID, "no user"), (c.KIND, "no kind")):
        reasons.insert(0, (f"{_text(name, types)} IS NULL", reason))
    cases = " ".join(f"WHEN {condition} THEN '{reason}'" for condition, reason in reasons)
    return f"""
        SELECT {", ".join(expressions)}, CASE {cases} END AS reason,
               CASE WHEN reason IS NOT NULL THEN left(CAST(to_json(s) AS VARCHAR), 2000) END AS source
        FROM source AS s"""


def _text(name: str, types: Mapping[str, str]) -> str:
    value = f's."{name}"'
    text = f"nullif(CAST({value} AS VARCHAR), '')"
    if types[name] in ("DOUBLE", "FLOAT"):  # a column of whole numbers with gaps, as pandas writes it
        text = f"CASE WHEN NOT isnan({value}) THEN coalesce(CAST(TRY_CAST({value} AS BIGINT) AS VARCHAR), {text}) END"
    if name == c.USER_ID and c.DEVICE_ID in types:  # an anonymous device has a timeline of its own
        return f"coalesce({text}, '{c.ANONYMOUS}' || nullif(CAST(s.\"{c.DEVICE_ID}\" AS VARCHAR), ''))"
    return text


def _instant(name: str, kind: str) -> str:
    if kind.startswith(("TIMESTAMP", "DATE", "VARCHAR")):
        zoned = "TIMESTAMPTZ" if kind.startswith("VARCHAR") or "ZONE" in kind or "TZ" in kind else "TIMESTAMP"
        return f'TRY_CAST(s."{name}" AS {zoned})'
    raise UserError(
        f"the column {name} is {kind}, not a time; turn it into one in a .sql source, "
        f"for instance: to_timestamp({name}) AS {name} for seconds since 1970"
    )


def _time_reasons(name: str, value: str, kind: str, now: int) -> list[tuple[str, str]]:
    instant = _instant(name, kind)
    reasons = [(f"{value} IS NOT NULL AND ({instant} IS NULL OR NOT isfinite({instant}))", f"{name} is not a time")]
    if name == c.TS:
        reasons += [
            (f"{value} IS NULL", "no time"),
            (f"epoch_us({instant}) < 0", "ts is before 1970"),
            (f"epoch_us({instant}) > {now + CLOCK_TOLERANCE}", "ts is in the future"),
        ]
    return reasons


def encode(batch: Mapping[str, pa.Array], words: Mapping[str, Words]) -> tuple[Columns, pa.Array, np.ndarray]:
    """Typed rows as integers, `words` growing by what is new.

    Returns:
        columns, one array a stored column, with `user` (hash of the user's id), `tie` (hash of the row without its
        user: the order among rows of one instant) and, where given, `event` (hash of the event's id); then the
        distinct user ids and their hashes.
    """
    out: Columns = {}
    tie = np.zeros(len(batch[c.TS]), np.uint64)
    for name, values in batch.items():
        if name == c.USER_ID:
            distinct, hashes, index = _distinct(values)
            out["user"] = hashes[index]
            users, user_hashes = distinct, hashes
        elif name in c.CODED:
            distinct, _, index = _distinct(values)
            codes = words[name].encode(distinct.to_pylist())
            out[name] = np.append(codes, np.int32(-1))[index]
            _fold(tie, name, np.append(words[name].hashes, np.uint64(0))[out[name]], 0)
            if name == c.KIND:
                out[name] = _kind_codes(out[name], words[name])
        elif name in c.HASHED or name == c.EVENT_ID:
            hashed = hash_array(values)
            out["event" if name == c.EVENT_ID else name] = hashed
            _fold(tie, name, hashed, 0)
        elif name in c.NUMBERS:
            out[name] = np.asarray(values).astype(c.NUMBERS[name][1])
        else:
            out[name] = np.asarray(values)
    _fill_in(out)
    for name in out.keys() & {*c.NUMBERS, *c.TIMES}:
        _fold(tie, name, out[name].astype(np.int64).view(np.uint64), c.MONEY if name == c.QUANTITY else -1)
    out["tie"] = tie
    return out, users, user_hashes


def _fold(tie: np.ndarray, name: str, values: np.ndarray, null: int) -> None:
    """Add a column to the content hash; a column that is absent weighs as much as one that is empty."""
    loops.fold(tie, values, np.uint64(_salt(name)), np.int64(null).view(np.uint64))


@cache
def _salt(name: str) -> int:
    return hash_text(name)


def _distinct(values: pa.Array) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """Distinct texts, their hashes, and each row's index into them; rows without text index one past the end."""
    encoded = values.dictionary_encode()
    index = encoded.indices.fill_null(len(encoded.dictionary))
    return encoded.dictionary, hash_array(encoded.dictionary), np.asarray(index)


def _kind_codes(codes: np.ndarray, kinds: Words) -> np.ndarray:
    if len(kinds) > 255:
        raise UserError(
            f"the log has {len(kinds)} kinds of event; at most 255 are possible. Is `kind` the right column?"
        )
    return codes.astype(np.uint8)


def _fill_in(out: Columns) -> None:
    """A missing quantity is 1; a missing amount is price x quantity, rounded half up to the stored unit."""
    if c.QUANTITY in out:
        out[c.QUANTITY] = np.where(out[c.QUANTITY] < 0, c.MONEY, out[c.QUANTITY])
    if c.PRICE not in out:
        return
    price = out[c.PRICE]
    product = price if c.QUANTITY not in out else (price * out[c.QUANTITY] + c.MONEY // 2) // c.MONEY
    product = np.where(price < 0, np.int64(-1), product)
    out[c.AMOUNT] = np.where(out[c.AMOUNT] < 0, product, out[c.AMOUNT]) if c.AMOUNT in out else product
