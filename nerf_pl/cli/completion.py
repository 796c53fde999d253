"""nerf --install-completion: what lets a shell complete commands and options. tyro writes the scripts."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from nerf_pl.console import console
from nerf_pl.errors import UserError

PROGRAM = "nerf"
SHELLS = ("bash", "zsh", "fish")


def install(shell: str, write: Callable[[str, Path], None], environment: Mapping[str, str] = os.environ) -> None:
    """Write the script of a shell to where that shell looks for it. shell: "" for the user's own. write: writes the
    script of a shell to a file. Raises UserError for a shell that is not known."""
    asked = shell or Path(environment.get("SHELL", "")).name
    if asked not in SHELLS:
        told = f"--install-completion {shell}" if shell else f"SHELL={environment.get('SHELL', '')!r} is not known here"
        raise UserError(f"{told}: give --install-completion {', '.join(SHELLS[:-1])} or {SHELLS[-1]}")
    from nerf_pl.media import atomic_write

    file = place(asked, environment)
    with atomic_write(file) as path:
        write(asked, path)
    console.print(f"wrote {file}; {_remedy(asked, file)}")


def place(shell: str, environment: Mapping[str, str]) -> Path:
    """Where a shell looks for the script of `nerf`."""
    home = Path(environment.get("HOME") or Path.home())
    if shell == "bash":
        data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
        return Path(environment.get("BASH_COMPLETION_USER_DIR") or data / "bash-completion") / "completions" / PROGRAM
    if shell == "zsh":
        return Path(environment.get("ZDOTDIR") or home) / ".zfunc" / f"_{PROGRAM}"
    return Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "fish" / "completions" / f"{PROGRAM}.fish"


def _remedy(shell: str, file: Path) -> str:
    if shell == "bash":
        return f"it works in new shells if bash-completion is installed; otherwise add to ~/.bashrc: source {file}"
    if shell == "zsh":
        return f"add to ~/.zshrc: fpath+={file.parent}; autoload -Uz compinit && compinit"
    return "it works in new shells"
