"""The table's entries, by what they are about; importing this package fills the table."""

from components.convert.native.ops import (  # noqa: F401
    control,
    detection,
    elementwise,
    images,
    movement,
    nn,
    pooling,
    quantized,
    random,
    recurrent,
    reduce,
    resize,
    sampling,
    sets,
    signal,
    strings,
)
