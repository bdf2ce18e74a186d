"""The tree builder told of any call that a router could make: the trace keeps the contract, to the nanosecond.

Time is a clock that moves by odd steps, and stands still now and then. What is told is true to the order in which
litellm works (pick, attempt, wait, hop); what it holds is anything.
"""

import random
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from opentelemetry.metrics import NoOpMeterProvider

from traced_router import _names as names
from traced_router._attributes import Limits
from traced_router._facts import AnswerFacts, AttemptFacts, CallFacts, DecisionFacts, DeploymentFacts, FailureFacts
from traced_router._guard import Guard
from traced_router._timeline import Timeline
from traced_router._tree import Tree
from traced_router._values import text
from traced_router.testing import Recorder, check_trace

bounded = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
LIMIT = 64
SECONDS = st.floats(0, 1e6)
COUNT = st.integers(0, 2**63 - 1)
IDS = ("a", "b", "c")


class Story:
    """Draws what happens to one call, and tells a tree of it."""

    def __init__(self, data: Any, odd: Any, recorder: Recorder, guard: Guard) -> None:
        self._draw = data.draw
        self._text = odd.text.map(text)
        self._facts = st.dictionaries(odd.text, odd.plain, max_size=18)
        self._now, self._steps = 0, random.Random(data.draw(st.integers(0, 2**16)))
        made = Timeline(self._tick, lambda: (self._tick(), 10**18))
        provider = recorder.provider
        self.tree = Tree(
            lambda: provider.get_tracer("tests"),
            guard,
            limits=Limits(LIMIT, list_candidates=data.draw(st.booleans())),
            timeline=lambda: made,
        )

    def _tick(self) -> int:
        self._now += self._steps.choice([0, 1, 999, 10**6, 10**9])
        return self._now

    def tell(self) -> None:
        draw, say = self._draw, self._text
        streaming = draw(st.booleans())
        group = asked = draw(say) or "a"
        facts = CallFacts(draw(st.sampled_from(["chat", "rerank"])), group, draw(say), draw(say), streaming, draw(say))
        call = self.tree.open_call(facts)
        hop, failure = None, None
        for depth in range(draw(st.integers(1, 3))):
            if depth:
                group = draw(say) or "b"
                hop = call.hop(group, draw(st.sampled_from(names.FALLBACK_KINDS)))
            failure = self._hop(call, hop, group)
            if failure is None:
                break
            # litellm asks what comes next, or gives up
            if hop is None:
                call.hop_failed(asked, failure.error_type)
            else:
                hop.fail(failure.error_type)
        self._end(call, hop, failure, streaming=streaming)

    def _hop(self, call: Any, hop: Any, group: str) -> FailureFacts | None:
        """``None`` when the hop has its answer, or its stream."""
        failure = None
        for _ in range(self._draw(st.integers(1, 3))):
            failure = self._attempt(call, hop, group)
            if failure is None:
                return None
            if self._draw(st.booleans()):
                source = self._draw(st.sampled_from(["exponential", "policy"]))
                call.backoff(self._draw(st.floats(1e-3, 1e6)), source, self._draw(st.none() | SECONDS), hop)
        return failure

    def _attempt(self, call: Any, hop: Any, group: str) -> FailureFacts | None:
        draw, say = self._draw, self._text
        call.select(group, hop).end(self._decision())
        deployment = DeploymentFacts(draw(say), draw(say), draw(say), "host", draw(st.none() | st.integers(1, 65535)))
        attempt = call.attempt(AttemptFacts(deployment, group), hop)
        if draw(st.booleans()):
            attempt.fail(failure := self._failure())
            return failure
        if draw(st.booleans()):
            tokens = st.none() | COUNT
            attempt.succeed(
                AnswerFacts(draw(say), draw(say), (), draw(tokens), draw(tokens), cost=draw(st.none() | SECONDS))
            )
        return None

    def _failure(self) -> FailureFacts:
        categories = st.sampled_from([one for one in names.ERROR_CATEGORIES if one != "cancelled"])
        status = st.none() | st.integers(400, 599)
        return FailureFacts(self._draw(self._text) or "E", self._draw(categories), self._draw(status))

    def _decision(self) -> DecisionFacts:
        draw = self._draw
        score, runner_up = draw(st.none() | SECONDS), draw(st.none() | SECONDS)
        return DecisionFacts(
            strategy=draw(self._text),
            reason=draw(st.sampled_from([one for one in names.REASONS if one != "only_candidate"])),
            chosen_id="a",
            total=3,
            eligible=2,
            considered=draw(st.none() | st.integers(0, 2)),
            excluded={"c": draw(st.sampled_from(names.EXCLUSIONS))},
            score=score,
            runner_up_score=runner_up,
            predicted_seconds=draw(st.none() | SECONDS),
            ids=IDS,
            scores={} if score is None else {"a": score},
            attributes=draw(self._facts),
        )

    def _end(self, call: Any, hop: Any, failure: FailureFacts | None, *, streaming: bool) -> None:
        if failure is not None:
            call.finish("error", failure)
        elif not streaming:
            if hop is not None:
                hop.returned()
            call.finish("ok")
        else:
            call.streams()
            if hop is not None:
                hop.returned()
            outcome = self._draw(st.sampled_from(["exhausted", "closed", "abandoned", "cancelled"]))
            how = {"exhausted": "ok", "cancelled": "cancelled"}.get(outcome, "abandoned")
            call.finish(how, None, outcome)


@bounded
@given(data=st.data())
def test_a_call(odd, data):
    recorder, guard = Recorder(), Guard(NoOpMeterProvider)
    Story(data, odd, recorder, guard).tell()

    assert guard.faults == 0
    assert recorder.open_spans() == []
    assert recorder.ended_twice() == []
    assert [str(v) for v in check_trace(recorder.spans(), max_string=LIMIT)] == []
