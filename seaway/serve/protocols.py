"""The protocols that the data port speaks, by the name that logs and metrics give them."""

from types import ModuleType

from seaway.protocols import graphpipe, oip, tfserving

PROTOCOLS: dict[str, ModuleType] = {"tfs": tfserving, "oip": oip, "graphpipe": graphpipe}
