"""The pages for people: a daemon takes their Python, the migration table has every hook, and links lead somewhere."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Daemon

Run = Callable[..., "subprocess.CompletedProcess[str]"]

MIGRATION = ROOT / "docs/migration.md"
HOOKS = ROOT / "docs/hooks"
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]

ATTACH = """
import hookbus, json, sys
refused = {}
for name, hooks in json.load(open(sys.argv[1])).items():
    with hookbus.attach(name, hooks=hooks) as bus:
        assert bus.status()["connected"], bus.status()
        refused[name] = bus.status()["refused"]
print(json.dumps(refused))
"""

# what the daemon's configuration alone can ask for
NO_TRAINERS = {"Rule"}


def configs(page: Path) -> list[dict[str, object]]:
    """Each MMEngine config that the page shows, as its names and values."""
    found: list[dict[str, object]] = []
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S):
        if "custom_hooks" not in block:
            continue  # a loop
        config: dict[str, object] = {}
        exec(block, config)  # a config is Python
        found.append(config)
    return found


def asked(config: dict[str, object]) -> list[dict[str, object]]:
    """The hooks of the config's one HookbusHook; none where it has none."""
    ours = [hook for hook in config["custom_hooks"] if hook["type"] == "HookbusHook"]  # type: ignore[attr-defined]
    assert len(ours) <= 1
    if ours:
        assert "hookbus.adapters.mmengine" in config["custom_imports"]["imports"]  # type: ignore[index]
    return ours[0]["hooks"] if ours else []


def rows() -> list[tuple[dict[str, object], dict[str, object]]]:
    """(old line, new line) of the migration table."""
    lines = re.findall(r"^\| `(dict\(.*?\))` \| `(dict\(.*?\))` \|", MIGRATION.read_text(), re.M)
    return [(eval(old), eval(new)) for old, new in lines]


def test_a_daemon_takes_each_hook_that_a_page_shows(run_script: Run, daemon: Daemon, tmp_path: Path) -> None:
    runs = {page.stem: asked(config) for page in HOOKS.glob("*Hook.md") for config in configs(page)}
    assert set(runs) == {hook["type"] for hook in daemon.ask("hooks")} - NO_TRAINERS
    assert all([hook["type"] for hook in hooks] == [name] for name, hooks in runs.items())
    runs |= {f"migration-{at}": asked(config) for at, config in enumerate(configs(MIGRATION))}
    runs |= {f"readme-{at}": asked(config) for at, config in enumerate(configs(README))}
    assert "readme-0" in runs
    runs |= {f"row-{at}": [new] for at, (_, new) in enumerate(rows())}
    (tmp_path / "runs.json").write_text(json.dumps(runs))
    done = run_script(ATTACH, daemon, str(tmp_path / "runs.json"))
    assert done.returncode == 0, done.stderr
    refused = json.loads(done.stdout)
    assert set(refused) == set(runs)
    assert not any(refused.values()), refused


def test_the_migration_table_has_every_hook_with_its_old_arguments(daemon: Daemon) -> None:
    assert {new["type"] for _, new in rows()} == {hook["type"] for hook in daemon.ask("hooks")} - NO_TRAINERS
    gone = {"policy", "type", "priority"}
    for old, new in rows():
        kept = {name: value for name, value in old.items() if name not in gone}
        if old.get("type") == "SyncNormHook":
            kept = {}  # its arguments went with MMDetection 3.0
        assert new == {"type": old.get("type", "YOLOXLrUpdaterHook"), **kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}, link
