"""`python -m hookbus.replaying my_hooks.py`: what hooks would have decided in a recorded run. No daemon is needed.

`hookbus hooks test` calls it. Ends with 0 if it ran, 1 where module or recording cannot be read, 2 for a wrong line.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from contextlib import redirect_stdout
from pathlib import Path

from .hooks import _asked, _recording
from .hooks._load import Missing, load
from .hooks._offer import offer
from .hooks._plan import Refused
from .hooks._replay import replay
from .hooks._report import as_json, as_text


def main(words: list[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        "hookbus hooks test", description="What hooks would have decided in a recorded run."
    )
    parser.add_argument("module", help="a file my_hooks.py, or a module's name")
    parser.add_argument(
        "--recording",
        type=Path,
        default=_recording.SHIPPED,
        metavar="PATH",
        help="lines of JSON, - for standard input, or the folder of an export",
    )
    _asked.add_to(parser)
    parser.add_argument("--json", action="store_true", help="one JSON value on one line")
    args = parser.parse_args(words)
    try:
        with redirect_stdout(sys.stderr):  # what a hook prints is no part of the answer
            loaded = load(args.module)
            requests = _asked.requests(args, loaded.name, loaded.types)
            recording = _recording.read(args.recording)
            offered = offer(requests, loaded.file)
            replayed = replay(recording, offered.hooks, loaded.file)
    except (Missing, _recording.NoRecording) as error:
        print(error, file=sys.stderr)
        return 1
    except Refused as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if not offered.hooks and not offered.refused:
        print(f"{args.module} has no hook: write @hookbus.HOOKS.register_module() above a class", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(_finite(as_json(recording, offered, replayed)), allow_nan=False))
    else:
        print(as_text(recording, offered, replayed), end="")
    return 0 if offered.hooks else 1


def _finite(value: object) -> object:
    """Not-finite numbers as the words nan, inf and -inf, as in every --json of hookbus."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value


if __name__ == "__main__":
    sys.exit(main())
