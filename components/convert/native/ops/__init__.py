"""The table's entries, by what they are about; importing this package fills the table."""

from components.convert.native.ops import (  # noqa: F401
    control,
    elementwise,
    grids,
    movement,
    nn,
    pooling,
    quantized,
    random,
    recurrent,
    reduce,
    sets,
    signal,
    strings,
)
