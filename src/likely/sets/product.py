"""Different sets for different parts of an event."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from likely.errors import InvalidInput, InvalidType
from likely.sets.convex import ConvexSet, rows_of, with_parameters


@final
class Product(ConvexSet):
    """The product of sets over parts of the event: `{x : x[part_k] in C_k for each k}`.

    Projection: `argmin_x ||x - y||_2` is the projection onto C_k of part k, for each k. The squared
    distance is a sum over the parts, which share no entry, so each term is made least by itself.
    Entries of no part are free, and keep every bit. Tolerances are those of the sets.

    Args:
        parts: pairs of a part and its set. A part says which entries of the flattened event (row-major)
            it takes: a slice, their numbers in a tensor, or a boolean mask, flat or in the shape of the
            event. Its set is given points of shape `(B, k)`, the k entries in the order of the part;
            parameters of the set may differ from row to row.

    Raises:
        InvalidType: a part is no slice, no tensor of whole numbers and no mask, or its set is no set.
        InvalidInput: there is no part, an entry is taken twice, or a part takes none; on use, a part
            does not fit the event.

    Reference: Bauschke and Combettes 2017, section 29.1.

    Example:
        >>> import likely.sets as sets
        >>> both = Product((slice(0, 2), sets.Simplex(1.0)), (slice(2, 4), sets.Ball(0.0, 1.0)))
        >>> both.project(torch.tensor([[1.0, 1.0, 3.0, 4.0, 9.0]]))
        tensor([[0.5000, 0.5000, 0.6000, 0.8000, 9.0000]])
    """

    def __init__(self, *parts: tuple[slice | Tensor, ConvexSet]) -> None:
        if not parts:
            raise InvalidInput("there are no parts; expected one pair (part, set) or more.")
        for k, pair in enumerate(parts):
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], ConvexSet)):
                raise InvalidType(f"part {k} is {pair!r:.80}; expected a pair (part, set).")
            where = pair[0]
            if not isinstance(where, slice | Tensor) or (
                isinstance(where, Tensor) and (where.is_floating_point() or where.is_complex())
            ):
                given = where.dtype if isinstance(where, Tensor) else type(where).__name__
                raise InvalidType(
                    f"part {k} is given by {given}; expected a slice, a tensor of whole numbers, or a "
                    "boolean mask."
                )
        self.parts = parts
        masks = [w.numel() for w, _ in parts if isinstance(w, Tensor) and w.dtype == torch.bool]
        ends = [_end(w) for w, _ in parts]
        # Where parts count from the front, whether they overlap does not depend on the event.
        if masks or None not in ends:
            self._places(masks[0] if masks else max(end for end in ends if end is not None))

    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return y, each part projected onto its set."""
        rows = y[:, None].flatten(1)
        x = rows.clone()
        for places, (_, within) in zip(self._places(rows.shape[1]), self.parts, strict=True):
            places = places.to(y.device)
            x = x.index_copy(1, places, within.project(rows[:, places]))
        return x.reshape(y.shape)

    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return the largest violation of the parts."""
        rows = x[:, None].flatten(1)
        parts = zip(self._places(rows.shape[1]), self.parts, strict=True)
        return torch.stack([s.violation(rows[:, p.to(x.device)]) for p, (_, s) in parts]).amax(0)

    def _places(self, n: int) -> list[Int[Tensor, " k"]]:
        """Return the entries of each part, for an event of n entries."""
        places = [_entries(k, where, n) for k, (where, _) in enumerate(self.parts)]
        taken = torch.bincount(torch.cat(places), minlength=n)
        if (taken > 1).any():
            i = int(taken.argmax())
            owners = [k for k, part in enumerate(places) for _ in range(int((part == i).sum()))]
            raise InvalidInput(
                f"entry {i} is taken {len(owners)} times, by parts {owners}; "
                "expected parts that share no entry."
            )
        return places


def _end(where: slice | Tensor) -> int | None:
    """Return how many entries an event needs for this part; None where that depends on the event."""
    if isinstance(where, Tensor):
        return int(where.max()) + 1 if where.numel() and where.dtype != torch.bool else 0
    forward = where.step is None or where.step > 0
    known = forward and where.stop is not None and where.stop >= 0 and (where.start or 0) >= 0
    return where.stop if known else None


def _entries(k: int, where: slice | Tensor, n: int) -> Int[Tensor, " k"]:
    """Return the entries of part k as numbers from 0 to n - 1."""
    if isinstance(where, slice):
        fits = all(-n <= edge <= n for edge in (where.start, where.stop) if edge is not None)
        taken = range(n)[where]  # torch cannot count backwards
        entries = torch.arange(taken.start, taken.stop, taken.step)
    elif where.dtype == torch.bool:
        fits, entries = where.numel() == n, where.flatten().nonzero()[:, 0]
    else:
        fits, entries = bool(((where >= 0) & (where < n)).all()), where.flatten().long()
    what = where if isinstance(where, slice) else f"a tensor of shape {tuple(where.shape)}"
    if not fits:
        raise InvalidInput(
            f"part {k}, {what}, does not fit an event of {n} entries; expected "
            "entries from 0 to n - 1, or a mask with one value for each entry."
        )
    if not len(entries):
        raise InvalidInput(f"part {k}, {what}, takes no entry of {n}; leave it out, with its set.")
    return entries.cpu()


@rows_of.register
def _(within: Product, index: Tensor, shape: torch.Size) -> Product:
    places = within._places(shape[1:].numel())
    return with_parameters(
        within,
        parts=tuple(
            (where, rows_of(part, index, torch.Size((shape[0], len(entries)))))
            for entries, (where, part) in zip(places, within.parts, strict=True)
        ),
    )
