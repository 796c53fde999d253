"""The values of a grid in few bytes, without loss. The page decodes the same bytes, in unpack.js.

Each value is foretold: by the mean of the values at the points before it along x, y and z. What is left, the residual,
is coded with ranges of a number (rANS, Duda 2013), by how often it occurs among residuals that are alike: those of the
same channel, with neighbours that differ as much, and with similar residuals of the channels before it.

Symbols are in the order of the points. Those of a point are its first channel, whether it is plain (1) or not (0), and
if it is not, its other channels. A plain point is as foretold in these. Each run of LANE symbols is coded apart, in
words of 16 bits: the high and the low half of a state, and what the state takes in.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPREADS = (0, 1, 3, 6, 10, 16)  # the difference between neighbours is one of these at most, or more; then one or none
ALPHAS = (6, 12, 20, 30)  # the same of the opacity, of which the first colour's residuals depend
SIGNED = (-7, -3, -1, 0, 2, 6)  # of the residual of the colour before
ACTIVE = (0, 1, 3, 7, 12, 20)  # of the sum of sizes of the residuals of the features before
ALIKE = len(SPREADS) + 3, len(SIGNED) + 1  # contexts of a channel
BITS = 12  # of a frequency
LOWEST = 2**15  # states are as large as this, and less than 2^16 times as large
LANE = 2**14  # symbols
SYMBOLS = 256

Levels = NDArray[np.uint8]


@dataclass(frozen=True)
class Coded:
    """frequencies (contexts, SYMBOLS): of each symbol among 2^BITS in each context; 0 throughout in those without any.
    words: of all lanes."""

    frequencies: NDArray[np.uint16]
    words: NDArray[np.uint16]


def encoded(levels: Levels, before: NDArray[np.int32]) -> Coded:
    """Values (P, channels) below 86, in the order of the points; before (P, 3): the rows of the points before each of
    them along x, y and z, P for none."""
    keys = _keys(levels, before)
    counts = np.bincount(keys, minlength=contexts(levels.shape[1]) * SYMBOLS).reshape(-1, SYMBOLS)
    frequencies = _shares(counts)
    return Coded(frequencies.astype(np.uint16), _words(keys, frequencies))


def contexts(channels: int) -> int:
    """How many contexts there are. The last are those of whether points are plain."""
    return (channels + 1) * ALIKE[0] * ALIKE[1]


def _keys(levels: Levels, before: NDArray[np.int32]) -> NDArray[np.uint32]:
    """The context of each symbol times SYMBOLS, plus the symbol, which is a residual modulo SYMBOLS."""
    count, channels = levels.shape
    known = [before[:, axis] < count for axis in range(3)]
    number = np.sum(known, 0, dtype=np.int16)
    spreads, signed, active = _buckets(SPREADS), _buckets(SIGNED, -SYMBOLS), _buckets(ACTIVE)
    keys = np.empty((count, channels + 1), np.uint32)  # the second column says what is plain
    residuals: list[NDArray[np.int16]] = []
    sizes = np.zeros(count, np.int16)
    for c in range(channels):
        own = levels[:, c].astype(np.int16)
        around = [np.append(own, np.int16(0)).take(before[:, axis]) for axis in range(3)]
        total, most = around[0] + around[1] + around[2], np.maximum(np.maximum(*around[:2]), around[2])
        least = np.minimum.reduce(
            [np.where(is_known, each, SYMBOLS) for is_known, each in zip(known, around, strict=True)]
        )
        foretold = (2 * total + number) // np.maximum(2 * number, 1)
        foretold = np.where(number > 0, foretold, np.append(np.int16(0), own[:-1])).astype(np.int16)
        spread = np.where(number > 1, spreads[np.maximum(most - least, 0)], len(SPREADS) + 2 - number)
        residual = own - foretold
        symbol, second = residual, np.zeros(1, np.uint32)
        if c == 1:
            second = _buckets(ALPHAS)[levels[:, 0]]
        elif c in (2, 3):
            second, symbol = signed[residuals[-1] + SYMBOLS], residual - residuals[-1]
        elif c == 4:
            second = active[(abs(residuals[1]) + abs(residuals[2])) // 2]
        elif c > 4:
            sizes += abs(residuals[-1])
            second = active[sizes]
        residuals.append(residual)
        context = (c * ALIKE[0] + spread.astype(np.uint32)) * ALIKE[1] + second
        keys[:, c + (c > 0)] = context * SYMBOLS + symbol.astype(np.uint8)
    plain = np.all([residual == 0 for residual in residuals[1:]], 0)
    likely = np.sum([np.append(plain, False).take(before[:, axis]) for axis in range(3)], 0, dtype=np.uint32)
    keys[:, 1] = ((channels * ALIKE[0] + likely) * ALIKE[1] + number.astype(np.uint32)) * SYMBOLS + plain
    coded = np.ones(keys.shape, bool)
    coded[plain, 2:] = False
    return keys[coded]


def _buckets(ends: tuple[int, ...], lowest: int = 0) -> NDArray[np.uint32]:
    """How many of the ends are below each number from the lowest on."""
    return np.digitize(np.arange(lowest, 8 * SYMBOLS), ends, right=True).astype(np.uint32)


def _shares(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Frequencies that add up to 2^BITS in each context that occurs, at least 1 for each symbol that occurs."""
    occurs = counts > 0
    total = counts.sum(1, keepdims=True)
    rest = 2**BITS - occurs.sum(1, keepdims=True)
    shares = occurs + counts * rest // np.maximum(total, 1)
    rows = np.nonzero(total[:, 0])[0]
    shares[rows, shares[rows].argmax(1)] += 2**BITS - shares[rows].sum(1)
    return shares


