"""The compiled passes under `Timeline`; nothing else of ours is compiled.

Every loop takes one stream of events: `offsets` (int64[users + 1]) cuts the rows into users, and within a user the rows
stand in time order. `ts` is the instant of an event and `known` the last instant at which it was still unknown
(`max(ts, arrived_at - 1)`, µs), so an event counts at a moment exactly if `known < as_of`. `as_of` is sorted newest
first. Windows are widths in µs, ascending: an event is inside if `0 < until - ts <= width`.

Loops release the interpreter lock, so buckets run on threads, and sum integers wherever the result must not depend on
the order of rows. Signatures are explicit: read-only and writable arrays then share one compiled version.
"""

import math

import numba
import numpy as np
from numba import types

I64 = types.Array(types.int64, 1, "C", readonly=True)
I64_2D = types.Array(types.int64, 2, "A", readonly=True)
F64 = types.Array(types.float64, 1, "C", readonly=True)
U8 = types.Array(types.uint8, 1, "C", readonly=True)
U64 = types.Array(types.uint64, 1, "C", readonly=True)
OUT_I64_3D = types.int64[:, :, ::1]
OUT_F64_3D = types.float64[:, :, ::1]

_options = {"nogil": True, "cache": True}


@numba.njit(types.uint64(types.uint64), inline="always", **_options)
def mix(x):
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): every input bit reaches every output bit."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@numba.njit(types.uint64[::1](I64, U8), **_options)
def hash_texts(bounds, data):
    """64-bit FNV-1a, mixed, of the UTF-8 texts `data[bounds[i]:bounds[i + 1]]`; never 0, which means "no text"."""
    out = np.empty(bounds.size - 1, np.uint64)
    for i in range(out.size):
        h = np.uint64(0xCBF29CE484222325)
        for j in range(bounds[i], bounds[i + 1]):
            h = (h ^ np.uint64(data[j])) * np.uint64(0x100000001B3)
        h = mix(h)
        out[i] = h if h != 0 else np.uint64(1)
    return out


@numba.njit(types.void(types.uint64[::1], U64, types.uint64, types.uint64), **_options)
def fold(into, values, salt, null):
    """Fold one more column into a running hash a row, in place; a null adds nothing, nor does the order of columns."""
    for i in range(into.size):
        if values[i] != null:
            into[i] ^= mix(mix(values[i]) + salt)


@numba.njit(types.void(I64, I64, types.int64[::1]), **_options)
def first_by_code(codes, known, out):
    """`out[c] = min(known)` over the rows with code c; negative codes are skipped."""
    for i in range(codes.size):
        c = codes[i]
        if c >= 0 and known[i] < out[c]:
            out[c] = known[i]


@numba.njit(types.Tuple((types.int64[::1], types.int64[::1]))(I64, U8, U8), **_options)
def select(offsets, kind, wanted):
    """Rows whose kind is wanted (`wanted[kind] != 0`) and their offsets per user."""
    rows = np.empty(kind.size, np.int64)
    bounds = np.zeros(offsets.size, np.int64)
    n = 0
    for u in range(offsets.size - 1):
        for i in range(offsets[u], offsets[u + 1]):
            if wanted[kind[i]]:
                rows[n] = i
                n += 1
        bounds[u + 1] = n
    return rows[:n].copy(), bounds


@numba.njit(types.void(I64, I64, I64, I64, I64, I64_2D, I64, types.boolean, OUT_I64_3D), **_options)
def window_sums(offsets, ts, known, values, as_of, until, widths, counting, out):
    """`out[moment, window, user]` = sum of values (or the count of rows); missing values (< 0) add nothing."""
    bins = np.zeros(widths.size, np.int64)
    for u in range(offsets.size - 1):
        first, stop = offsets[u], offsets[u + 1]
        for m in range(as_of.size):
            while stop > first and ts[stop - 1] >= as_of[m]:
                stop -= 1
            w = 0
            for i in range(stop - 1, first - 1, -1):
                age = until[m, u] - ts[i]
                if age <= 0 or known[i] >= as_of[m]:
                    continue
                while w < widths.size and age > widths[w]:
                    w += 1
                if w == widths.size:
                    break
                if counting:
                    bins[w] += 1
                elif values[i] > 0:
                    bins[w] += values[i]
            total = 0
            for w in range(widths.size):
                total += bins[w]
                bins[w] = 0
                out[m, w, u] = total


