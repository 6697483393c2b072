"""The table's entries, by what they are about; importing this package fills the table."""

from components.convert.native.ops import elementwise, movement, nn, pooling, reduce, resize  # noqa: F401
