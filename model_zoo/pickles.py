"""What loading a pickle would do, counted on its opcodes before any of them is carried out.

torch's restricted unpickler runs no foreign code, but it builds whatever it is told to: millions of objects, blank
memory of any size, keys whose hash takes years.
"""

import pickletools
from typing import IO, Any

MOST_STEPS = 1_000_000  # opcodes; a training checkpoint of the largest models takes a third
MOST_IN_A_TUPLE = 1000  # values in a tuple and in the tuples inside it, each as often as it occurs
LARGEST_KEY = 100_000  # characters of one text

_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = -1


class PickleError(Exception):
    """A pickle that is not worth loading; the message says what it would do."""


def check(stream: IO[bytes]) -> None:
    """Read one pickle from the stream without loading it.

    The weight of every tuple is followed over stack and memo: tuples can be keys, and hashing one goes through all that
    is in it, as often as it occurs.

    Raises:
        PickleError: It would take too long, too much memory, or is no pickle.
    """
    stack: list[int] = []
    memo: dict[Any, int] = {}
    steps = 0
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            steps += 1
            if steps > MOST_STEPS:
                raise PickleError(f"its pickle has more than {MOST_STEPS:,} steps")
            if isinstance(argument, str):
                _check_text(opcode.name, argument)
            _follow(opcode, argument, stack, memo)
            if stack and stack[-1] > MOST_IN_A_TUPLE:
                raise PickleError(f"its pickle nests more than {MOST_IN_A_TUPLE:,} values in a tuple")
    except (ValueError, IndexError, KeyError, OverflowError, MemoryError, AttributeError) as error:
        raise PickleError("its pickle is damaged") from error


def _check_text(name: str, text: str) -> None:
    if len(text) > LARGEST_KEY:
        raise PickleError(f"its pickle holds a text of {len(text):,} characters")
    if name == "GLOBAL" and text.endswith(" bytearray"):  # a few bytes in the file ask for any size of it
        raise PickleError("its pickle holds a bytearray")


def _follow(opcode: pickletools.OpcodeInfo, argument: Any, stack: list[int], memo: dict[Any, int]) -> None:
    """Carry out an opcode on the weights of the values instead of the values."""
    name = opcode.name
    if name == "MARK":
        stack.append(_MARK)
    elif name == "TUPLE":
        inside = _until_mark(stack)
        stack.append(1 + sum(inside))
    elif name in _TUPLES:
        count = _TUPLES[name]
        if count > len(stack):
            raise IndexError
        inside = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        stack.append(1 + sum(inside))
    elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
        memo[argument] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET", "GET"):
        stack.append(memo[argument])
    elif name == "DUP":
        stack.append(stack[-1])
    else:
        before = opcode.stack_before
        if pickletools.markobject in before:
            _until_mark(stack)
            before = before[: before.index(pickletools.markobject)]
        if len(before) > len(stack):
            raise IndexError
        del stack[len(stack) - len(before) :]
        stack.extend(1 for _ in opcode.stack_after)


def _until_mark(stack: list[int]) -> list[int]:
    """Take off what lies above the last mark, and the mark."""
    inside: list[int] = []
    while (weight := stack.pop()) != _MARK:
        inside.append(weight)
    return inside
