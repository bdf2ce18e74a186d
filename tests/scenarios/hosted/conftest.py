"""A hosted litellm wherever these tests run: the one that is installed, or a facade over the classic router.

From 1.109 on litellm's ``Router`` is a facade: it makes a core, reaches litellm through a host, and moves the methods
of a subclass onto a class of cores. Before that, the product's modules are loaded a second time against such a facade,
built here in the least code that shows this; its core is litellm's classic router.
"""

import asyncio
import importlib
import inspect
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import litellm
import pytest
from litellm import router as litellm_router


class PythonHost:
    """What a core reaches litellm through; it keeps nothing."""

    __slots__ = ()

    def invoke(self, op):
        return getattr(litellm, op)

    def sleep(self, seconds):
        return asyncio.sleep(seconds)


class PythonCore(litellm_router.Router):
    """The classic router as a core: it knows its host."""

    def __init__(self, *args, _host, **kwargs):
        self._host = _host
        super().__init__(*args, **kwargs)


class FacadeType(type):
    """Members that are read on a facade's class are those of its cores' class."""

    def __getattr__(cls, name):
        if not issubclass(cls, PythonCore):
            return getattr(cls._core_class, name)
        raise AttributeError(name)


_STAYS = {"__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__init__", "__classcell__"}


class Router(metaclass=FacadeType):
    """The facade."""

    _core_class = PythonCore

    def __init_subclass__(cls):
        if issubclass(cls, PythonCore):
            return
        parent = cls._core_class
        own = {name: value for name, value in vars(cls).items() if name not in _STAYS}
        plain = {name: getattr(parent, name) for name in ("__init__", "__setattr__")}
        type.__setattr__(cls, "_core_class", type(cls)(f"{cls.__name__}Core", (cls, parent), {**plain, **own}))
        for name in own:
            type.__delattr__(cls, name)

    def __init__(self, *args, **kwargs):
        config = build_router_config(router_arguments(*args, **kwargs))
        self._attach(make_core(config, PythonHost(), type(self)._core_class))

    def _attach(self, core):
        self.__dict__["_core"] = core

    def __getattr__(self, name):
        if "_core" not in self.__dict__:  # a core itself
            raise AttributeError(name)
        return getattr(self.__dict__["_core"], name)

    def __setattr__(self, name, value):
        if name == "__class__":
            object.__setattr__(self, name, value)
        else:
            setattr(self.__dict__["_core"], name, value)


Router.__init__.__signature__ = inspect.signature(litellm_router.Router.__init__)


@dataclass(frozen=True)
class RouterConfig:
    arguments: dict[str, Any]


def router_arguments(*args, **kwargs):
    return dict(inspect.signature(litellm_router.Router.__init__).bind_partial(None, *args, **kwargs).arguments)


def build_router_config(arguments):
    return RouterConfig({name: value for name, value in arguments.items() if name != "self"})


def make_core(config, host, core_class):
    return core_class(**config.arguments, _host=host)


# --- the product on it -------------------------------------------------------------------------


@dataclass(frozen=True)
class Hosted:
    """A hosted litellm, and the product's modules that know it."""

    Router: type
    product: dict[str, ModuleType]

    @property
    def TracedRouter(self) -> Any:  # noqa: N802  # a class
        return self.product["traced_router._router"].TracedRouter

    def module(self, name: str) -> Any:
        return self.product[f"traced_router.{name}"]


def _product() -> dict[str, ModuleType]:
    return {n: m for n, m in sys.modules.items() if n.partition(".")[0] == "traced_router" and ".testing" not in n}


def _pretend(patch: pytest.MonkeyPatch) -> None:
    """Let litellm be hosted."""
    host = ModuleType("litellm.router_python_host")
    vars(host)["PythonHost"] = PythonHost
    patch.setitem(sys.modules, host.__name__, host)
    for made in (router_arguments, build_router_config, make_core):
        patch.setattr(litellm_router, made.__name__, made, raising=False)


@pytest.fixture(scope="session")
def product() -> dict[str, ModuleType]:
    """The product's modules, loaded on a hosted litellm."""
    importlib.import_module("traced_router._router")
    before = _product()
    if hasattr(litellm_router.Router, "_core_class"):
        return before
    with pytest.MonkeyPatch.context() as patch:
        _pretend(patch)
        patch.setattr(litellm_router, "Router", Router)
        for name in before:
            patch.delitem(sys.modules, name)
        importlib.import_module("traced_router._router")
        loaded = _product()
        for name in loaded:
            del sys.modules[name]
    return loaded


@pytest.fixture
def hosted(product: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> Hosted:
    installed = hasattr(litellm_router.Router, "_core_class")
    if not installed:
        _pretend(monkeypatch)
    return Hosted(litellm_router.Router if installed else Router, product)
