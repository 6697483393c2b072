"""The table's entries, by what they are about; importing this package fills the table."""

from components.convert.native.ops import control, elementwise, movement, nn, pooling, recurrent, reduce  # noqa: F401