@numba.njit(types.void(I64, I64, I64, I64, types.int64, I64, types.int64, I64, OUT_I64_3D), **_options)
def window_changes(offsets, ts, known, values, unit, as_of, idle, widths, out):
    """`out[moment, window, user]` = runs of rows with an event in the window.

    Seen newest first, a new run starts where `ts // unit` changes (unit > 0: distinct dates) or where the newer row is
    more than `idle` away (unit = 0: sessions). A run belongs to the smallest window that holds its newest row.
    """
    bins = np.zeros(widths.size, np.int64)
    for u in range(offsets.size - 1):
        first, stop = offsets[u], offsets[u + 1]
        for m in range(as_of.size):
            while stop > first and ts[stop - 1] >= as_of[m]:
                stop -= 1
            w = 0
            newer = np.iinfo(np.int64).max
            for i in range(stop - 1, first - 1, -1):
                if known[i] >= as_of[m]:
                    continue
                mark = ts[i] // unit if unit > 0 else ts[i]
                starts = mark != newer if unit > 0 else newer - mark > idle
                newer = mark
                age = as_of[m] - ts[i]
                while w < widths.size and age > widths[w]:
                    w += 1
                if w == widths.size:
                    break
                if starts:
                    bins[w] += 1
            total = 0
            for w in range(widths.size):
                total += bins[w]
                bins[w] = 0
                out[m, w, u] = total


@numba.njit(types.int64[::1](I64, I64, types.int64, types.boolean, types.boolean), **_options)
def same_before(offsets, codes, null, nulls_count, backwards):
    """Row of the nearest earlier row of the user with the same code (later row, if backwards); -1 none, -2 no code.

    With `nulls_count` a row without a code is a value of its own (-1) instead.
    """
    out = np.empty(codes.size, np.int64)
    longest = 1
    for u in range(offsets.size - 1):
        longest = max(longest, offsets[u + 1] - offsets[u])
    size = 4
    while size < 2 * longest:
        size *= 2
    table = np.full(size, -1, np.int64)
    for u in range(offsets.size - 1):
        first, stop = offsets[u], offsets[u + 1]
        size = 4
        while size < 2 * (stop - first):
            size *= 2
        for step in range(stop - first):
            i = stop - 1 - step if backwards else first + step
            if codes[i] == null:
                out[i] = -1 if nulls_count else -2
                continue
            slot = np.int64(mix(np.uint64(codes[i])) & np.uint64(size - 1))
            while table[slot] >= 0 and codes[table[slot]] != codes[i]:
                slot = (slot + 1) & (size - 1)
            out[i] = table[slot]
            table[slot] = i
        table[:size] = -1
    return out


@numba.njit(types.void(I64, I64, I64, I64, I64, I64, OUT_I64_3D), **_options)
def window_distinct(offsets, ts, known, newer_same, as_of, widths, out):
    """`out[moment, window, user]` = distinct codes; a code counts by its newest known row."""
    bins = np.zeros(widths.size, np.int64)
    for u in range(offsets.size - 1):
        first, stop = offsets[u], offsets[u + 1]
        for m in range(as_of.size):
            while stop > first and ts[stop - 1] >= as_of[m]:
                stop -= 1
            w = 0
            for i in range(stop - 1, first - 1, -1):
                if known[i] >= as_of[m] or newer_same[i] == -2:
                    continue
                age = as_of[m] - ts[i]
                while w < widths.size and age > widths[w]:
                    w += 1
                if w == widths.size:
                    break
                j = newer_same[i]
                while j >= 0 and known[j] >= as_of[m]:
                    j = newer_same[j]
                if j < 0:
                    bins[w] += 1
            total = 0
            for w in range(widths.size):
                total += bins[w]
                bins[w] = 0
                out[m, w, u] = total


@numba.njit(types.void(I64, I64, I64, I64, OUT_I64_3D), **_options)
def last_and_first(offsets, ts, known, as_of, out):
    """`out[moment, 0 | 1, user]` = instant of the last and of the first known row; unchanged where there is none."""
    for u in range(offsets.size - 1):
        first, stop = offsets[u], offsets[u + 1]
        for m in range(as_of.size):
            while stop > first and ts[stop - 1] >= as_of[m]:
                stop -= 1
            for i in range(stop - 1, first - 1, -1):
                if known[i] < as_of[m]:
                    out[m, 0, u] = ts[i]
                    break
            for i in range(first, stop):
                if known[i] < as_of[m]:
                    out[m, 1, u] = ts[i]
                    break


