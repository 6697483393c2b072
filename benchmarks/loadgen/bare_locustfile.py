"""The peer: a bare FastHttpUser that posts one body and ignores the responses."""

import os
from pathlib import Path

from locust import FastHttpUser, constant, task

BODY = Path(os.environ["BODY"]).read_bytes()
HEADERS = {"Content-Type": "application/json"}


class Bare(FastHttpUser):  # type: ignore[misc]
    wait_time = constant(0)

    @task
    def post(self) -> None:
        self.client.post("/v1/models/trivial:predict", data=BODY, headers=HEADERS, name="post")
