"""Seaway's Locust users, to run as they are or to copy and change.

locust -f loadtest/locustfile.py --host http://127.0.0.1:8501 --golden models/characters/1
"""

from seaway.load.locustfile import (
    GraphPipeUser,
    OipBinaryUser,
    OipGrpcUser,
    OipUser,
    PngUser,
    TfsGrpcUser,
    TfsUser,
)

__all__ = ["GraphPipeUser", "OipBinaryUser", "OipGrpcUser", "OipUser", "PngUser", "TfsGrpcUser", "TfsUser"]
