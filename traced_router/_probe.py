"""What one selection saw: who was a candidate, who was dropped by which filter, who was picked, and why.

An adapter: while litellm picks, the router's steps tell the probe what they left, and at the end
it says a :class:`DecisionFacts`.

A step is read by how many deployments it leaves: nothing is copied or compared while that number
does not change, which is nearly always. Who is gone, and why, is worked out when it does.

    configured ── [team, web search] ── health ── cooldown ── blocked ── callbacks ── pre-call checks
               ── [tags] ── plugins ── [order, tried] ── strategy

The steps in brackets are litellm's own functions, which cannot be overridden: what they drop is
missing when the next step begins.
"""

# litellm is typed in part; mypy, strict too, watches where that spreads.
# pyright: reportUnknownArgumentType=false

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Any, Final, NamedTuple, TypeAlias, cast

from traced_router import _litellm as seams
from traced_router import _litellm_filters as filters
from traced_router import _litellm_strategies as strategies
from traced_router._explain import UNEXPLAINED, Choice, drawn, lowest
from traced_router._facts import DecisionFacts
from traced_router._guard import Guard, fails_open
from traced_router._scope import Scope

Deployment: TypeAlias = Mapping[str, Any]
Deployments: TypeAlias = Sequence[Deployment]

_NOBODY: Final = cast("Deployments", ())
_NOTHING: Final[Mapping[str, Any]] = {}


def deployment_id(deployment: Deployment) -> str:
    """The id of a deployment; empty when it has none."""
    return str((deployment.get("model_info") or _NOTHING).get("id", ""))


def _index(deployments: Deployments, chosen: Deployment) -> int | None:
    for i, deployment in enumerate(deployments):
        if deployment is chosen:
            return i
    # A copy: a deployment that was resolved further, or a strategy's own.
    ids = [deployment_id(d) for d in deployments]
    wanted = deployment_id(chosen)
    return ids.index(wanted) if wanted in ids else None


class _Asked(NamedTuple):
    """What a strategy that ranks was asked."""

    ranking: strategies.Ranking
    selector: Any
    group: str


class _Told(NamedTuple):
    """What can be told of a choice."""

    choice: Choice = UNEXPLAINED
    rank_by: str | None = None
    scores: Mapping[str, float] = _NOTHING


_NOTHING_TOLD: Final = _Told()


