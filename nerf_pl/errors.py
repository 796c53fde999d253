"""Errors that the user can correct, and the interrupt of a training."""

import signal


class UserError(Exception):
    """An error that the user can correct. The message is one line: the file or option, the value and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """


class Interrupted(Exception):  # noqa: N818 - no error
    """A signal ended the training, Ctrl-C for example. The message says what was saved.

    resumable: whether there is a last.ckpt to go on from. is_finished: whether nothing is left to do. number: of the
    signal.
    """

    def __init__(self, message: str, resumable: bool, number: int = signal.SIGINT, is_finished: bool = False) -> None:
        super().__init__(message)
        self.resumable, self.number, self.is_finished = resumable, number, is_finished
