"""The table of the endpoints that litellm makes with `factory_function`, made by calling each when the site is built.

Their providers are replaced by one that always fails, so that a trace shows all that litellm does for a call: the
picks, the calls, the retries and the fallbacks. A page asks for the table with::

    ```{endpoints}
    ```
"""

import asyncio
import functools
import inspect
import logging
import os
import warnings
from collections.abc import Callable
from typing import Any, Final

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

GROUP: Final = "group"
OTHER: Final = "other"
RECORDED_AS: Final = {"select": "S", "fallback": "F"}


class Endpoints(SphinxDirective):
    """One row for each endpoint: its operation, and what a call of it shows with a model and without one."""

    def run(self) -> list[nodes.Node]:
        """Write the table as Markdown, and have the page's own parser read it."""
        return self.parse_text_to_nodes(table())


@functools.cache
def table() -> str:
    """All endpoints of a router as a Markdown table."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # or `import litellm` waits for the network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = sorted(asyncio.run(_rows()), key=lambda row: row[0].lstrip("_"))
    head = ["| endpoint | operation | with a model | without one |", "|---|---|---|---|"]
    return "\n".join([*head, *(f"| `{name}` | `{operation}` | {w} | {wo} |" for name, operation, w, wo in rows)])


async def _rows() -> list[tuple[str, str, str, str]]:
    from traced_router.testing import Recorder  # noqa: PLC0415 - as below

    for name in ("LiteLLM", "LiteLLM Router", "traced_router"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    recorder = Recorder()
    router, endpoints = _router(recorder.provider)
    rows: list[tuple[str, str, str, str]] = []
    for name in endpoints:
        operation, with_model = await _shape(recorder, getattr(router, name), model=GROUP)
        _, without = await _shape(recorder, getattr(router, name))
        rows.append((name, operation, _words(with_model), _words(without)))
    router.discard()
    return rows


def _router(tracer_provider: Any) -> tuple[Any, list[str]]:
    """A router whose providers fail, and the names of its endpoints."""
    import litellm  # noqa: PLC0415 - after what it reads from the environment is there

    from traced_router import TracedRouter  # noqa: PLC0415 - it imports litellm

    made: list[Callable[..., Any]] = []

    class Failing(TracedRouter):
        def factory_function(self, original_function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            endpoint = super().factory_function(_failing(original_function, litellm), *args, **kwargs)
            made.append(endpoint)
            return endpoint

        def _time_to_sleep_before_retry(self, *_args: Any, **_kwargs: Any) -> float:
            return 0

    params = {"model": "openai/gpt-4o", "api_key": "sk-fake", "api_base": "http://127.0.0.1:9"}
    search = {"search_provider": "perplexity", "api_key": "sk-fake"}
    router = Failing(
        model_list=[{"model_name": group, "litellm_params": params} for group in (GROUP, OTHER)],
        search_tools=[{"search_tool_name": group, "litellm_params": search} for group in (GROUP, OTHER)],
        assistants_config={"custom_llm_provider": "openai", "litellm_params": {"api_key": "sk-fake"}},
        fallbacks=[{GROUP: [OTHER]}],
        num_retries=1,
        disable_cooldowns=True,
        tracer_provider=tracer_provider,
    )
    router.initialize_assistants_endpoint()
    state = vars(router.__dict__.get("_core", router))
    return router, [name for name, value in state.items() if any(value is endpoint for endpoint in made)]


def _failing(original: Callable[..., Any], litellm: Any) -> Callable[..., Any]:
    """What stands in for a provider function: the same kind of function, which raises what is worth a retry."""
    error = functools.partial(litellm.InternalServerError, "down", "openai", "gpt-4o")
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def fails_later(*_args: Any, **_kwargs: Any) -> None:
            raise error()

        return fails_later

    @functools.wraps(original)
    def fails(*_args: Any, **_kwargs: Any) -> None:
        raise error()

    return fails


async def _shape(recorder: Any, endpoint: Callable[..., Any], **kwargs: Any) -> tuple[str, str]:
    """The operation of one call, and its tree in letters; a ``-`` where litellm refused to make it."""
    recorder.clear()
    refused = False
    try:
        result = endpoint(**kwargs)
        if inspect.isawaitable(result):
            await result
    except Exception as error:  # noqa: BLE001 - that it fails is the point
        refused = isinstance(error, (TypeError, ValueError))
    root = recorder.tree()
    letters = "".join(map(_letters, root.children))
    return root.attributes["traced_router.operation"], letters or ("-" if refused else "")


def _letters(node: Any) -> str:
    first, _, rest = node.name.partition(" ")
    letter = RECORDED_AS.get(first.removeprefix("router."), "") if first.startswith("router.") else "A"
    return letter + "".join(map(_letters, node.children)) if rest or letter else ""


def _words(shape: str) -> str:
    if shape == "-":
        return "refused by litellm"
    if "A" not in shape:
        return "the request alone"
    own = shape.partition("F")[0]
    if own.count("A") == 1 and "F" not in shape:
        return "one selection, one attempt" if "S" in own else "one attempt"
    parts = ["selections"] * ("S" in own) + ["attempts"] + ["retries"] * (own.count("A") > 1)
    return ", ".join(parts + ["fallbacks"] * ("F" in shape))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Tell Sphinx of the directive."""
    app.add_directive("endpoints", Endpoints)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