def _words(keys: NDArray[np.uint32], frequencies: NDArray[np.int64]) -> NDArray[np.uint16]:
    """The lanes of all symbols, which are coded side by side and from the last to the first."""
    if not len(keys):
        return np.zeros(0, np.uint16)
    shares = np.append(frequencies.reshape(-1), 2**BITS).astype(np.uint32)  # the last fills a lane, at no cost
    starts = np.append((frequencies.cumsum(1) - frequencies).reshape(-1), 0).astype(np.uint32)
    lanes, steps = -(-len(keys) // LANE), min(LANE, len(keys))
    filled = np.full(lanes * steps, len(shares) - 1, np.uint32)
    filled[: len(keys)] = keys
    turns = np.ascontiguousarray(filled.reshape(lanes, steps).T)
    words, given = np.empty((steps + 2, lanes), np.uint16), np.ones((steps + 2, lanes), bool)
    state = np.full(lanes, LOWEST, np.uint32)
    for step in range(steps - 1, -1, -1):
        share, start = shares[turns[step]], starts[turns[step]]
        full = state >= share << (31 - BITS)
        words[step + 2], given[step + 2] = state & 0xFFFF, full
        state = np.where(full, state >> 16, state)
        whole = state // share
        state = (whole << BITS) + (state - whole * share) + start
    words[0], words[1] = state >> 16, state & 0xFFFF
    return np.ascontiguousarray(words.T)[given.T]


class Decoder:
    """Symbols, one after the other. Slow: the page does this."""

    def __init__(self, coded: Coded) -> None:
        self.words = iter(coded.words.tolist())
        self.frequencies = coded.frequencies.astype(np.int64)
        self.starts = self.frequencies.cumsum(1) - self.frequencies
        self.found: dict[int, list[int]] = {}  # of a context: the symbol of each number below 2^BITS
        self.left, self.state = 0, 0

    def next(self, context: int) -> int:
        if self.left == 0:
            self.state, self.left = next(self.words) << 16 | next(self.words), LANE
        self.left -= 1
        if context not in self.found:
            self.found[context] = np.repeat(np.arange(SYMBOLS), self.frequencies[context]).tolist()
        place = self.state % 2**BITS
        symbol = self.found[context][place]
        share, start = int(self.frequencies[context, symbol]), int(self.starts[context, symbol])
        self.state = share * (self.state >> BITS) + place - start
        if self.state < LOWEST:
            self.state = self.state << 16 | next(self.words)
        return symbol


def decoded(coded: Coded, before: NDArray[np.int32], channels: int) -> Levels:
    """The inverse of `encoded`."""
    decoder, count = Decoder(coded), len(before)
    levels = np.zeros((count + 1, channels), np.int64)
    plain = [False] * count
    for row, rows in enumerate(before.tolist()):
        known = [levels[other] for other in rows if other < count]
        likely = sum(plain[other] for other in rows if other < count)
        residuals: list[int] = []
        for c in range(channels):
            around = [int(values[c]) for values in known]
            number = len(around)
            foretold = (2 * sum(around) + number) // (2 * number) if number else int(levels[row - 1, c])
            spread = _bucket(max(around) - min(around), SPREADS) if number > 1 else len(SPREADS) + 2 - number
            second, add = 0, 0
            if c == 1:
                second = _bucket(int(levels[row, 0]), ALPHAS)
            elif c in (2, 3):
                second, add = _bucket(residuals[-1], SIGNED), residuals[-1]
            elif c == 4:
                second = _bucket((abs(residuals[1]) + abs(residuals[2])) // 2, ACTIVE)
            elif c > 4:
                second = _bucket(sum(map(abs, residuals[4:])), ACTIVE)
            if c == 1:
                plain[row] = decoder.next((channels * ALIKE[0] + likely) * ALIKE[1] + number) == 1
            symbol, add = 0, 0 if plain[row] else add
            if not plain[row]:
                symbol = decoder.next((c * ALIKE[0] + spread) * ALIKE[1] + second)
            levels[row, c] = (foretold + add + symbol) % SYMBOLS
            residuals.append(int(levels[row, c]) - foretold)
    return levels[:-1].astype(np.uint8)


def _bucket(value: int, ends: tuple[int, ...]) -> int:
    """How many of the ends are below a value."""
    return sum(value > end for end in ends)
