"""Log lines to stderr: dotted event names with plain fields; JSON where nobody looks at a terminal.

A line can hold no plate by accident: a field that is not a plain value is shown as its type, and of an exception only
the type and the places, with the message where it is our own (those never hold a plate). Lines bear no time: the
journal stamps them, and `homeplate.clock` alone reads clocks.
"""

import re
import sys
import threading
import traceback
from collections.abc import Mapping, MutableMapping
from pathlib import PurePath
from types import TracebackType
from typing import Any, TextIO

import structlog

from homeplate.errors import HomeplateError

MAXIMUM_TEXT = 500
_FRAMES = 12
_EVENT = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*\Z")
_UNNAMED = "log.unnamed-event"

Exc = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


def configure(stream: TextIO | None = None, *, as_json: bool | None = None) -> None:
    """Send log lines to `stream` (stderr), as JSON unless it is a terminal; crashes of threads and process too."""
    target = stream or sys.stderr
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer(sort_keys=True)
    if not (as_json if as_json is not None else not target.isatty()):
        renderer = structlog.dev.ConsoleRenderer(colors=target.isatty())
    structlog.configure(
        processors=[structlog.processors.add_log_level, strip_exceptions, mask, renderer],
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _crashed
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _thread_crashed


def strip_exceptions(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace `exc_info` by the exception's type, its places in the code, and its message where it is our own.

    A foreign message may quote what it choked on (`KeyError: '8ABC123'`), and a traceback with locals surely would.
    """
    given = fields.pop("exc_info", None)
    if given:
        error = (
            given if isinstance(given, BaseException) else (given if isinstance(given, tuple) else sys.exc_info())[1]
        )
        if isinstance(error, BaseException):
            frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
            fields["error"] = error
            fields["places"] = " < ".join(f"{PurePath(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
    return fields


def mask(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Let plain values through, bounded; show everything else as its type."""
    shown = {name: _plain(value) for name, value in fields.items()}
    if not _EVENT.match(str(shown.get("event", ""))):
        shown["event"] = _UNNAMED  # a formatted sentence could hold anything
    return shown


def _plain(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, HomeplateError):
        return f"{type(value).__name__}: {value}"[:MAXIMUM_TEXT]
    if isinstance(value, str | PurePath):
        return str(value)[:MAXIMUM_TEXT]
    return f"<{type(value).__name__}>"


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger().critical("process.crashed", exc_info=error)


def _thread_crashed(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread else "unknown"
    structlog.get_logger().critical("thread.crashed", thread=name, exc_info=args.exc_value)
