"""What goes wrong and can be mended by the user."""


class UserError(Exception):
    """Something the user can mend. The message is one line that names the file or option, the value and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """
