"""What litellm's router works out of a deployment at every call, worked out once: time given back.

litellm 1.106 counts a deployment's usage twice a call, and twice works out that it has no limits to
count for: the deployment validated, the provider guessed, the price entry copied in depth. Both
answers, a deployment's model info and that it has no limits, depend on the deployment, on litellm's
price map, and on what the router has discovered of it. Here they are kept beside all three and given
again, model info as a copy, while none of them has changed. Whatever is out of the ordinary goes to
litellm.

This module must not know OpenTelemetry.
"""

# litellm is typed in part; mypy, strict too, watches where that spreads.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import litellm
from pydantic import BaseModel

from traced_router._litellm import fields

_MAX_DEPLOYMENTS: Final = 4096
_PLAIN: Final = (str, int, float, bool, type(None))


_Content: TypeAlias = tuple[Mapping[str, object], object]


class _Known(NamedTuple):
    """An answer, and what it was worked out of."""

    parameters: _Content
    info: _Content
    priced: object
    discovered: Mapping[str, object]
    answer: dict[str, Any]
    nested: tuple[str, ...]


class _Unlimited(NamedTuple):
    """A deployment without limits, as it was when litellm found that."""

    deployment: Mapping[str, Any]
    model: str
    priced: object
    discovered: Mapping[str, object]


class ModelInfos:
    """The answers for one router's deployments, by id; at most 4096 of each kind."""

    __slots__ = ("_known", "_unlimited")

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._unlimited: dict[str, _Unlimited] = {}

    def is_unlimited(self, router: Any, id_: str) -> bool:
        """Whether litellm has found that this deployment has no limits, and nothing has changed since."""
        known = self._unlimited.get(id_)
        return (
            known is not None
            and known.deployment == router.get_model_info(id=id_)
            and known.discovered == router.get_discovered_model_info(id_)
            and known.priced is litellm.get_model_info(model=known.model)
        )

    def found_unlimited(self, router: Any, id_: str) -> None:
        """litellm had something to count for this deployment, and counted nothing."""
        try:
            deployment: Any = copy.deepcopy(router.get_model_info(id=id_))
            model = deployment["litellm_params"]["model"]
            known = _Unlimited(
                deployment, model, litellm.get_model_info(model=model), dict(router.get_discovered_model_info(id_))
            )
        except Exception:  # noqa: BLE001  # gone meanwhile, without a price, or not to be copied
            return
        if len(self._unlimited) >= _MAX_DEPLOYMENTS:
            self._unlimited.clear()
        self._unlimited[id_] = known

    def get(self, router: Any, deployment: object, compute: Callable[[], Any]) -> Any:
        """What ``compute()`` answers for ``deployment``, from memory where nothing has changed."""
        parts = fields(deployment)
        parameters, info = _content(parts.get("litellm_params")), _content(parts.get("model_info"))
        model, id_ = parameters[0].get("model"), info[0].get("id")
        if not isinstance(id_, str) or not isinstance(model, str) or "*" in model or model.startswith("azure"):
            return compute()
        known = self._known.get(id_)
        if (
            known is not None
            and known.parameters == parameters
            and known.info == info
            and known.discovered == router.get_discovered_model_info(id_)
            and known.priced is litellm.get_model_info(model=model)  # another object once the map has changed
        ):
            answer = known.answer.copy()
            for name in known.nested:
                answer[name] = copy.deepcopy(answer[name])
            return answer
        computed = compute()
        self._remember(router, id_, model, parameters, info, computed)
        return computed

    def _remember(
        self,
        router: Any,
        id_: str,
        model: str,
        parameters: _Content,
        info: _Content,
        computed: Any,
    ) -> None:
        try:
            answer = copy.deepcopy(computed)
            known = _Known(
                copy.deepcopy(parameters),
                copy.deepcopy(info),
                litellm.get_model_info(model=model),
                dict(router.get_discovered_model_info(id_)),
                answer,
                tuple(name for name, value in answer.items() if not isinstance(value, _PLAIN)),
            )
        except Exception:  # noqa: BLE001  # a model without a price, or a value that cannot be copied
            self._known.pop(id_, None)
            return
        if len(self._known) >= _MAX_DEPLOYMENTS:
            self._known.clear()
        self._known[id_] = known


def _content(thing: object) -> _Content:
    """The fields of a mapping or a model, and those that the model does not declare: to be compared, not merged."""
    if isinstance(thing, BaseModel):
        return thing.__dict__, thing.__pydantic_extra__
    return fields(thing), None
