"""Turns what ends a command into its exit code.

0 done; 1 did not hold; 2 usage; 3 input refused; 4 partly done; 5 internal error; 130 interrupted.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click

from model_forensics.errors import ModelForensicsError

NOT_HELD = 1
PARTLY_DONE = 4
INTERNAL_ERROR = 5
INTERRUPTED = 130


@contextmanager
def named_exits() -> Iterator[None]:
    """Prints a named error as one line; anything unforeseen with its traceback, as an internal error."""
    try:
        yield
    except ModelForensicsError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except (click.exceptions.Exit, click.ClickException):
        raise
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; nobody is left to tell
        sys.exit(0)
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        traceback.print_exc()
        click.echo("internal error: this is a defect of model-forensics; please report the lines above", err=True)
        sys.exit(INTERNAL_ERROR)
