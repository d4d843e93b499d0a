"""Which questions a run must ask, streamed persona by persona and never held in memory as a whole.

Every decision is a function of (seed, persona, trait) alone. A resumed run, another process or a
reader of the paper gets the same plan, whatever was asked before.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import numpy as np

from benchlib.domain.arrays import IntArray, KeyArray, splitmix64
from benchlib.domain.records import PersonaRecord, TraitRecord, WorkItem
from benchlib.domain.vocabulary import SCALE_ORDERS, ScaleMode

_ORDER_SALT: Final = 0x1F83D9ABFB41BD6B
_DUAL_SALT: Final = 0x5BE0CD19137E2179
_GOLDEN: Final = 0x9E3779B97F4A7C15
_TRAIT_BITS: Final = 21
_NOTHING: Final = np.empty(0, dtype=np.int64)


def pack_key(persona_id: int, trait_id: int, order_code: int) -> int:
    """One integer per (persona, trait, scale order); sorts by persona, then trait, then order."""
    return (persona_id << _TRAIT_BITS) | (trait_id << 1) | order_code


@dataclass(frozen=True, slots=True)
class CompletedKeys:
    """The keys that are rated and need not be asked again.

    Attributes:
        packed: Sorted int64, one `pack_key` per key; eight bytes each, so a million are cheap.
    """

    packed: IntArray

    @classmethod
    def none(cls) -> "CompletedKeys":
        """Nothing is rated yet."""
        return cls(np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return int(self.packed.size)

    def of_persona(self, persona_id: int) -> IntArray:
        """The completed keys of one persona, packed."""
        low, high = np.searchsorted(
            self.packed, [persona_id << _TRAIT_BITS, (persona_id + 1) << _TRAIT_BITS]
        )
        return self.packed[low:high]


def count_items(n_personas: int, n_traits: int, dual_fraction: float) -> int:
    """Number of items in the plan: every pair once, the dual quota twice."""
    n_pairs = n_personas * n_traits
    return n_pairs + _quota(n_pairs, dual_fraction)


def work_plan(
    personas: Iterable[PersonaRecord],
    traits: Sequence[TraitRecord],
    *,
    scale_mode: ScaleMode,
    dual_fraction: float,
    seed: int,
    completed: CompletedKeys,
) -> Iterator[WorkItem]:
    """Yield what is left to ask, grouped by persona so that the engine's prefix cache helps.

    Args:
        personas: All personas of the dataset in its order, including those already rated: the quota
            of dual pairs is spread along this order.
        traits: The run's traits; their order is the order of asking.
        scale_mode: `in` and `rev` show every pair in that order; `random50` decides by a stable
            hash, so that half of the pairs are shown each way in expectation.
        dual_fraction: Share of all pairs asked in both orders, 0..1. Exactly
            floor(fraction * pairs + 0.5) pairs are; each persona has floor or ceil of its share.
        seed: The run's seed.
        completed: Keys to leave out.

    Yields:
        Items in a fixed order; `count_items` of them when nothing is completed.
    """
    if not traits:
        return
    trait_hashes = np.array([_stable_hash(trait.case_id) for trait in traits], dtype=np.uint64)
    packed_traits = np.array([trait.id << 1 for trait in traits], dtype=np.int64)
    n_traits = len(traits)
    for position, persona in enumerate(personas):
        n_dual = _quota((position + 1) * n_traits, dual_fraction) - _quota(
            position * n_traits, dual_fraction
        )
        known = completed.of_persona(persona.id) if len(completed) else _NOTHING
        if known.size == n_traits + n_dual:
            continue  # all keys of a run are from its plan: a full count leaves nothing to ask
        mixed = _mix(trait_hashes ^ np.uint64(_stable_hash(persona.uuid)), seed)
        first = _first_orders(mixed, scale_mode)
        dual = np.zeros(n_traits, dtype=bool)
        if n_dual:
            dual[np.argsort(_mix(mixed, _DUAL_SALT), kind="stable")[:n_dual]] = True
        base = persona.id << _TRAIT_BITS
        done = set((known - base).tolist())
        rows = zip(traits, packed_traits.tolist(), first.tolist(), dual.tolist(), strict=True)
        for trait, packed, order, both in rows:
            if packed | order not in done:
                yield WorkItem(persona, trait, SCALE_ORDERS[order])
            if both and packed | (1 - order) not in done:
                yield WorkItem(persona, trait, SCALE_ORDERS[1 - order])


def _first_orders(mixed: KeyArray, scale_mode: ScaleMode) -> IntArray:
    """Order codes, 0 = in, 1 = rev."""
    if scale_mode == "random50":
        return (_mix(mixed, _ORDER_SALT) >> np.uint64(63)).astype(np.int64)
    return np.full(mixed.size, SCALE_ORDERS.index(scale_mode), dtype=np.int64)


def _quota(n_pairs: int, fraction: float) -> int:
    return int(n_pairs * fraction + 0.5)


@lru_cache(maxsize=4096)
def _stable_hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def _mix(keys: KeyArray, salt: int) -> KeyArray:
    return splitmix64(keys + np.uint64((salt * _GOLDEN + _GOLDEN) % 2**64))
