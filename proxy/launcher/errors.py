"""The one error that the controller is told of."""


class LaunchError(Exception):
    """A command could not be carried out; its text reads "cannot X: cause", without values."""


def cause(error: OSError) -> str:
    """The system's words for `error`, without file names."""
    return error.strerror or type(error).__name__
