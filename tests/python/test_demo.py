"""The demo is a test of its own: it ends with status 0 only if it has seen what it shows."""

from __future__ import annotations

import subprocess
import sys

from conftest import ROOT, binary, clean_environment


def test_the_demo_sees_what_it_shows() -> None:
    command = [sys.executable, str(ROOT / "demo" / "demo.py"), "--bin", str(binary("hookbus").parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=clean_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "What was shown" in done.stdout


def test_the_demo_names_what_it_did_not_see(tmp_path: object) -> None:
    command = [sys.executable, str(ROOT / "demo" / "demo.py"), "--bin", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=clean_environment())
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
