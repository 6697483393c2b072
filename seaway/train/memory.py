"""What PyTorch does not know: that memory is needed again at the next step."""

import ctypes


def keep_memory() -> None:
    """Has glibc keep what is freed: given back to the system, a batch's tensors cost a page fault for every 4 kB at
    the next step. Elsewhere nothing changes."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _LARGEST)


_MMAP_THRESHOLD, _TRIM_THRESHOLD, _LARGEST = -3, -1, 2**31 - 1  # malloc.h's numbers
