"""The data port's protocols, by their names in logs and metrics."""

from types import ModuleType

from seaway.protocols import graphpipe, oip, tfserving

PROTOCOLS: dict[str, ModuleType] = {"tfs": tfserving, "oip": oip, "graphpipe": graphpipe}
