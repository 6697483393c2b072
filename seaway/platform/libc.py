"""Functions of the C library that Python has no name for."""

import ctypes


def call(name: str, *arguments: int) -> bool:
    """Calls one with integers; False, and nothing is done, where the library has none of this name.

    What it returns is not looked at: all that is called so makes a process behave better, and may be refused to it.
    """
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return False
    function(*arguments)
    return True
