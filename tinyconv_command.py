"""The command ``tinyconv``, outside the package so that Ctrl-C is quiet while that is imported."""

import signal

__all__ = ["main"]


def main() -> int:
    """Import the command line and run it; Ctrl-C during the import ends the process at once."""
    # The system's own way of ending: an exception would be caught, or shown with its traceback, by
    # whichever of a thousand modules is being imported.
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tinyconv import cli

    if is_default:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return cli.main()
