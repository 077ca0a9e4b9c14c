"""A module of hooks, by its name or its file."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

from ._errors import line_of
from ._registry import HOOKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


class Missing(Exception):
    """A module that does not import; the text says why, with the line."""


class Loaded:
    """A module, and the types of hooks that it brought."""

    def __init__(self, name: str, module: ModuleType, types: list[str]) -> None:
        self.name = name
        self.module = module
        self.types = types

    @property
    def file(self) -> str | None:
        """Where it is written."""
        return getattr(self.module, "__file__", None)


def load(module: str) -> Loaded:
    """Imports it: "my_hooks", or a path that ends in .py, whose folder can then be imported from. Raises Missing."""
    before = set(HOOKS)
    name = name_of(module)
    if not all(part.isidentifier() for part in name.split(".")):
        raise Missing(f"{module} is no name of a module: letters, digits and _; a file ends in .py")
    try:
        found = _from_file(name, module) if is_file(module) else importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(error.name + ".")):
            where = os.environ.get("PYTHONPATH") or "not set"
            raise Missing(
                f"there is no module {error.name} for {sys.executable}, in {os.getcwd()} (PYTHONPATH: {where}); "
                f"put its folder into PYTHONPATH, or name the file"
            ) from None
        raise Missing(f"module {name} does not import: {line_of(error, _file(module))}") from error
    except FileNotFoundError as error:
        if is_file(module) and not os.path.exists(module):
            raise Missing(f"there is no file {module}") from None
        raise Missing(f"module {name} does not import: {line_of(error, _file(module))}") from error
    except (KeyboardInterrupt, Missing):
        raise
    except BaseException as error:
        raise Missing(f"module {name} does not import: {line_of(error, _file(module))}") from error
    return Loaded(name, found, [each for each in HOOKS if each not in before])


def is_file(module: str) -> bool:
    return module.endswith(".py")


def name_of(module: str) -> str:
    """The namespace of its types."""
    return os.path.basename(module)[:-3] if is_file(module) else module


def _file(module: str) -> str | None:
    if is_file(module):
        return module
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    return spec.origin if spec is not None else None


def _from_file(name: str, path: str) -> ModuleType:
    if name in sys.stdlib_module_names or name == "hookbus":
        raise Missing(f"{os.path.basename(path)} would stand before Python's own module {name}: give it another name")
    folder = os.path.dirname(os.path.abspath(path))
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, os.path.abspath(path))
    if spec is None or spec.loader is None:
        raise Missing(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module
