"""More users every half minute, until the last step ends.

    locust -f loadtest/steps.py --host http://127.0.0.1:8501 --golden models/characters/1 --headless

The shape determines the number of users and the end of the run: --users and --run-time are not needed.
"""

from locust import LoadTestShape

from seaway.load.locustfile import (
    GraphPipeUser,
    OipBinaryUser,
    OipGrpcUser,
    OipUser,
    PngUser,
    TfsGrpcUser,
    TfsUser,
)

__all__ = ["GraphPipeUser", "OipBinaryUser", "OipGrpcUser", "OipUser", "PngUser", "Steps", "TfsGrpcUser", "TfsUser"]

STEP_S = 30.0
USERS = (1, 2, 4, 8, 16)


class Steps(LoadTestShape):  # type: ignore[misc]  # Locust has no types for mypy here
    def tick(self) -> tuple[int, float] | None:
        step = int(self.get_run_time() / STEP_S)
        return (USERS[step], USERS[step]) if step < len(USERS) else None
