"""The command `sourceprior`. Each subcommand is one file of `sourceprior.commands` and the function of its name.

A person sees one sentence for anything that is wrong with their input, and exit code 2; a traceback is a bug of ours.
"""

from __future__ import annotations

import importlib
import io
import pkgutil
import signal
import sys
from typing import Annotated

import typer

from sourceprior import commands
from sourceprior.errors import UserError, out_of_memory
from sourceprior.version import __version__

LESS = {
    "separate": "a shorter --segment or smaller --batch",
    "sample": "fewer sounds (-n) or a shorter --seconds",
    "diagnose": "a shorter --seconds",
    "benchmark": "shorter mixtures (--seconds)",
    "train": "a smaller --batch, or parts of it (--accumulate)",
    "baseline": "a smaller --batch",
}
"""What to ask less of where memory runs out."""

app = typer.Typer(
    help="Take a recording apart with diffusion priors that were each trained on single sources only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _module in pkgutil.iter_modules(commands.__path__):
    app.command()(getattr(importlib.import_module(f"{commands.__name__}.{_module.name}"), _module.name))


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"sourceprior {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Take a recording apart with diffusion priors that were each trained on single sources only."""


def main() -> None:
    """Run the command line.

    Exit code 2 and one sentence on stderr for a UserError or when memory runs out, 130 after Ctrl-C, 143 after SIGTERM;
    both let half-written files be removed first.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        # A terminal or pipe that knows no Σ gets a question mark, not a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace" if stream is sys.stderr else "replace")
    try:
        app(prog_name="sourceprior")
    except UserError as error:
        # A file's name may hold line ends.
        print("sourceprior:", *str(error).splitlines(), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("sourceprior: stopped.", file=sys.stderr)
        sys.exit(130)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        advice = f"try {LESS[command]}" if command in LESS else "close other programs"
        print(f"sourceprior: There was not enough memory; {advice}.", file=sys.stderr)
        sys.exit(2)
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, _: object) -> None:
    """SIGTERM ends the program as an exit does, so that what is half done is tidied up."""
    print("sourceprior: stopped.", file=sys.stderr)
    sys.exit(128 + number)
