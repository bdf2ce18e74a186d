"""The page about faults names every test of this directory, with the number of its cases, and no other."""

import importlib
import math
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
ROW = re.compile(r"\| `(\w+)::(\w+)` \| ([\d,]+) \|$", re.MULTILINE)


def cases(test):
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    return math.prod(len(list(mark.args[1])) for mark in marks)


def test_the_page_names_every_test():
    found = {}
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.faults.{file.stem}")
        for name, thing in vars(module).items():
            if name.startswith("test_") and getattr(thing, "__module__", None) == module.__name__:
                found[file.stem, name] = cases(thing)
    found.pop(("test_figures", "test_the_page_names_every_test"))
    said = {(module, name): int(count.replace(",", "")) for module, name, count in ROW.findall(PAGE.read_text("utf-8"))}

    assert said == found
