"""C library functions that Python does not expose."""

import ctypes


def call(name: str, *arguments: int) -> bool:
    """Calls a function with integers. Returns False, without any effect, if the library has no such function.

    The function's result is ignored: every use is an optimization or a safeguard that may fail.
    """
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return False
    function(*arguments)
    return True
