"""Modules of hooks for tests: written, loaded, and forgotten again. And calls as the daemon makes them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hookbus.hooks import HOOKS
from hookbus.hooks._dispatch import Dispatcher, Opened
from hookbus.hooks._load import Loaded, load
from hookbus.hooks._offer import Made, Offer, Request, defaults, offer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hookbus.hooks._event import Call, Number

Load = Callable[..., Loaded]
HEAD = "import math\nimport hookbus\n\n@hookbus.HOOKS.register_module()\nclass Own(hookbus.Hook):\n"


@pytest.fixture
def load_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Loads a text as the module my_hooks, into a registry that nothing else is in."""
    monkeypatch.setattr(HOOKS, "_types", {})
    monkeypatch.setattr(sys, "path", list(sys.path))

    def loaded(text: str, name: str = "my_hooks") -> Loaded:
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        HOOKS._types.clear()
        return load(str(file))

    yield loaded
    sys.modules.pop("my_hooks", None)


def offered(loaded: Loaded, *requests: dict[str, object]) -> Offer:
    """What a provider offers of it; by default each type."""
    asked = [Request.of(each) for each in requests] or defaults(loaded.types)
    return offer(asked, loaded.file)


def made(loaded: Loaded, **args: object) -> Made:
    """The one hook of the module."""
    found = offered(loaded, {"type": loaded.types[0], **args})
    assert not found.refused, found.refused
    return found.hooks[0]


def refusal(loaded: Loaded, **args: object) -> str:
    """Why the one hook of the module does not hold."""
    found = offered(loaded, {"type": loaded.types[0], **args})
    assert not found.hooks, found.hooks
    return found.refused[0][1]


class Daemonlike:
    """One run of a dispatcher, and calls to it."""

    def __init__(self, loaded: Loaded, *requests: dict[str, object], **opened: object) -> None:
        found = offered(loaded, *requests)
        assert not found.refused, found.refused
        self.hooks = found.hooks
        self.dispatcher = Dispatcher(self.hooks, loaded.file)
        self.calls = 0
        self.open(**opened)

    def open(self, facts: dict[str, object] | None = None, states: dict[str, str] | None = None) -> None:
        self.dispatcher.opened(Opened(1, "digits", "digits@1", 0, 1, facts, states or {}))

    def call(
        self,
        point: str = "after_train_iter",
        at: tuple[int, int, int] = (0, 0, 0),
        hook: str | None = None,
        unknown: dict[str, str] | None = None,
        held_on: list[int] | None = None,
        memory: list[Number] | None = None,
        desired: dict[str, object] | None = None,
        rss_bytes: int | None = None,
        **fields: float,
    ) -> tuple[list[tuple[object, ...]], str | None, str, str]:
        """Decisions, state, error and traceback of the answer."""
        self.calls += 1
        name = hook or self.hooks[0].request.name
        who = (self.calls, 1, name, 0, point)
        rest = (rss_bytes, False, 50, held_on or [], memory or [], desired)
        call: Call = (*who, *at, fields, unknown or {}, *rest)
        (answer,) = self.dispatcher.calls([call])
        assert answer[:2] == (1, self.calls)
        return answer[2:]