@numba.njit(types.void(I64, I64, I64, I64, I64, OUT_F64_3D), **_options)
def gap_statistics(offsets, ts, known, older_same, as_of, out):
    """`out[moment, :, user]` = mean, spread (population sd), last, longest gap in µs between distinct instants.

    An instant is the earliest known row of a code (an order's first line); unchanged where there are fewer than two.
    """
    for u in range(offsets.size - 1):
        first, stop = offsets[u], offsets[u + 1]
        for m in range(as_of.size):
            while stop > first and ts[stop - 1] >= as_of[m]:
                stop -= 1
            start, previous, n, last, longest, squares = 0, 0, 0, 0, 0, 0.0
            for i in range(first, stop):
                if known[i] >= as_of[m]:
                    continue
                j = older_same[i]
                while j >= 0 and known[j] >= as_of[m]:
                    j = older_same[j]
                if j >= 0 or (n > 0 and ts[i] == previous):
                    continue
                if n == 0:
                    start = ts[i]
                else:
                    last = ts[i] - previous
                    longest = max(longest, last)
                    squares += float(last) * float(last)
                previous = ts[i]
                n += 1
            if n >= 2:
                mean = (previous - start) / (n - 1)
                out[m, 0, u] = mean
                out[m, 1, u] = math.sqrt(max(squares / (n - 1) - mean * mean, 0.0))
                out[m, 2, u] = last
                out[m, 3, u] = longest


@numba.njit(types.void(I64, I64, I64, I64, I64, F64, types.boolean, OUT_F64_3D), **_options)
def decayed_sums(offsets, ts, known, values, as_of, half_lives, counting, out):
    """`out[moment, half_life, user]` = sum of values (or rows) x 2^(-age / half-life); half-lives in µs."""
    for u in range(offsets.size - 1):
        first, stop = offsets[u], offsets[u + 1]
        for m in range(as_of.size):
            while stop > first and ts[stop - 1] >= as_of[m]:
                stop -= 1
            for h in range(half_lives.size):
                total = 0.0
                for i in range(first, stop):
                    if known[i] < as_of[m]:
                        value = 1 if counting else max(values[i], 0)
                        total += value * 2.0 ** ((ts[i] - as_of[m]) / half_lives[h])
                out[m, h, u] = total


@numba.njit(types.boolean(I64, I64, U8, types.int64, types.int64, types.int64, types.int64, types.int64), **_options)
def _goes_on(session, known, wanted, first, stop, later_first, later_stop, as_of):
    """Does a known wanted row of `[first, stop)` share its session (0: none) with a known row of the later rows?"""
    for i in range(first, stop):
        if wanted[i] and known[i] < as_of and session[i] != 0:
            for j in range(later_first, later_stop):
                if session[j] == session[i] and known[j] < as_of:
                    return True
    return False


@numba.njit(types.int64[::1](I64, I64, I64, I64, U8, types.int64, types.int64), **_options)
def time_to_next(offsets, ts, known, session, wanted, as_of, idle):
    """µs from each instant with wanted rows to the user's next one, if within `idle` and in the same session.

    One of the instant's wanted rows carries it, so that the order of rows of one instant does not matter; else -1.
    """
    out = np.full(ts.size, -1, np.int64)
    for u in range(offsets.size - 1):
        later_first, later_stop = 0, 0
        stop = offsets[u + 1]
        while stop > offsets[u]:
            start, carrier, is_known = stop, -1, False
            while start > offsets[u] and ts[start - 1] == ts[stop - 1]:
                start -= 1
                if known[start] < as_of:
                    is_known = True
                    if wanted[start]:
                        carrier = start
            if carrier >= 0 and later_stop > 0:
                wait = ts[later_first] - ts[carrier]
                if wait <= idle and _goes_on(session, known, wanted, start, stop, later_first, later_stop, as_of):
                    out[carrier] = wait
            if is_known:
                later_first, later_stop = start, stop
            stop = start
    return out
