"""What a router's configuration names: the bound of what metrics are split by.

Callers can ask for any group, and a deployment with a wildcard calls any model: a metric that
repeated their words would grow without end, and could say what is theirs. An adapter; it must not
know OpenTelemetry.
"""

import weakref
from typing import NamedTuple

from traced_router import _litellm as seams
from traced_router import _names as n
from traced_router._facts import DeploymentFacts
from traced_router._read_deployment import DeploymentReader


class Known(NamedTuple):
    """A deployment by names of the configuration; ``_other`` for one that is not of it."""

    id: str | None = None
    provider: str | None = None
    model: str | None = None


class Configured:
    """The names in the configuration of one router, as it is now.

    Args:
        router: whose; not kept alive.
        reader: knows deployments.
    """

    __slots__ = ("_reader", "_router")

    def __init__(self, router: object, reader: DeploymentReader) -> None:
        self._router = weakref.ref(router)
        self._reader = reader

    def group(self, name: str | None) -> str | None:
        """``name`` if there is such a group, ``_other`` if not; ``None`` where no group is asked for."""
        if not name:
            return None
        return name if seams.is_configured_group(self._router(), name) else n.OTHER

    def group_of(self, deployment_id: str) -> str | None:
        """The group that a deployment is configured for; ``None`` for an unknown one."""
        found = seams.configured_deployment(self._router(), deployment_id)
        return None if found is None else found["model_name"]

    def deployment(self, facts: DeploymentFacts) -> Known:
        """The names of the deployment that an attempt calls."""
        found = None if facts.id is None else seams.configured_deployment(self._router(), facts.id)
        if found is None:
            return Known(*(None if name is None else n.OTHER for name in (facts.id, facts.provider, facts.model)))
        known = self._reader.read(found)
        # A deployment with a wildcard calls the model that the caller names.
        return Known(known.id, known.provider, known.model if known.model == facts.model else n.OTHER)
