"""What goes wrong and can be mended by the user."""


class UserError(Exception):
    """Something the user can mend. The message is one line that names the file or option, the value and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """


class Interrupted(Exception):  # noqa: N818 - no error
    """Training was ended by Ctrl-C; the message says what is left of it. resumable: whether there is a last.ckpt."""

    def __init__(self, message: str, resumable: bool) -> None:
        super().__init__(message)
        self.resumable = resumable
