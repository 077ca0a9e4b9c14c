"""Types of hooks by name, as MMEngine's registry has it."""

from __future__ import annotations

from ._points import close_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeVar

    Class = TypeVar("Class", bound=type)


class Registry:
    """`@HOOKS.register_module()` above a class; `HOOKS.build(dict(type="...", ...))` makes one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._types: dict[str, type] = {}

    def register_module(
        self, name: str | list[str] | None = None, force: bool = False, module: type | None = None
    ) -> Callable[[Class], Class]:
        """Registers a class under `name`, by default its own. `force` replaces one of the same name.

        As a decorator, or at once with `module=`. Raises KeyError where the name is taken, TypeError where it is no
        class.
        """
        if not (name is None or isinstance(name, (str, list))):
            raise TypeError(
                f"register_module(name={name!r}): a name or None; as a decorator it is written with brackets: "
                f"@{self.name}.register_module()"
            )
        names = [name] if isinstance(name, str) else name

        def register(cls: Class) -> Class:
            if not isinstance(cls, type):
                raise TypeError(f"{cls!r} is no class: {self.name} has classes")
            for one in names or [cls.__name__]:
                taken = self._types.get(one)
                if taken is not None and not force:
                    raise KeyError(
                        f"{one} is already registered in {self.name} at {taken.__module__}: give one of the two "
                        f"another name, or register it with force=True"
                    )
                self._types[one] = cls
            return cls

        if module is not None:
            register(module)
            return lambda cls: cls
        return register

    def get(self, key: str) -> type | None:
        """The class of this name, or None."""
        return self._types.get(key)

    def build(self, cfg: Mapping[str, object], **defaults: object) -> object:
        """One of `cfg["type"]`, a name or a class, made with the other keys. Raises KeyError where there is none."""
        args = {**defaults, **cfg}
        if "type" not in args:
            raise KeyError(f'build() wants a dict with the key "type", and got {dict(cfg)!r}')
        kind = args.pop("type")
        found = kind if isinstance(kind, type) else self._types.get(str(kind))
        if found is None:
            raise KeyError(self.missing(str(kind)))
        return found(**args)

    def missing(self, key: str) -> str:
        """What to say where there is no such type."""
        there = ", ".join(self._types) or "nothing"
        return f"{key} is not registered in {self.name}{close_to(key, list(self._types))} There is: {there}"

    def __contains__(self, key: object) -> bool:
        return key in self._types

    def __len__(self) -> int:
        return len(self._types)

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __repr__(self) -> str:
        return f"Registry({self.name}: {', '.join(self._types)})"


HOOKS = Registry("HOOKS")
"""Every type of hook that was registered in this process."""
