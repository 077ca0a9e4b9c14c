"""What raised, in one line that names the hook's own line, and whole for a log."""

from __future__ import annotations

import os
import traceback

MOST_TEXT = 500
MOST_TRACEBACK = 16 << 10


def line_of(error: BaseException, file: str | None) -> str:
    """ "TypeError: ... (my_hooks.py:12)": the innermost line in `file`, else the innermost one of all."""
    text = "".join(traceback.format_exception_only(error)).strip().splitlines()
    said = text[0] if text else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({os.path.basename(error.filename)}:{error.lineno})"
    if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str):
        said = f"{type(error).__name__}: {error.args[0]}"  # its str() is a repr
    if len(said) > MOST_TEXT:
        said = f"{said[:MOST_TEXT]}…"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file is not None and same_file(frame.filename, file)]
    if not own:
        own = [frame for frame in frames if not frame.filename.startswith(_HERE)]
    if not own:
        return said
    return f"{said} ({os.path.basename(own[-1].filename)}:{own[-1].lineno})"


def whole(error: BaseException) -> str:
    """The traceback without this package's own frames above the hook's; its end where it is too long."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_HERE) and trace.tb_next is not None:
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace))
    return text if len(text) <= MOST_TRACEBACK else f"…{text[-MOST_TRACEBACK:]}"


def same_file(one: str, other: str) -> bool:
    return one == other or os.path.abspath(one) == os.path.abspath(other)


_HERE = os.path.dirname(os.path.abspath(__file__))