class Probe:
    """Collects what one selection does.

    Args:
        router: the router that picks; the steps of any other are not this pick's.
        guard: where faults go.
        group: the group asked for.
        request: the call's own arguments, as the pick gets them and as litellm changes them.
        specific: whether the caller forced a deployment.
        strategy: the name of a strategy that does the whole pick itself.
        listing: whether the candidates are to be listed, the excluded ones with their scores.
        scope: the attempt function that the pick is for; ``None`` when nobody is going to call.
        peeking: whether nothing may change by this pick.
        clock: seconds; times the strategy.
    """

    __slots__ = (
        "_asked",
        "_clock",
        "_complete",
        "_configured",
        "_custom",
        "_decision",
        "_deployments",
        "_excluded",
        "_group",
        "_left",
        "_place",
        "_resolved",
        "_seconds",
        "_skipped",
        "_specific",
        "_started",
        "_strategy",
        "_target",
        "_told",
        "_tried",
        "guard",
        "listing",
        "peeking",
        "request",
        "router",
        "scope",
    )

    def __init__(
        self,
        router: object,
        guard: Guard,
        group: str | None,
        request: Mapping[str, Any],
        *,
        specific: bool = False,
        strategy: str | None = None,
        listing: bool = False,
        scope: Scope | None = None,
        peeking: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.router = router
        self.guard = guard
        self.scope = scope
        self.peeking = peeking
        self._group = self._resolved = group
        self.request = request
        self._specific = specific
        self._strategy = strategy
        self._custom = strategy is not None
        self.listing = listing
        self._clock = clock
        self._configured = self._deployments = _NOBODY
        self._left = -1  # nothing is known yet
        self._place = 0
        self._excluded: dict[str, str] | None = None
        self._complete = False
        self._decision: DecisionFacts | None = None
        self._asked: _Asked | None = None
        self._told: _Told | None = None
        self._started: float | None = None
        self._seconds: float | None = None
        # litellm takes these out of the request while it picks.
        self._target = request.get(seams.TARGET_ORDER)
        self._tried = request.get(seams.EXCLUDED_IDS)
        self._skipped = request.get(seams.RETRY_SKIPPED_IDS)

    # --- the group ---------------------------------------------------------------------------

    @fails_open("selection")
    def configured(self, group: str, deployments: Deployments | Deployment) -> None:
        """The group, and its deployments that the caller may use; one alone, not in a list, was forced."""
        self._place = 0
        self._excluded = None
        self._resolved = group
        self._complete = isinstance(deployments, Mapping)
        if isinstance(deployments, Mapping):
            self._specific = True
            deployments = (deployments,)
        self._configured = self._deployments = deployments
        self._left = len(deployments)
        if filters.group_size(self.router, group) > self._left and not self._complete:
            members = filters.group_members(self.router, group)
            ids = {deployment_id(d) for d in members}
            if all(deployment_id(d) in ids for d in deployments):
                self._configured = members
                self._drop(deployments, "team")

    @fails_open("selection")
    def refused(self) -> None:
        """The group is not known, or not the caller's."""
        self._configured = filters.group_members(self.router, self._group)
        self._drop(_NOBODY, "team")

    # --- the filters -------------------------------------------------------------------------

    @fails_open("selection")
    def enters(self, step: filters.Filter, deployments: Deployments | None) -> None:
        """``step`` is given ``deployments``: fewer than the last one left, when something dropped them unseen."""
        if deployments is not None and step.place > self._place and len(deployments) != self._left:
            self._drop(deployments, step.unseen)

    def passed(self, step: filters.Filter, deployments: Deployments, arguments: Mapping[str, Any]) -> None:
        """``step``, called with ``arguments``, has left ``deployments``."""
        try:
            if step.place <= self._place and step.place:
                return  # litellm asks the same again for another end
            self._place = step.place or self._place
            if len(deployments) == self._left:
                self._deployments = deployments
            else:
                self._drop(deployments, step.reason if step.why is None else step.why(self.router, arguments))
        except Exception as fault:  # noqa: BLE001  # inline, as the one that runs most
            self.guard.report("selection", fault)

    @fails_open("selection")
    def _drop(self, kept: Deployments, reason: filters.Reason) -> None:
        """Who is not among ``kept`` was dropped for ``reason``, unless it was before; who is came back if it was."""
        ids = {deployment_id(d) for d in kept}
        excluded = self._excluded = self._excluded or {}
        gone: list[Deployment] = []
        for deployment in self._configured:
            i = deployment_id(deployment)
            if i in ids:
                excluded.pop(i, None)
            elif i not in excluded:
                gone.append(deployment)
                excluded[i] = reason if isinstance(reason, str) else "other"
        self._deployments = kept
        self._left = len(kept)
        if not isinstance(reason, str):
            for deployment in gone:
                excluded[deployment_id(deployment)] = reason(deployment)

    def _last_filters(self, final: Deployments | None = None) -> None:
        """Order, then what was tried; ``final`` is what the strategy gets, where that can be seen."""
        self._complete = True
        self._narrow(filters.of_order(self._deployments, self._target), "order")
        if self._tried:
            self._narrow(filters.not_tried(self._deployments, self._tried), "already_tried")
        if self._skipped:
            self._narrow(filters.not_tried(self._deployments, self._skipped) or self._deployments, "already_tried")
        if final is not None:
            self._narrow(final, "other")

    def _narrow(self, deployments: Deployments, reason: str) -> None:
        if len(deployments) != self._left:
            self._drop(deployments, reason)

    @fails_open("selection")
    def filtered(self, deployments: Deployments | Deployment) -> None:
        """All filters have run, and the strategy comes next."""
        if isinstance(deployments, Mapping):
            return  # it was forced
        if len(deployments) != self._left:
            self._last_filters(deployments)
        self._deployments = deployments
        self._complete = True
        self._started = self._clock()

    # --- the strategy ------------------------------------------------------------------------

    def routed(self, strategy: object) -> None:
        """The strategy in force for this pick."""
        if isinstance(strategy, str) and not self._custom:
            self._strategy = strategy

    @fails_open("selection")
    def choosing(self, arguments: Mapping[str, Any]) -> None:
        """A strategy other than ``simple-shuffle`` is asked, with ``arguments``."""
        self.filtered(arguments["healthy_deployments"])
        ranking = strategies.RANKINGS.get(arguments["strategy"])
        if ranking is not None:
            self._asked = _Asked(ranking, arguments["selector"], arguments["model"])

    @fails_open("selection")
    def chose(self, chosen: Deployment | None) -> None:
        """It has answered: its numbers are read now, before they change."""
        if self._started is not None:
            self._seconds = self._clock() - self._started
        if self._asked is not None and self._decision is None and chosen is not None:
            self._told = self._ranked(self._asked, chosen)

    @fails_open("selection")
    def narrowed(self, deployments: Deployments, left: Deployments, excluded: Mapping[str, str]) -> None:
        """The resilience layer has left these of ``deployments`` to a strategy of litellm's."""
        if not self._complete:
            self._last_filters(deployments)
        self._excluded = {**(self._excluded or _NOTHING), **excluded}
        self._deployments = left
        self._left = len(left)

    def decided(self, facts: DecisionFacts, deployments: Deployments, excluded: Mapping[str, str]) -> None:
        """A strategy of ours has chosen among ``deployments``, of which the resilience layer had ``excluded`` some."""
        if not self._complete:
            self._last_filters(deployments)
        self._decision = facts
        if excluded:
            self._excluded = {**(self._excluded or _NOTHING), **excluded}

    def _ranked(self, asked: _Asked, chosen: Deployment) -> _Told:
        ranking, deployments = asked.ranking, self._deployments
        pool = self._configured if self.listing else deployments
        values = ranking.read(asked.selector, asked.group, pool, self.request)
        index = _index(deployments, chosen)
        if values is None or index is None:
            return _Told(rank_by=ranking.rank_by)
        scores = _NOTHING
        if self.listing:
            scores = dict(zip(map(deployment_id, pool), values, strict=True))
            values = [scores[deployment_id(d)] for d in deployments]
        choice = lowest(
            values,
            index,
            slack=strategies.slack(asked.selector),
            left_out=(lambda i: strategies.over_limit(deployments[i])) if ranking.limited else None,
            cold=ranking.cold,
        )
        return _Told(rank_by=ranking.rank_by) if choice is UNEXPLAINED else _Told(choice, ranking.rank_by, scores)

    def _shuffled(self, chosen: Deployment) -> _Told:
        deployments = self._deployments
        index = _index(deployments, chosen)
        if index is None:
            return _NOTHING_TOLD
        weights = strategies.weights(deployments, str(self._resolved), self.request)
        choice = drawn(weights, len(deployments), index)
        scores = _NOTHING
        if self.listing:
            total = len(deployments) if weights is None else sum(weights)
            scores = dict.fromkeys(map(deployment_id, self._configured), 0.0)
            for i, deployment in enumerate(deployments):
                scores[deployment_id(deployment)] = (1.0 if weights is None else weights[i]) / total
        return _Told(choice, "random" if weights is None else "weight", scores)

    # --- the end -----------------------------------------------------------------------------

    @fails_open("selection")
    def decide(self, chosen: Deployment | None) -> DecisionFacts:
        """The decision, explained."""
        now = self._clock()
        if not isinstance(chosen, Mapping):  # a user's own strategy can answer with anything
            return self._facts(None, None, _NOTHING_TOLD)
        if self._left > 0 and not (self._complete or self._custom):
            self._last_filters()  # the synchronous shuffle shows nobody what it gets
        elif self._seconds is None and self._started is not None and not self._custom:
            self._seconds = now - self._started
        chosen_id = deployment_id(chosen)
        if self._excluded:
            self._excluded.pop(chosen_id, None)
        if _index(self._configured, chosen) is None:
            # A filter or a strategy brought it from elsewhere: what was seen is not what it was chosen from.
            self._configured, self._excluded = _NOBODY, None
        if self._specific:
            return self._facts(chosen_id, "forced_specific", _NOTHING_TOLD)
        only = len(self._configured) - len(self._excluded or ()) == 1
        if self._decision is not None:
            return self._ours(self._decision, chosen_id, only=only)
        told = self._told
        if told is None and self._strategy == strategies.SHUFFLE and self._configured and not only:
            told = self._shuffled(chosen)
        told = told or _NOTHING_TOLD
        return self._facts(chosen_id, "only_candidate" if only else told.choice.reason, told)

    def _ours(self, decision: DecisionFacts, chosen_id: str, *, only: bool) -> DecisionFacts:
        """What a strategy of ours said, and what else was seen."""
        seen = self._facts(chosen_id, decision.reason, _NOTHING_TOLD)
        known = ((chosen_id, decision.score), (decision.runner_up_id, decision.runner_up_score))
        return decision._replace(
            chosen_id=chosen_id,
            reason="only_candidate" if only and decision.reason != "strategy_error_fallback" else decision.reason,
            total=seen.total,
            eligible=seen.eligible,
            considered=seen.considered if decision.considered is None else decision.considered,
            excluded=seen.excluded,
            ids=seen.ids,
            scores={**decision.scores, **{i: score for i, score in known if i is not None and score is not None}},
        )

    @fails_open("selection")
    def failed(self, error: Exception) -> DecisionFacts:
        """Nobody was picked: those who were still left have their reason too, when it is that nobody was."""
        if self._left > 0:
            reason = self._why_nobody(error)
            if reason is not None:
                self._drop(_NOBODY, reason)
        return self._facts(None, None, _NOTHING_TOLD)

    def _why_nobody(self, error: Exception) -> str | None:
        if self._specific and self._complete:
            return "blocked" if any(map(filters.is_blocked, self._deployments)) else "other"
        if filters.says_tags_refuse(error):
            return "tag"
        if not filters.says_nobody_is_left(error):
            return None
        if not self._complete:
            self._last_filters()
        return "rate_limit" if self._asked is not None and self._asked.ranking.limited else "other"

    def _facts(self, chosen_id: str | None, reason: str | None, told: _Told) -> DecisionFacts:
        configured, excluded, choice = self._configured, self._excluded or _NOTHING, told.choice
        ids = [deployment_id(d) for d in configured] if self.listing or chosen_id is None else []
        if chosen_id and self.listing and not ids:
            ids = [chosen_id]  # all that is known of what it was chosen from
        total: int | None = len(configured)
        eligible: int | None = len(configured) - len(excluded)
        if not configured and self._left != 0:
            total = eligible = None
        # In the order of the fields: a name for each would take as long as the rest of this.
        return DecisionFacts(
            self._strategy or seams.routing_strategy(self.router),
            reason,
            chosen_id,
            total,
            eligible,
            None if self._custom or self._specific or reason is None else eligible,
            excluded,
            choice.score,
            told.rank_by,
            None if choice.score is None or told.rank_by != "inflight" else int(choice.score),
            None if choice.runner_up is None else deployment_id(self._deployments[choice.runner_up]),
            choice.runner_up_score,
            self._seconds,
            None,
            ids,
            told.scores,
            strategies.routed(self.request) if self._resolved != self._group else _NOTHING,
        )


_PROBE: Final[ContextVar[Probe | None]] = ContextVar("traced_router.probe", default=None)


def probe_of(router: object) -> Probe | None:
    """The probe of the pick of ``router`` that runs now."""
    probe = _PROBE.get()
    return probe if probe is not None and probe.router is router else None


def enter(probe: Probe) -> Token[Probe | None]:
    """The pick of ``probe`` runs from now on; give the token to :func:`leave`."""
    return _PROBE.set(probe)


def leave(token: Token[Probe | None]) -> None:
    """It is over, unless this runs in another context than it began in, where it never was."""
    with suppress(ValueError):
        _PROBE.reset(token)
