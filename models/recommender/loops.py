"""The compiled passes of the recommender; nothing else of it is compiled.

Each adds in an order that depends on one user's own numbers alone, so that a user's scores are the same bits whoever is
asked about beside them and on however many threads.
"""

import numba
import numpy as np
from numba import types

I64 = types.Array(types.int64, 1, "C", readonly=True)
I32 = types.Array(types.int32, 1, "C", readonly=True)
F32 = types.Array(types.float32, 1, "C", readonly=True)
F64 = types.Array(types.float64, 1, "C", readonly=True)
U8 = types.Array(types.uint8, 1, "C", readonly=True)
F32_2D = types.Array(types.float32, 2, "C", readonly=True)
BOOL_2D = types.Array(types.boolean, 2, "C", readonly=True)
OUT = types.Array(types.float32, 2, "C")
TILE = 1024  # items at a time: their factors then stay in the processor's cache while all users pass by

_options = {"nogil": True, "cache": True}


@numba.njit(types.void(F32_2D, F32_2D, OUT), **_options)
def products(users, factors, out):
    """`out[u, i] = max(0, Σ_f users[u, f] · factors[f, i])`; the number of factors must be a multiple of 8.

    Eight factors at a time keep the running sums in registers, which makes it as fast as a matrix product of BLAS,
    whose last bits would hang on how many users are asked about at once.
    """
    items = factors.shape[1]
    for start in range(0, items, TILE):
        stop = min(start + TILE, items)
        for u in range(users.shape[0]):
            row = out[u, start:stop]
            for i in range(stop - start):
                row[i] = np.float32(0)
            for f in range(0, users.shape[1], 8):
                x0, x1, x2, x3 = users[u, f], users[u, f + 1], users[u, f + 2], users[u, f + 3]
                x4, x5, x6, x7 = users[u, f + 4], users[u, f + 5], users[u, f + 6], users[u, f + 7]
                y0, y1 = factors[f, start:stop], factors[f + 1, start:stop]
                y2, y3 = factors[f + 2, start:stop], factors[f + 3, start:stop]
                y4, y5 = factors[f + 4, start:stop], factors[f + 5, start:stop]
                y6, y7 = factors[f + 6, start:stop], factors[f + 7, start:stop]
                for i in range(stop - start):
                    row[i] += (
                        (x0 * y0[i] + x1 * y1[i] + x2 * y2[i] + x3 * y3[i])
                        + x4 * y4[i] + x5 * y5[i] + x6 * y6[i] + x7 * y7[i]
                    )  # fmt: skip
            for i in range(stop - start):
                row[i] = max(row[i], np.float32(0))


@numba.njit(types.void(I64, I64, F32, I64, I32, F32, OUT), **_options)
def spread(user, item, weight, offsets, neighbours, strength, out):
    """`out[user, n] += weight · strength` for every neighbour n of every item asked about."""
    for row in range(user.size):
        u, w = user[row], weight[row]
        for at in range(offsets[item[row]], offsets[item[row] + 1]):
            out[u, neighbours[at]] += w * strength[at]


@numba.njit(types.void(F32_2D, types.float32, types.boolean, OUT), **_options)
def add_shares(scores, weight, root, out):
    """`out += weight · (scores / the user's highest)`, the square root of the share with `root`."""
    for u in range(scores.shape[0]):
        peak = np.float32(0)
        for i in range(scores.shape[1]):
            peak = max(peak, scores[u, i])
        if peak > 0:
            scale = np.float32(1) / peak
            if root:
                for i in range(scores.shape[1]):
                    out[u, i] += weight * np.sqrt(scores[u, i] * scale)
            else:
                for i in range(scores.shape[1]):
                    out[u, i] += weight * (scores[u, i] * scale)


@numba.njit(types.int32[:, ::1](F32_2D, BOOL_2D, types.int64), **_options)
def top(scores, eligible, n):
    """Codes of the n highest scores above 0 among the eligible, best first, ties by code; -1 for no more."""
    out = np.full((scores.shape[0], n), -1, np.int32)
    values, codes = np.empty(2 * n, np.float32), np.empty(2 * n, np.int32)
    for u in range(scores.shape[0]):
        count, bar = 0, np.float32(0)
        for i in range(scores.shape[1]):
            if scores[u, i] > bar and eligible[u, i]:
                values[count], codes[count] = scores[u, i], i
                count += 1
                if count == 2 * n:
                    # Items come by ascending code and the sort is stable: ties at the bar fall to the smaller code.
                    order = np.argsort(-values, kind="mergesort")[:n]
                    values[:n], codes[:n] = values[order], codes[order]
                    count, bar = n, values[n - 1]
        order = np.argsort(-values[:count], kind="mergesort")[:n]
        out[u, : order.size] = codes[:count][order]
    return out


@numba.njit(types.int64[:, ::1](I64, I64, F32, I64, I64, I64, I32, F32), **_options)
def strongest(begin, end, value, item, wanted, offsets, neighbours, strength):
    """For each row k: of the asked items `item[begin[k]:end[k]]` the one whose link to `wanted[k]` weighs most, by
    value × strength, and the place of that link; -1 and -1 if none has one. The smaller item on a tie."""
    out = np.full((begin.size, 2), -1, np.int64)
    for k in range(begin.size):
        best = np.float32(0)
        for row in range(begin[k], end[k]):
            low, high = offsets[item[row]], offsets[item[row] + 1]
            stop = high
            while low < high:  # neighbours stand in ascending order
                middle = (low + high) // 2
                if neighbours[middle] < wanted[k]:
                    low = middle + 1
                else:
                    high = middle
            if low < stop and neighbours[low] == wanted[k] and value[row] * strength[low] > best:
                best = value[row] * strength[low]
                out[k, 0], out[k, 1] = item[row], low
    return out


@numba.njit(types.float64[::1](F32_2D, I64, I64, I32, F64, U8, I32, I32, F64), **_options)
def forest(rows, nodes, leaves, feature, threshold, decision, left, right, value):
    """The sum of all trees' leaves for each row, as LightGBM adds them up; nodes and leaves are cut by tree.

    decision: LightGBM's bits, 2 for "missing goes left" and 4 or 8 for what is missing: 0 or NaN. A child below 0 is a
    leaf, counted from -1 downwards. Trees outside and rows inside: a tree then stays in the processor's cache.
    """
    out = np.zeros(rows.shape[0])
    for tree in range(nodes.size - 1):
        start, first = nodes[tree], leaves[tree]
        if nodes[tree + 1] == start:  # a tree of one leaf
            out += value[first]
            continue
        for row in range(rows.shape[0]):
            node = 0
            while node >= 0:
                at = start + node
                x = np.float64(rows[row, feature[at]])
                missing = decision[at] & 12
                if np.isnan(x) and missing != 8:
                    x = np.float64(0)
                if (missing == 8 and np.isnan(x)) or (missing == 4 and abs(x) <= 1e-35):
                    go_left = decision[at] & 2 != 0
                else:
                    go_left = x <= threshold[at]
                node = left[at] if go_left else right[at]
            out[row] += value[first + ~node]
    return out
