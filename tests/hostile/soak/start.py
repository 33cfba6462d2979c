"""Runs a module of these tests outside pytest: `python tests/hostile/soak/start.py MODULE ARGUMENTS...`.

A package we test with installs a `tests` of its own, which hides ours from a plain `python -m`.
"""

import runpy
import sys
import types
from pathlib import Path

ROOT = Path(__file__).parents[3]

if __name__ == "__main__":
    ours = types.ModuleType("tests")
    ours.__path__ = [str(ROOT / "tests")]
    sys.modules["tests"] = ours
    sys.path[0] = str(ROOT)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
