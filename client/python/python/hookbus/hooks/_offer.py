"""From requests to hooks that hold. Each that does not is refused by name with the reason; the rest holds."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ._errors import line_of
from ._hook import Hook
from ._plan import Refused, Subscription, subscriptions
from ._points import close_to
from ._registry import HOOKS, Registry

DAEMONS = ("priority", "policy")
"""Arguments that the daemon reads, and no constructor gets."""


class Request(NamedTuple):
    """A hook that is asked for: dict(type="CheckInvalidLossHook", name="check", interval=50)."""

    type: str
    name: str
    args: Mapping[str, object]

    @classmethod
    def of(cls, said: Mapping[str, object]) -> Request:
        """From a dict as in an MMEngine config. Raises Refused."""
        args = dict(said)
        kind = args.pop("type", None)
        name = args.pop("name", None) or kind
        if not isinstance(kind, str) or not kind:
            raise Refused(f"{dict(said)!r} has no type")
        if not isinstance(name, str):
            raise Refused(f"the name of a hook is a text, not {name!r}")
        return cls(kind, name, args)


class Made(NamedTuple):
    """A hook that holds."""

    request: Request
    kind: type[Hook]
    subscriptions: list[Subscription]
    memory: bool
    desired: bool

    @property
    def summary(self) -> str:
        """The first line of its doc."""
        doc = inspect.cleandoc(self.kind.__doc__ or "") if self.kind.__doc__ != Hook.__doc__ else ""
        return doc.split("\n\n")[0].replace("\n", " ").strip()

    @property
    def args(self) -> dict[str, object]:
        """As asked for, with the class's own priority and policy where they are not said."""
        own = {name: getattr(self.kind, name) for name in DAEMONS}
        usual = {name: getattr(Hook, name) for name in DAEMONS}
        said = {name: value for name, value in own.items() if value != usual[name]}
        return {**said, **self.request.args}

    def instance(self) -> Hook:
        """A new one, as the constructor makes it."""
        return self.kind(**{name: value for name, value in self.request.args.items() if name not in DAEMONS})


class Offer(NamedTuple):
    """The hooks that hold, and those that do not: ("hook NAME", why)."""

    hooks: list[Made]
    refused: list[tuple[str, str]]


def offer(requests: Sequence[Request], file: str | None = None, registry: Registry = HOOKS) -> Offer:
    """Makes each hook once, to see that it can be made and what it wants."""
    found = Offer([], [])
    names: set[str] = set()
    for request in requests:
        try:
            if request.name in names:
                raise Refused('there is another hook of this name before it: tell the two apart by name = "..."')
            made = make(request, file, registry)
        except Refused as refused:
            found.refused.append((f"hook {request.name}", str(refused)))
        else:
            names.add(request.name)
            found.hooks.append(made)
    return found


def make(request: Request, file: str | None = None, registry: Registry = HOOKS) -> Made:
    """One hook. Raises Refused."""
    kind = registry.get(request.type)
    if kind is None:
        raise Refused(_no_type(request.type, registry))
    if not (isinstance(kind, type) and issubclass(kind, Hook)):
        raise Refused(f"{request.type} is no hook: class {request.type}(hookbus.Hook)")
    args = {name: value for name, value in request.args.items() if name not in DAEMONS}
    try:
        signature = inspect.signature(kind)
    except (TypeError, ValueError):
        signature = None
    if signature is not None:
        try:
            signature.bind(**args)
        except TypeError as error:
            there = list(signature.parameters)
            near = next((close_to(name, there) for name in args if name not in there), "")
            raise Refused(f"its arguments do not fit {kind.__name__}{signature}: {error}{near}") from None
    try:
        hook = kind(**args)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise Refused(f"its constructor raised {line_of(error, file)}") from error
    return Made(request, kind, subscriptions(hook, request.name), bool(hook.memory), bool(hook.desired))


def defaults(types: Sequence[str]) -> list[Request]:
    """One of each type, with its defaults."""
    return [Request(each, each, {}) for each in types]


def _no_type(name: str, registry: Registry) -> str:
    there = list(registry)
    known = [cls.__name__ for cls in _subclasses(Hook)]
    if name in known:
        return f"class {name} is there, but not registered: write @hookbus.HOOKS.register_module() above it"
    near = close_to(name, there)
    return f"there is no hook {name} in this module{near} There is: {', '.join(there) or 'nothing'}"


def _subclasses(kind: type[Hook]) -> list[type[Hook]]:
    below: list[type[Hook]] = kind.__subclasses__()
    return [each for sub in below for each in (sub, *_subclasses(sub))]
