"""The compiled passes under `Timeline`; nothing else of ours is compiled.

Every loop takes one stream of events: `offsets` (int64[users + 1]) cuts the rows into users, and within a user the rows
stand in time order of `ts` (µs). What was late at a moment is not in the stream. Loops release the interpreter lock, so
buckets run on threads. Signatures are explicit: read-only and writable arrays then share one compiled version.
"""

import math

import numba
import numpy as np
from numba import types

I64 = types.Array(types.int64, 1, "C", readonly=True)
I64_2D = types.Array(types.int64, 2, "A", readonly=True)
I64_3D = types.Array(types.int64, 3, "A", readonly=True)
F64 = types.Array(types.float64, 1, "C", readonly=True)
U8 = types.Array(types.uint8, 1, "C", readonly=True)
U64 = types.Array(types.uint64, 1, "C", readonly=True)

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


@numba.njit(types.void(I64, I64, I64_2D, types.int64[:, ::1]), **_options)
def places(offsets, ts, instants, out):
    """`out[k, user]` = place of the user's first row at or after `instants[k, user]`; quickest if those fall with k."""
    for u in range(offsets.size - 1):
        first, stop = offsets[u], offsets[u + 1]
        place = stop
        for k in range(instants.shape[0]):
            instant = instants[k, u]
            while place < stop and ts[place] < instant:
                place += 1
            while place > first and ts[place - 1] >= instant:
                place -= 1
            out[k, u] = place


@numba.njit(types.int64[::1](I64, I64, types.int64, types.boolean), **_options)
def newer_same(offsets, codes, null, nulls_count):
    """Place of the user's next row with the same code; 2^63 - 1 if there is none, -1 where the row has no code itself.

    With `nulls_count` a row without a code is a value of its own instead.
    """
    none = np.iinfo(np.int64).max
    out = np.empty(codes.size, np.int64)
    longest = 1
    for u in range(offsets.size - 1):
        longest = max(longest, offsets[u + 1] - offsets[u])
    size = 4
    while size < 2 * longest:
        size *= 2
    table = np.full(size, -1, np.int64)  # open addressing: slot → place of the code's next row
    for u in range(offsets.size - 1):
        first, stop = offsets[u], offsets[u + 1]
        size = 4
        while size < 2 * (stop - first):
            size *= 2
        for i in range(stop - 1, first - 1, -1):
            if codes[i] == null:
                out[i] = none if nulls_count else -1
                continue
            slot = np.int64(mix(np.uint64(codes[i])) & np.uint64(size - 1))
            while table[slot] >= 0 and codes[table[slot]] != codes[i]:
                slot = (slot + 1) & (size - 1)
            out[i] = table[slot] if table[slot] >= 0 else none
            table[slot] = i
        table[:size] = -1
    return out


@numba.njit(types.void(I64, I64_2D, I64_3D, types.int64[:, :, ::1]), **_options)
def distinct(newer, stops, starts, out):
    """`out[window, moment, user]` = distinct codes among the places from start to stop; windows from short to long.

    A code counts where it stands last before the stop.
    """
    for u in range(stops.shape[1]):
        for m in range(stops.shape[0]):
            stop, until, count = stops[m, u], stops[m, u], 0
            for w in range(starts.shape[0]):
                for i in range(starts[w, m, u], until):
                    count += newer[i] >= stop
                until = min(until, starts[w, m, u])
                out[w, m, u] = count


