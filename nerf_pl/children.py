"""Python processes that this one starts."""

import os
import sys


def python(*words: str) -> list[str]:
    """The command for Python with these words. It leaves out the folder where the user is: a folder nerf_pl there, as a
    clone makes one, or a file numpy.py is not what is meant. Use it with `paths`."""
    return [sys.executable, "-P", *words]


def paths() -> dict[str, str]:
    """The variable with which such a process finds the modules that this one finds."""
    return {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path)}
