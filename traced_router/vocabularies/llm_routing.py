"""`llm.routing.*`, which gateways with routers of their own write: the decision in four attributes.

This module must not know litellm.
"""

from collections.abc import Mapping
from typing import Final

from traced_router import _names as n
from traced_router._attributes import Value
from traced_router.vocabularies._vocabulary import Names, Said, rename

_name: Final = Names()
_SELECTION: Final = (n.SELECTION,)

STRATEGY: Final = _name("llm.routing.strategy", str, _SELECTION, "`traced_router.strategy.name`.")
SELECTED_MODEL: Final = _name(
    "llm.routing.selected_model", str, _SELECTION, "The chosen deployment's model, without its provider's prefix."
)
MODEL_COUNT: Final = _name(
    "llm.routing.model_count", int, _SELECTION, "`traced_router.candidates.eligible`: whom the strategy was given."
)
LATENCY: Final = _name("llm.routing.latency_ms", float, _SELECTION, "Length of the selection, milliseconds.")

NAMES: Final = _name.table()


def mirror(said: Said) -> Mapping[str, Value]:
    """What ``said`` is as a routing decision."""
    if said.role != n.SELECTION or said.end is None:
        return {}
    out = rename(said.attributes, {n.STRATEGY_NAME: STRATEGY, n.CANDIDATES_ELIGIBLE: MODEL_COUNT})
    if said.model is not None:
        out[SELECTED_MODEL] = said.model
    out[LATENCY] = (said.end - said.start) * 1e-6
    return out