@numba.njit(types.void(I64, I64_2D, I64_2D, I64_2D, types.int64[:, :, ::1]), **_options)
def favourite(codes, firsts, middles, stops, out):
    """`out[:, moment, user]` = rows of the codes most frequent from first to middle, and of all; then middle to stop.

    Codes below 0 are no codes.
    """
    most = -1
    for i in range(codes.size):
        most = max(most, codes[i])
    counts = np.zeros(most + 2, np.int64)
    for m in range(stops.shape[0]):
        for u in range(stops.shape[1]):
            first, middle, stop, most = firsts[m, u], middles[m, u], stops[m, u], 0
            for i in range(first, middle):
                if codes[i] >= 0:
                    counts[codes[i]] += 1
                    out[1, m, u] += 1
                    most = max(most, counts[codes[i]])
            for i in range(middle, stop):
                if codes[i] >= 0:
                    out[3, m, u] += 1
                    out[2, m, u] += most > 0 and counts[codes[i]] == most
            for i in range(first, middle):
                if codes[i] >= 0:
                    if counts[codes[i]] == most:
                        out[0, m, u] += most
                    counts[codes[i]] = 0


@numba.njit(types.void(I64, I64, I64_2D, types.float64[:, :, ::1]), **_options)
def gap_statistics(offsets, ts, stops, out):
    """`out[:, moment, user]` = mean, spread (population sd), last and longest gap in µs; unchanged under two rows."""
    for u in range(stops.shape[1]):
        for m in range(stops.shape[0]):
            first, stop = offsets[u], stops[m, u]
            if stop - first < 2:
                continue
            longest, squares = 0, 0.0
            for i in range(first + 1, stop):
                gap = ts[i] - ts[i - 1]
                longest = max(longest, gap)
                squares += float(gap) * float(gap)
            gaps = stop - first - 1
            mean = (ts[stop - 1] - ts[first]) / gaps
            out[0, m, u] = mean
            out[1, m, u] = math.sqrt(max(squares / gaps - mean * mean, 0.0))
            out[2, m, u] = ts[stop - 1] - ts[stop - 2]
            out[3, m, u] = longest


@numba.njit(types.void(I64, I64, I64_2D, I64, I64, types.int64[:, :, ::1]), **_options)
def longer_gaps(offsets, ts, stops, as_of, beyond, out):
    """`out[k, moment, user]` = gaps that were longer than the user's present silence plus `beyond[k]` µs."""
    for k in range(beyond.size):
        for m in range(stops.shape[0]):
            for u in range(stops.shape[1]):
                first, stop = offsets[u], stops[m, u]
                for i in range(first + 1, stop):
                    out[k, m, u] += ts[i] - ts[i - 1] > as_of[m] - ts[stop - 1] + beyond[k]


@numba.njit(types.void(I64, I64, I64, I64, I64_2D, F64, types.float64[:, :, ::1]), **_options)
def decayed_sums(offsets, ts, values, as_of, stops, half_lives, out):
    """`out[half_life, moment, user]` = sum of values x 2^(-age / half-life) over rows before the stop; µs."""
    for h in range(half_lives.size):
        for m in range(stops.shape[0]):
            for u in range(stops.shape[1]):
                total = 0.0
                for i in range(offsets[u], stops[m, u]):
                    total += values[i] * 2.0 ** ((ts[i] - as_of[m]) / half_lives[h])
                out[h, m, u] = total


@numba.njit(types.int64[::1](I64, I64, I64, U8, types.int64), **_options)
def time_to_next(offsets, ts, session, wanted, idle):
    """µs from each instant with wanted rows to the user's next one, if within `idle` and in the same session.

    One of the instant's wanted rows carries it, so that the order of rows of one instant does not matter; else -1, as
    for rows without a session (0).
    """
    out = np.full(ts.size, -1, np.int64)
    for u in range(offsets.size - 1):
        following, current, taken = -1, -1, False  # rows: of the next instant, of this one; is this one's wait carried?
        for i in range(offsets[u + 1] - 1, offsets[u] - 1, -1):
            if current < 0 or ts[i] != ts[current]:
                following, current, taken = current, i, False
            if not wanted[i] or taken or following < 0:
                continue
            if ts[following] - ts[i] <= idle and session[i] != 0 and session[following] == session[i]:
                out[i] = ts[following] - ts[i]
                taken = True
    return out
