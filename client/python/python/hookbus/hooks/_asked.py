"""Which hooks are asked for on a command line: 'Type(arg=1)', or the [[hooks]] of a TOML file."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Sequence
from pathlib import Path

from ._offer import Request, defaults
from ._plan import Refused


def add_to(parser: argparse.ArgumentParser) -> None:
    """--hook and --hooks."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--hook",
        action="append",
        default=[],
        metavar="TYPE(ARG=1)",
        help="this hook; again for more [default: each type]",
    )
    which.add_argument(
        "--hooks", type=Path, metavar="FILE.toml", help="the [[hooks]] of this file that name the module"
    )


def requests(args: argparse.Namespace, module: str, types: Sequence[str]) -> list[Request]:
    """What the line asks for; by default one of each type. Raises Refused."""
    if args.hooks is not None:
        return of_toml(args.hooks, module)
    return [of_text(text) for text in args.hook] or defaults(types)


def of_text(text: str) -> Request:
    """ "CheckInvalidLossHook(interval=10, name='check')", or the type alone. Raises Refused."""
    wrong = f"--hook {text!r}: write it as TYPE or TYPE(ARG=VALUE, ...) with plain values"
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if isinstance(call, ast.Name):
            return Request.of({"type": call.id})
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)) or call.args:
            raise Refused(wrong)
        args = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords if each.arg is not None}
        if len(args) != len(call.keywords) or "type" in args or not _is_plain(list(args.values())):
            raise Refused(wrong)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Refused(wrong) from None
    return Request.of({"type": call.func.id, **args})


def _is_plain(value: object) -> bool:
    """What a configuration could hold."""
    if isinstance(value, (list, tuple)):
        return all(_is_plain(each) for each in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return value is None or isinstance(value, (float, str))


def of_toml(path: Path, module: str) -> list[Request]:
    """The [[hooks]] that name this module: one that names none is built in. Raises Refused."""
    try:
        said = _parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise Refused(f"{path} is no TOML: {error}") from None
    hooks = said.get("hooks", [])
    if not isinstance(hooks, list) or not all(isinstance(hook, dict) for hook in hooks):
        raise Refused(f"hooks in {path} is no list of tables: write [[hooks]]")
    own = [hook for hook in hooks if hook.get("module") == module]
    if not own:
        raise Refused(f'{path} has no [[hooks]] with module = "{module}"')
    return [Request.of({key: value for key, value in hook.items() if key != "module"}) for hook in own]


def _parsed(toml: str) -> dict[str, object]:
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib.loads(toml)
    raise Refused("--hooks needs Python 3.11 or later, which reads TOML; use --hook 'TYPE(ARG=1)'")
