"""Settings by themselves: where each comes from, what is refused and in which words, and that all are documented."""

import importlib.util
import logging
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import Field

from traced_router import settings as module
from traced_router.errors import ConfigurationError
from traced_router.settings import CAPTURE_VARIABLE, PREFIX, ContentCapture, TracedRouterSettings, load

TABLE = Path(__file__).parent.parent / "docs" / "_extensions" / "settings_table.py"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CAPTURE_VARIABLE, raising=False)


# --- where a setting comes from ----------------------------------------------------------------


def test_nothing_is_set() -> None:
    assert load().model_dump(include=set(NAMES)) == {
        "list_candidates": False,
        "max_string_length": 1024,
        "routing_strategy": None,
        "resilience": None,
        "llm_spans": True,
        "capture_content": ContentCapture.NO_CONTENT,
        "max_content_length": 32_768,
    }


NAMES = (
    "list_candidates",
    "max_string_length",
    "routing_strategy",
    "resilience",
    "llm_spans",
    "capture_content",
    "max_content_length",
)


def test_a_keyword_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "MAX_STRING_LENGTH", "100")
    monkeypatch.setenv((PREFIX + "LLM_SPANS").lower(), "off")

    assert load().max_string_length == 100
    assert load({"max_string_length": 200}).max_string_length == 200
    assert load().llm_spans is False


def test_they_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().llm_spans = False


def test_an_object_is_in_force_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    made = TracedRouterSettings(list_candidates=True)
    monkeypatch.setenv(PREFIX + "NO_SUCH_THING", "1")

    assert load(made) is made


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max_string_length": 3}, "max_string_length='3': .* equal to 64"),
        ({"capture_content": "ALL"}, "capture_content='ALL': .*'NO_CONTENT', 'SPAN_ONLY', 'EVENT_ONLY'"),
        ({"lm_spans": False}, "There is no setting 'lm_spans'. Did you mean llm_spans?"),
        ({"zzz": 1}, "There is no setting 'zzz'. There are: .*llm_spans"),
    ],
)
def test_keywords_that_cannot_be_used(given: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load(given)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MAX_CONTENT_LENGTH", "lots", "TRACED_ROUTER_MAX_CONTENT_LENGTH='lots': .*integer"),
        ("RESILENCE", "1", "behind TRACED_ROUTER_RESILENCE. Did you mean TRACED_ROUTER_RESILIENCE?"),
    ],
)
def test_variables_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(ConfigurationError, match=says):
        load()


def test_a_variable_that_should_be_json(monkeypatch: pytest.MonkeyPatch) -> None:
    class Longer(TracedRouterSettings):
        keys: tuple[str, ...] = Field(default=())

    monkeypatch.setattr(module, "TracedRouterSettings", Longer)
    monkeypatch.setenv(PREFIX + "KEYS", "a, b")
    with pytest.raises(ConfigurationError, match=r'cannot be used: .*"keys"'):
        load()


# --- content -----------------------------------------------------------------------------------

MODES = [
    ("NO_CONTENT", ContentCapture.NO_CONTENT),
    ("span_only", ContentCapture.SPAN_ONLY),
    (" EVENT_ONLY ", ContentCapture.EVENT_ONLY),
    ("Span_And_Event", ContentCapture.SPAN_AND_EVENT),
    ("true", ContentCapture.SPAN_ONLY),
    ("False", ContentCapture.NO_CONTENT),
    ("", ContentCapture.NO_CONTENT),
]


@pytest.mark.parametrize(("given", "mode"), MODES)
def test_the_conventions_variable(monkeypatch: pytest.MonkeyPatch, given: str, mode: ContentCapture) -> None:
    monkeypatch.setenv(CAPTURE_VARIABLE, given)

    assert load().capture_content is mode


@pytest.mark.parametrize(("given", "mode"), MODES)
def test_our_own_variable_beats_it(monkeypatch: pytest.MonkeyPatch, given: str, mode: ContentCapture) -> None:
    monkeypatch.setenv(CAPTURE_VARIABLE, "SPAN_AND_EVENT")
    monkeypatch.setenv(PREFIX + "CAPTURE_CONTENT", given)

    assert load().capture_content is mode
    assert load({"capture_content": "EVENT_ONLY"}).capture_content is ContentCapture.EVENT_ONLY
    assert load({"capture_content": True}).capture_content is ContentCapture.SPAN_ONLY


def test_a_value_of_the_conventions_variable_that_we_do_not_know(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(CAPTURE_VARIABLE, "EVERYTHING")
    with caplog.at_level(logging.WARNING):
        assert load().capture_content is ContentCapture.NO_CONTENT
        assert TracedRouterSettings.model_construct().capture_content is ContentCapture.NO_CONTENT

    assert caplog.messages[0] == f"{CAPTURE_VARIABLE}='EVERYTHING' is not known; no content is captured"


@pytest.mark.parametrize("mode", ContentCapture)
def test_where_content_goes(mode: ContentCapture) -> None:
    assert (mode.on_span, mode.on_event) == ("SPAN" in mode, "EVENT" in mode)


# --- documentation -----------------------------------------------------------------------------


@pytest.fixture
def extension() -> ModuleType:
    pytest.importorskip("sphinx")
    spec = importlib.util.spec_from_file_location("settings_table", TABLE)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_every_setting_says_what_it_is_for() -> None:
    for name, field in TracedRouterSettings.model_fields.items():
        assert (field.description or "").endswith("."), name


def test_every_setting_is_in_the_table(extension: ModuleType) -> None:
    rows = dict(zip(TracedRouterSettings.model_fields, extension.table().splitlines()[2:], strict=True))

    for name, row in rows.items():
        setting, kind, default, meaning = row.replace("\\|", "/").strip("| ").split(" | ")
        assert setting == f"`{name}`<br>`{PREFIX}{name.upper()}`"
        assert kind
        assert default
        assert meaning.endswith(".")
    assert "one of `NO_CONTENT`, `SPAN_ONLY`, `EVENT_ONLY`, `SPAN_AND_EVENT`" in rows["capture_content"]
    assert " | `str` | not set | " in rows["routing_strategy"]
    assert " | `int` | `1024` | " in rows["max_string_length"]
