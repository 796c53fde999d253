"""The command line: `nerf ...`, and the classic train.py and eval.py."""

import sys
from collections.abc import Sequence

from rich.console import Console

from nerf_pl.arguments import parse
from nerf_pl.types import UserError

__all__ = ["main", "parse"]


def main(argv: Sequence[str] | None = None, program: str = "nerf") -> None:
    """Parse and run; a UserError becomes one line and exit code 2, Ctrl-C becomes 130."""
    arguments = parse(sys.argv[1:] if argv is None else argv, program)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)

    # imported after parsing, so that --help and a misspelt option answer at once
    import torch

    from nerf_pl import commands
    from nerf_pl.callbacks import Interrupted

    try:
        commands.run(arguments)
    except UserError as error:
        message = " ".join(str(error).split())
    except torch.OutOfMemoryError as error:
        first = str(error).splitlines()[0]
        message = first if "--chunk" in first else f"out of GPU memory: lower --batch_size or --chunk ({first})"
    except Interrupted:
        errors.print("interrupted; the run is saved: the same command with --resume goes on", markup=False)
        sys.exit(130)
    except KeyboardInterrupt:
        errors.print("interrupted", markup=False)
        sys.exit(130)
    else:
        return
    errors.print(f"{program}: {message}", markup=False, style="red")
    sys.exit(2)
