"""What this package writes to its logger ``traced_router``: one line for what an operator would want to hear of.

    a fallback begins   INFO      fell_back()
    a cooldown begins   WARNING   cooled_down()
    a strategy fails    ERROR     StrategyFaults: in a pick, which somebody else then makes
                        WARNING   elsewhere: it has not learnt something

Each is written in the context of its span, so that the ids on it fit, and its facts are fields too, by the
names of :mod:`traced_router._names`. Names, numbers and exception types go in; no exception's message does,
for it can hold what a caller or a provider sent. What is not logged costs a look at the logger's level.

A library is quiet until an application configures logging: hence the :class:`logging.NullHandler`. This
module must not know litellm.
"""

import logging
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from traced_router import _names as n
from traced_router._current import attach, detach
from traced_router._frame import Frame, frame_of, with_frame

if TYPE_CHECKING:
    from traced_router._facts import FailureFacts
    from traced_router._guard import Guard
    from traced_router._spans import Attempt, Hop
    from traced_router._tree import Call

logger: Final = logging.getLogger("traced_router")
logger.addHandler(logging.NullHandler())

QUIET_SECONDS: Final = 60.0
"""For how long a strategy that fails at the same step again is only counted."""

_DECISIVE: Final = {
    "pick": "; simple-shuffle picks instead",
    "load": "; the router's own strategy picks instead",
}
"""Steps without which the strategy is not in force, and what happens then."""


def fell_back(call: "Call", hop: "Hop", facts: Mapping[str, object]) -> None:
    """A hop begins; ``facts`` are its span's attributes."""
    if not logger.isEnabledFor(logging.INFO):
        return
    _write(
        call.guard,
        with_frame(Frame(call, hop), hop.span_context),
        logging.INFO,
        "fallback from %s to %s (%s) after %s",
        (
            _shown(facts.get(n.FALLBACK_FROM)),
            _shown(facts[n.FALLBACK_TO]),
            facts[n.FALLBACK_KIND],
            facts.get(n.FALLBACK_ERROR_TYPE),
        ),
        facts,
    )


def cooled_down(
    guard: "Guard", attempt: "Attempt | None", deployment_id: str, seconds: float, failure: "FailureFacts | None"
) -> None:
    """A cooldown begins, because of ``failure``; ``attempt`` is the one that failed, when it is one of ours."""
    category = "other" if failure is None else failure.category
    _write(
        guard,
        otel_context.get_current() if attempt is None else attempt.context,
        logging.WARNING,
        "deployment %s cools down for %g s (%s)",
        (_shown(deployment_id), seconds, category),
        {
            n.DEPLOYMENT_ID: deployment_id,
            n.MODEL_GROUP: None if attempt is None else attempt.model_group,
            n.LOG_COOLDOWN_SECONDS: seconds,
            n.LOG_COOLDOWN_REASON: category,
            n.ERROR_TYPE: None if failure is None else failure.error_type,
        },
    )


class StrategyFaults:
    """What strategies do wrong, in the log: the first fault at each step, and then no more than one a minute.

    Args:
        guard: counts them all.
        clock: monotonic, in seconds.
    """

    __slots__ = ("_clock", "_quiet_until", "_suppressed", "guard")

    def __init__(self, guard: "Guard", clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._quiet_until: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}
        self.guard = guard

    def tell(
        self, strategy: str, step: str, fault: Exception, call: "Call | None" = None, hop: "Hop | None" = None
    ) -> None:
        """A strategy has raised ``fault``, or has given an answer that cannot be used. Never raises.

        Args:
            strategy: its name.
            step: the method that was called: ``pick``, ``finished``, …; or ``load``.
            fault: what it raised.
            call: whose span the line belongs to, unless that is the current one.
            hop: the fallback in it, likewise.
        """
        self.guard.count("strategy")
        level = logging.ERROR if step in _DECISIVE else logging.WARNING
        if not logger.isEnabledFor(level) or not self._is_due(step):
            return
        where = otel_context.get_current()
        if call is not None:
            where = with_frame(Frame(call, hop), call.parent_context(hop))
        error_type, at, suppressed = type(fault).__name__, _place(fault), self._suppressed.pop(step, 0)
        before = f" ({suppressed} more since the last line)" if suppressed else ""
        _write(
            self.guard,
            where,
            level,
            "strategy %s failed in %s() with %s at %s%s%s",
            (_shown(strategy), step, error_type, at, _DECISIVE.get(step, ""), before),
            {
                n.STRATEGY_NAME: strategy,
                n.LOG_STRATEGY_STEP: step,
                n.ERROR_TYPE: error_type,
                n.LOG_STRATEGY_AT: at,
                n.LOG_STRATEGY_SUPPRESSED: suppressed,
            },
        )
        if logger.isEnabledFor(logging.DEBUG):
            facts = (_shown(strategy), way_to(fault))
            _write(self.guard, where, logging.DEBUG, "strategy %s failed there:\n%s", facts, {})

    def _is_due(self, step: str) -> bool:
        now = self._clock()
        if self._quiet_until.get(step, now) > now:
            self._suppressed[step] = self._suppressed.get(step, 0) + 1
            return False
        self._quiet_until[step] = now + QUIET_SECONDS
        return True


def way_to(fault: BaseException) -> str:
    """The traceback of ``fault``, without its message."""
    return "".join(traceback.format_tb(fault.__traceback__))


def _place(fault: Exception) -> str:
    """The file and the line that ``fault`` came from, without the file's path."""
    last = traceback.extract_tb(fault.__traceback__, limit=-1)
    return f"{Path(last[0].filename).name}:{last[0].lineno}" if last else "unknown"


def _shown(name: object) -> str:
    """A name as a line may show it: a caller may have made it up, line breaks and all."""
    return repr(name[: n.MAX_GROUP_IN_NAME]) if isinstance(name, str) else "unknown"


def _write(
    guard: "Guard", where: Context, level: int, message: str, args: tuple[object, ...], facts: Mapping[str, object]
) -> None:
    """Log a line; ``facts`` that are ``None`` are left out."""
    try:
        frame = frame_of(where)
        fields = {**facts, n.TRACE_ID: None if frame is None else frame.trace_id}
        token = attach(where)
        try:
            logger.log(level, message, *args, extra={k: v for k, v in fields.items() if v is not None}, stacklevel=3)
        finally:
            detach(token)
    except Exception as fault:  # noqa: BLE001  # an application's filter raises into whoever logs
        guard.report("log", fault)
