"""What the two command lines share."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TextIO, cast


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def printable(text: str) -> str:
    """A text that a stranger chose, on one line of a terminal: what is no printable character is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class _Heard:
    """A stream whose reader may go: what is written after that is dropped."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 (as long as the process)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def leave(main: Callable[[], int]) -> NoReturn:
    """Exit with what a command returns; it goes on when whoever read its output or its progress has seen enough."""
    sys.stdout, sys.stderr = cast(TextIO, _Heard(sys.stdout)), cast(TextIO, _Heard(sys.stderr))
    code = main()
    sys.stdout.flush()
    sys.exit(code)
