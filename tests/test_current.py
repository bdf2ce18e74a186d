"""Making a context current, and what was there before again."""

import contextvars

import pytest
from opentelemetry import context as otel_context

from traced_router._current import attach, detach


def test_what_was_current_is_so_again():
    before = otel_context.get_current()
    token = attach(otel_context.set_value("key", 1))
    assert otel_context.get_value("key") == 1
    detach(token)

    assert otel_context.get_current() == before


def test_a_coroutine_that_is_closed_elsewhere_has_nothing_to_undo(caplog):
    """Whoever collects it runs in another context, to which the token is foreign."""
    token = contextvars.copy_context().run(attach, otel_context.set_value("key", 1))
    detach(token)

    assert otel_context.get_value("key") is None
    assert caplog.records == []


def test_another_runtime_s_token_is_handed_back_to_it(monkeypatch: pytest.MonkeyPatch):
    """OpenTelemetry can keep its context elsewhere, by an entry point of its own."""

    class Runtime:
        def __init__(self):
            self.current = before

        def attach(self, context):
            was, self.current = self.current, context
            return was

        def get_current(self):
            return self.current

        def detach(self, token):
            self.current = token

    before = otel_context.get_current()
    monkeypatch.setattr(otel_context, "_RUNTIME_CONTEXT", Runtime())
    token = attach(otel_context.set_value("key", 1))
    assert otel_context.get_value("key") == 1
    detach(token)

    assert otel_context.get_current() is before
