"""The package as it is installed: its version, its types, and the snippets of its README."""

from __future__ import annotations

import importlib.resources
import re
import subprocess
from collections.abc import Callable

from conftest import ROOT, Daemon

import hookbus

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_one_version_for_all() -> None:
    workspace = re.search(r'^version = "(.+?)"', (ROOT / "Cargo.toml").read_text(), re.M)
    project = re.search(r'^version = "(.+?)"', (ROOT / "client/python/pyproject.toml").read_text(), re.M)
    assert workspace is not None
    assert project is not None
    assert workspace[1] == project[1] == hookbus.__version__


def test_types_are_shipped() -> None:
    files = importlib.resources.files("hookbus")
    assert (files / "py.typed").is_file()
    assert (files / "_native.pyi").is_file()


def test_the_snippets_of_the_readme_run(run_script: Run, daemon: Daemon) -> None:
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "client/python/README.md").read_text(), re.S)
    assert len(snippets) == 2
    given = "loader, model, optimizer = range(60), None, None\n"
    given += "def step(batch): return 1.0 if batch < 49 else float('nan')\n"
    done = run_script(given + snippets[0], daemon)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "the reason of the stop is printed"
    assert "Memory information" in done.stderr
    done = run_script(snippets[1], daemon)
    assert (done.returncode, done.stderr) == (0, "")
