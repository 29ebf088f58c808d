"""The library from a command line: ``python -m nas_core audit module:Class``; ``--help`` after a command says more."""

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {"audit": "nas_core.pages.audit_report:main"}
"""What can be run, as module:function: only the command that is given is imported."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names. Exit code: the command's, or 2 for an unknown one."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in COMMANDS:
        what = f"there is no command {given[0]!r}" if given else "no command was given"
        print(f"{what}; write python -m nas_core COMMAND, one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module, _, function = COMMANDS[given[0]].partition(":")
    code: int = getattr(importlib.import_module(module), function)(given[1:])
    return code


if __name__ == "__main__":
    sys.exit(main())
