"""The table's entries, by what they are about; importing this package fills the table."""

from components.convert.native.ops import (  # noqa: F401
    detection,
    elementwise,
    images,
    movement,
    nn,
    pooling,
    reduce,
    resize,
    sampling,
)
