"""Errors that the user can correct, and the interrupt of a training."""


class UserError(Exception):
    """An error that the user can correct. The message is one line: the file or option, the value and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """


class Interrupted(Exception):  # noqa: N818 - no error
    """Ctrl-C ended the training. The message says what was saved. resumable: whether there is a last.ckpt."""

    def __init__(self, message: str, resumable: bool) -> None:
        super().__init__(message)
        self.resumable = resumable
