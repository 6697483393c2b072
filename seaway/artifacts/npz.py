"""Arrays from .npz files, which may be damaged or of any other kind."""

import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

# of numpy.load and zipfile; RuntimeError: flags of encryption or of another compression, which damage may set
_BROKEN = (OSError, EOFError, ValueError, AttributeError, TypeError, RuntimeError, MemoryError, BadZipFile, zlib.error)


def read(path: Path) -> dict[str, np.ndarray]:
    """The file's arrays by name. Raises FileNotFoundError, and ValueError with the reason if it cannot be read."""
    try:  # a file that numpy.load opens itself stays open if it is damaged
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays}
    except FileNotFoundError:
        raise
    except _BROKEN as error:
        raise ValueError(str(error) or type(error).__name__) from None
