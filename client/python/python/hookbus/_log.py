"""Where the lines that hooks write for the trainer's log go.

Never configures logging: where nobody has, a line goes to standard error. Never raises, whatever the logger does.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing itself is half of an import; a type checker reads this as true
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Logger(Protocol):
        """What hookbus needs of a logger; any logging.Logger has it."""

        def log(self, level: int, msg: object, /) -> object: ...


INFO = 20  # logging's own numbers, so that importing hookbus need not import logging
WARNING = 30
ERROR = 40


class TrainerLog:
    """The trainer's log: the given logger, else logging's "hookbus"."""

    def __init__(self, logger: Logger | None = None) -> None:
        self._logger = logger

    def write(self, level: int, text: str) -> None:
        """Writes one line."""
        try:
            logger = self._logger if self._logger is not None else _default()
            has_handlers: Callable[[], bool] | None = getattr(logger, "hasHandlers", None)
            if has_handlers is None or has_handlers():
                logger.log(level, text)
                return
        except Exception as error:
            _to_stderr(f"hookbus: the logger failed ({error!r}); the line was:")
        _to_stderr(text if level <= INFO or text.startswith("hookbus") else f"hookbus: {text}")

    def info(self, text: str) -> None:
        """A line at level INFO."""
        self.write(INFO, text)

    def warning(self, text: str) -> None:
        """A line at level WARNING."""
        self.write(WARNING, text)

    def error(self, text: str) -> None:
        """A line at level ERROR."""
        self.write(ERROR, text)


def _default() -> Logger:
    import logging

    return logging.getLogger("hookbus")


def _to_stderr(text: str) -> None:
    stream = sys.stderr
    if stream is None:  # a windowless or daemonised interpreter has none
        return
    try:
        stream.write(text + "\n")
        stream.flush()
    except (OSError, ValueError):
        return  # a closed terminal is no reason to end a training
