"""How much work a call is, learnt from how long calls took.

work = a + b × fresh prompt tokens + c × cached prompt tokens + d × output tokens

in seconds on a deployment of pace 1. Prefill and decode cost differently and every model has
its own ratio, so the four coefficients are fitted, for a group at a time, to (service / pace) of
the calls that ended: least squares of the relative error, with exponential forgetting, no
negative coefficient, and a prior of a few observations that looks like a typical model. The
tokens are those that the provider counted: no tokenizer runs here.
"""

from typing import Final, TypeAlias

_PRIOR: Final = (0.3, 0.00012, 0.00003, 0.014)
"""A typical hosted model: 0.3 s, 8,000 tokens/s of prefill, a quarter of that cost when cached, 70 tokens/s."""

_PRIOR_WEIGHT: Final = 20.0
"""Observations that the prior is worth."""

_LEAST_PRIOR: Final = 0.002
"""Weight that it keeps, as a share of the observations': it decides where all calls are alike."""

_KEEP: Final = 1.0 - 1.0 / 400.0
"""Forgetting per observation: about the last 400 count."""

_SWEEPS: Final = 8
"""Of coordinate descent per fit; each starts where the last one ended."""

_EVERY: Final = 32
"""Observations between fits, after the first ones."""

_EARLY: Final = frozenset((4, 8, 16))
_SPARSE: Final = 4
_SETTLED: Final = 256
"""After so many observations, one in :data:`_SPARSE` is enough."""

_CLIP: Final = 3.0
"""An observation counts as at most so many times, or one so-manieth, of what was predicted."""

_MEAN_KEEP: Final = 0.99
"""Forgetting of the means, per call."""

_PREFILL_MATTERS: Final = 0.05
"""Share of the work."""

Features: TypeAlias = tuple[float, float, float, float]
"""(1, fresh, cached, output), tokens."""


class WorkModel:
    """The model of one group. Not locked: its owner is.

    Attributes:
        coefficients: a, b, c, d above: seconds, then seconds per token.
        mean_work: of the calls that ended lately; 1 before any did.
        mean_prompt: likewise, tokens.
        mean_output: likewise, tokens.
        prefill_matters: whether prefill is so much of the work that it is worth knowing where prompts are cached.
    """

    __slots__ = (
        "_cross", "_moments", "_seen", "_weight", "coefficients",
        "mean_output", "mean_prompt", "mean_work", "prefill_matters",
    )  # fmt: skip

    def __init__(self) -> None:
        self.coefficients = _PRIOR
        self._moments = [[0.0] * 4 for _ in range(4)]
        self._cross = [0.0] * 4
        self._seen = 0
        self._weight = 0.0
        self.mean_work = 1.0
        self.mean_prompt = 500.0
        self.mean_output = 150.0
        self.prefill_matters = True

    def work(self, fresh: float, cached: float, output: float) -> float:
        """Of a call of that many tokens."""
        a, b, c, d = self.coefficients
        return a + b * fresh + c * cached + d * output

    def until_first_chunk(self, fresh: float, cached: float) -> float:
        """The part of the work that comes before the first output token."""
        a, b, c, _ = self.coefficients
        return a + b * fresh + c * cached

    def observe(self, features: Features, service: float) -> None:
        """A call took ``service`` seconds, at pace 1, for the tokens that the provider counted."""
        self._seen += 1
        if self._seen > _SETTLED and self._seen % _SPARSE:
            return
        predicted = self.work(*features[1:])
        target = min(_CLIP, max(1.0 / _CLIP, service / predicted))
        scaled = [feature / predicted for feature in features]
        for row, left in zip(self._moments, scaled, strict=True):
            for column, right in enumerate(scaled):
                row[column] = _KEEP * row[column] + left * right
        self._cross = [_KEEP * old + new * target for old, new in zip(self._cross, scaled, strict=True)]
        if self._seen in _EARLY or self._seen % _EVERY == 0:
            self._fit()

    def count(self, work: float, prompt: float, output: float) -> None:
        """A call of that size ended: for the means."""
        self._weight = _MEAN_KEEP * self._weight + 1.0
        gain = 1.0 / self._weight
        self.mean_work += gain * (work - self.mean_work)
        self.mean_prompt += gain * (prompt - self.mean_prompt)
        self.mean_output += gain * (output - self.mean_output)

    def _fit(self) -> None:
        """Non-negative ridge regression towards the prior, by coordinate descent."""
        share = max(_LEAST_PRIOR, _PRIOR_WEIGHT / self._seen)
        fitted = list(self.coefficients)
        for _ in range(_SWEEPS):
            for i, row in enumerate(self._moments):
                pull = share * row[i] + 1e-12
                rest = sum(value * fitted[j] for j, value in enumerate(row) if j != i)
                fitted[i] = max(0.0, (self._cross[i] + pull * _PRIOR[i] - rest) / (row[i] + pull))
        a, b, c, d = fitted
        if a + b + d > 0.0:
            self.coefficients = (a, b, c, d)
            self.prefill_matters = b * self.mean_prompt > _PREFILL_MATTERS * self.work(
                self.mean_prompt, 0.0, self.mean_output
            )
