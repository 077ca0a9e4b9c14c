"""`python -m hookbus.serving --module my_hooks`: the hooks of a module, for a daemon that asks for them.

The daemon starts it for `[[hooks]] module = "my_hooks"` in its configuration; `hookbus hooks serve my_hooks.py` does by
hand. It comes back to a daemon that was away, for ever. Ends with 1 where it cannot serve, 2 where the line is wrong;
started by a daemon, it ends with that.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

from ._native import ProviderLink
from .hooks import _asked
from .hooks._dispatch import Dispatcher, Opened
from .hooks._load import Loaded, Missing, load, name_of
from .hooks._offer import Offer, Request, offer
from .hooks._plan import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._native import ProviderFrame
    from .hooks._event import Call
    from .hooks._slot import Answer

TICKET_VARIABLE = "HOOKBUS_PROVIDER_TICKET"
LOOK_S = 1.0
"""How often it is looked whether the daemon that started this process is still there."""
HELD_S = 0.001
"""Answers are held back no longer; and not at all before a call of a hook whose last one took longer."""
MOST_ANSWERS = 256


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser("hookbus hooks serve", description="Serves the hooks of a module to a daemon.")
    parser.add_argument("--module", required=True, help="a module's name, or a file my_hooks.py")
    parser.add_argument("--address", help="the daemon [default: HOOKBUS_ADDRESS, else the default socket]")
    parser.add_argument("--token-file", type=Path, help="over TCP: an operator's token [default: HOOKBUS_TOKEN_FILE]")
    parser.add_argument("--ca-file", type=Path, help="over TLS: whom to believe [default: HOOKBUS_CA_FILE]")
    _asked.add_to(parser)
    args = parser.parse_args(words)
    ticket = os.environ.pop(TICKET_VARIABLE, "")  # not for what a hook starts
    with redirect_stdout(sys.stderr):
        try:
            provider = Provider(args, ticket)
        except Missing as error:
            return _said(str(error), 1)
        except (Refused, ValueError) as error:
            return _said(str(error), 2)
        try:
            return provider.run()
        except KeyboardInterrupt:
            return 130


class Provider:
    """One module and its link. Raises Missing, Refused and ValueError where it cannot even be tried."""

    def __init__(self, args: argparse.Namespace, ticket: str) -> None:
        self._parent = os.getppid() if ticket else None
        self._file: str | None = None
        self._missing: str | None = None
        self._own: list[Request] = []
        try:
            loaded: Loaded | None = load(args.module)
        except Missing as error:
            if not ticket:
                raise
            loaded = None  # the daemon is told, and tells those who look at a run
            self._missing = str(error)
        if loaded is not None:
            self._file = loaded.file
            self._own = _asked.requests(args, loaded.name, loaded.types)
        self._dispatcher = Dispatcher([])
        self._said = ""
        self._slow: set[str] = set()
        self._offered: list[str] = []
        self._module = name_of(args.module)
        self._link = ProviderLink(
            module=self._module,
            address=args.address,
            ticket=ticket,
            token_file=args.token_file,
            ca_file=args.ca_file,
        )

    def run(self) -> int:
        """Serves until it is over."""
        while self._parent is None or os.getppid() == self._parent:
            for frame in self._link.next(LOOK_S):
                status = self._take(frame)
                if status is not None:
                    return status
        return _said("the daemon that started this process is gone", 0)

    def _take(self, frame: ProviderFrame) -> int | None:
        """Does what it says. Returns an exit status where all is over."""
        if frame[0] == "calls":
            self._answer(frame[1])
        elif frame[0] == "opened":
            _, who, facts, states = frame
            self._dispatcher.opened(Opened(*who, facts, states))
        elif frame[0] == "facts":
            self._dispatcher.facts(frame[1], frame[2])
        elif frame[0] == "closed":
            self._dispatcher.closed(frame[1])
        elif frame[0] == "assignment":
            return self._assigned(frame[1])
        elif frame[0] == "accepted":
            self._accepted(frame[1])
        elif frame[0] == "lost":
            self._dispatcher.lost()
            if frame[1] != self._said:
                self._said = frame[1]
                print(f"hookbus: {frame[1]}; trying again", file=sys.stderr)
        elif frame[0] == "ended":
            return _said(frame[1], 1)
        return None

    def _assigned(self, hooks: list[dict[str, object]]) -> int | None:
        """The daemon's configuration asks for these hooks; for none: what was asked for by hand."""
        made = self._make(hooks)
        for what, why in made.refused:
            print(f"hookbus: refused: {what}: {why}", file=sys.stderr)
        if not made.hooks and self._parent is None:
            return _said(f"{self._module} has no hook to serve", 1)
        self._dispatcher = Dispatcher(made.hooks, self._file)
        offered = [
            (
                {**each.args, "type": each.request.type, "name": each.request.name},
                each.subscriptions,
                each.memory,
                each.desired,
                each.summary,
            )
            for each in made.hooks
        ]
        self._link.offer(offered, made.refused)
        self._offered = [each.request.name for each in made.hooks]
        return None

    def _accepted(self, refused: list[tuple[str, str]]) -> None:
        """From here on they are called."""
        self._said = ""
        for what, why in refused:
            print(f"hookbus: refused by the daemon: {what}: {why}", file=sys.stderr)
        gone = {what for what, _ in refused}
        names = ", ".join(name for name in self._offered if f"hook {name}" not in gone) or "nothing"
        print(f"hookbus: serving {names} of {self._module} at {self._link.address}", file=sys.stderr, flush=True)

    def _make(self, hooks: list[dict[str, object]]) -> Offer:
        if self._missing is not None:
            names = [str(hook.get("name") or hook.get("type")) for hook in hooks]
            return Offer([], [(f"hook {name}", self._missing) for name in names])
        if not hooks:
            return offer(self._own, self._file)
        requests, refused = [], []
        for hook in hooks:
            try:
                requests.append(Request.of(hook))
            except Refused as error:
                refused.append((f"hook {hook.get('name') or hook.get('type')}", str(error)))
        made = offer(requests, self._file)
        return Offer(made.hooks, [*refused, *made.refused])

    def _answer(self, calls: list[Call]) -> None:
        """In batches that end where a training waits, or where another answer has waited for long enough."""
        answer, began = self._dispatcher.answer, time.monotonic()
        batch: list[Answer] = []
        for call in calls:
            hook = call[2]
            if batch and hook in self._slow:
                self._link.answer(batch)
                batch = []
            if not batch:
                began = time.monotonic()
            self._slow.add(hook)  # unless it is seen not to be
            batch.append(answer(call))
            took = time.monotonic() - began
            if took <= HELD_S:
                self._slow.discard(hook)
            if call[11] or len(batch) >= MOST_ANSWERS or took > HELD_S:
                self._link.answer(batch)
                batch = []
        if batch:
            self._link.answer(batch)


def _said(text: str, status: int) -> int:
    print(f"hookbus: {text}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
