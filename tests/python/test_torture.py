"""The torture test, a short one: the daemon dies under running trainings, and nothing is lost, doubled or changed."""

from __future__ import annotations

import subprocess
import sys

from conftest import ROOT, binary, clean_environment


def test_a_daemon_that_is_killed_loses_and_doubles_nothing() -> None:
    script, kills = ROOT / "tests" / "torture" / "torture.py", 8
    done = subprocess.run(
        [sys.executable, str(script), "--kills", str(kills), "--floods", "2"],
        capture_output=True,
        text=True,
        timeout=600,
        env=clean_environment(HOOKBUSD=str(binary("hookbusd")), PYTHONPATH=str(ROOT / "tests" / "python")),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line[:36].strip(): line[36:].strip() for line in done.stdout.splitlines()}
    assert rows["kills with events in flight"].split(",")[0] == str(kills)
    assert rows["acknowledged and lost"] == "0"
    assert rows["kills of a hook's process"].split(",")[0] == "2"
