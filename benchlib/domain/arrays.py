"""Array types that the whole domain uses, and the hash behind its reproducible draws."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
KeyArray = NDArray[np.uint64]

_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)


def splitmix64(keys: KeyArray) -> KeyArray:
    """Hash 64-bit keys so that every bit of a key changes about half of the bits of its hash.

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
    """
    keys = (keys ^ (keys >> np.uint64(30))) * _FIRST
    keys = (keys ^ (keys >> np.uint64(27))) * _SECOND
    return keys ^ (keys >> np.uint64(31))
