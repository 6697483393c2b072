"""The data ports' protocols, by their names in logs and metrics."""

from types import ModuleType

from seaway.protocols import graphpipe, oip, oip_grpc, tfs_grpc, tfserving

PROTOCOLS: dict[str, ModuleType] = {
    "tfs": tfserving,
    "oip": oip,
    "graphpipe": graphpipe,
    "tfs-grpc": tfs_grpc,
    "oip-grpc": oip_grpc,
}
