"""What attention starts from."""

from dataclasses import dataclass, replace

from qkvcli.core.arrays import Labelled


@dataclass(frozen=True)
class Operands:
    """Q, K and V, or a step that someone else has done, and what goes with them.

    Given ``weights`` take the place of all before them, given ``scores`` of Q·Kᵀ.
    ``past_key`` and ``past_value`` go before K and V along the tokens. With ``wq``, the
    query given is X of Q = X·Wq (+ bq); likewise the key and the value. ``mask`` is
    boolean (true may be seen) or numbers (added to the scores).
    """

    query: Labelled | None = None
    key: Labelled | None = None
    value: Labelled | None = None
    scores: Labelled | None = None
    weights: Labelled | None = None
    past_key: Labelled | None = None
    past_value: Labelled | None = None
    wq: Labelled | None = None
    wk: Labelled | None = None
    wv: Labelled | None = None
    bq: Labelled | None = None
    bk: Labelled | None = None
    bv: Labelled | None = None
    mask: Labelled | None = None

    def given(self) -> dict[str, Labelled]:
        """Those that are there, by name."""
        return {name: one for name, one in vars(self).items() if one is not None}

    def numeric(self) -> dict[str, Labelled]:
        """Those whose type decides that of the results: all but the mask."""
        return {name: one for name, one in self.given().items() if name != "mask"}

    def with_(self, **changed: Labelled | None) -> "Operands":
        """The same, with others in some places."""
        return replace(self, **changed)
