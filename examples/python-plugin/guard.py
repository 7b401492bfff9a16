"""Turns what a plugin raises into a rejection.

An exception that leaves an export would end the call as a bare trap; so every
export gets `@guarded`, which hands its text and its place to the collector.
"""

import functools
import os

from componentize_py_types import Err


class Rejection(Exception):
    """An error whose text says it all: it reaches the log as it stands."""


def guarded(export):
    @functools.wraps(export)
    def call(*arguments):
        try:
            return export(*arguments)
        except Rejection as rejection:
            raise Err(str(rejection)) from None
        except Err as error:
            # What an import answered, such as `patterns.compile`.
            raise Err(str(error.value)) from None
        except BaseException as error:
            raise Err(described(error)) from None

    return call


def described(error):
    """Such as `KeyError: 'x' at app.py:23`, the innermost place."""
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    place = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
    text = str(error)
    name = type(error).__name__
    return f"{name}: {text} at {place}" if text else f"{name} at {place}"
