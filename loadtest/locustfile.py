"""Locust users that send golden examples to a served model and compare every answer with PyTorch's.

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8501 --golden models/characters/1

opens Locust's web page; add `--headless --users 8 --run-time 60s` for a run without it, `--processes 2` for more load.
"""

# mypy: disable-error-code="untyped-decorator"

import json
import random
import time
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, constant, events, task
from locust.runners import WorkerRunner

from loadtest import payloads, wire
from loadtest.payloads import WrongAnswer
from loadtest.tally import Tally
from seaway import errors


class GoldenUser(FastHttpUser):  # type: ignore[misc]  # Locust has no types for mypy here
    """Sends one request after the other on a connection of its own; what they share was made before the start."""

    abstract = True
    wait_time = constant(0)
    concurrency = 1
    protocol: wire.Protocol
    path: str
    requests: list[payloads.Payload]
    tally: Tally

    def on_start(self) -> None:
        self.turn = random.randrange(len(self.requests))  # noqa: S311  users ask for different things at a time
        self.headers = {"Content-Type": self.protocol.content_type, "Accept-Encoding": "identity"}

    @task
    def predict(self) -> None:
        payload = self.requests[self.turn]
        self.turn = (self.turn + 1) % len(self.requests)
        name = self.protocol.request
        post = self.client.post(self.path, data=payload.body, name=name, headers=self.headers, catch_response=True)
        with post as response:
            if response.request_meta["exception"] is not None or not 200 <= response.status_code < 300:
                return  # Locust counts it as failed
            self.tally.served_by[response.headers.get(wire.SERVED_BY) or ""] += 1
            try:
                worst = payloads.check(response.content or b"", payload, self.protocol)
            except WrongAnswer as wrong:
                worst = wrong.max_abs
                response.failure(wrong)
            self.tally.max_abs = max(self.tally.max_abs, worst)


class RestUser(GoldenUser):
    protocol = wire.REST


class GraphPipeUser(GoldenUser):
    protocol = wire.GRAPHPIPE


USERS = {user.protocol.key: user for user in (RestUser, GraphPipeUser)}
BY_REQUEST = {user.protocol.request: user for user in USERS.values()}
started = time.perf_counter()
elapsed = 0.0


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group("Seaway")
    group.add_argument("--golden", metavar="DIR", help="a published version's folder, or an ONNX artifact")
    group.add_argument("--batch", type=int, default=1, metavar="N", help="examples a request (default: 1)")
    group.add_argument("--model", default="", help="the model's name on the server (default: as on the card)")
    group.add_argument("--model-version", type=int, default=0, metavar="N", help="ask for this version (default: none)")
    group.add_argument("--protocol", choices=["both", *USERS], default="both", help="what to speak (default: both)")
    group.add_argument("--request-timeout", type=float, default=30, metavar="S", help="seconds until a request failed")
    group.add_argument("--result", metavar="FILE", default="", help="write what was counted there as JSON at the end")


@events.init.add_listener
def prepare(environment: Any, **_: Any) -> None:
    options = environment.parsed_options
    with errors.exit_with_message("locust"):
        if not options.golden:
            raise errors.InvalidInput("--golden is missing: give a version's folder, e.g. models/characters/1")
        card, examples = payloads.read_model(Path(options.golden))
        chosen = list(USERS.values()) if options.protocol == "both" else [USERS[options.protocol]]
        for user in chosen:
            user.path = user.protocol.path(options.model or card.name, options.model_version or None)
            user.requests = payloads.encode(card, examples, user.protocol, options.batch)
            user.tally = Tally()
            user.network_timeout = user.connection_timeout = options.request_timeout
    environment.user_classes = chosen
    gevent.get_hub().loop.update_now()  # else the run time would count from before the imports


@events.test_start.add_listener
def start(environment: Any, **_: Any) -> None:
    global started
    started = time.perf_counter()
    for user in environment.user_classes:
        user.tally = Tally()


@events.test_stopping.add_listener
def stop(**_: Any) -> None:
    global elapsed
    elapsed = time.perf_counter() - started


@events.request.add_listener
def count(name: str, response_time: float | None, exception: Exception | None, **_: Any) -> None:
    tally = BY_REQUEST[name].tally
    if exception is None:
        tally.right(int(time.perf_counter() - started), response_time or 0.0)
    else:
        tally.fault(kind_of(exception), wrong=isinstance(exception, WrongAnswer))


def kind_of(exception: Exception) -> str:
    """Errors of one kind under one name: HTTP status, wrong answer's message, or the exception's class and reason."""
    if isinstance(exception, WrongAnswer):
        return f"WrongAnswer: {exception}"
    if code := getattr(exception, "code", None):
        return f"HTTP {code}"
    reason = getattr(exception, "strerror", None)
    return f"{type(exception).__name__}: {reason}" if reason else type(exception).__name__


@events.report_to_master.add_listener
def send_counts(client_id: str, data: dict[str, Any]) -> None:
    del client_id
    data["seaway"] = {}
    for key, user in USERS.items():
        if hasattr(user, "tally"):
            data["seaway"][key] = user.tally.to_json()
            user.tally = Tally()


@events.worker_report.add_listener
def add_counts(client_id: str, data: dict[str, Any]) -> None:
    del client_id
    for key, raw in data.get("seaway", {}).items():
        USERS[key].tally.merge(Tally.from_json(raw))


@events.quitting.add_listener
def write_result(environment: Any, **_: Any) -> None:
    options = environment.parsed_options
    if options.result and not isinstance(environment.runner, WorkerRunner):
        tallies = {user.protocol.key: user.tally.to_json() for user in environment.user_classes}
        Path(options.result).write_text(json.dumps({"elapsed": elapsed, "tallies": tallies}))
