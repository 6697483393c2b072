"""Locust users that send golden examples to a served model and compare every answer with PyTorch's.

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8501 --golden models/characters/1

opens Locust's web page; add `--headless --users 8 --run-time 60s` for a run without it, `--processes 2` for more load.
With `--rate R` requests are due at R a second, whoever is free sends them, and latency counts from when they were due;
without it each user sends its next request when the one before is answered.
"""

# mypy: disable-error-code="untyped-decorator"

import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, LoadTestShape, events, task
from locust.runners import MasterRunner, WorkerRunner

from loadtest import payloads, schedule
from loadtest.payloads import WrongAnswer
from loadtest.schedule import Schedule
from loadtest.tally import Tally
from seaway import errors
from seaway.protocols import wire

WORKERS = "seaway-workers"  # the master's message that tells workers how many they are
FOREVER = 1e6  # seconds that a user sleeps after the last arrival
TELL_SECONDS = 1.0

clock = time.perf_counter


class Run:
    """What the users of this process share."""

    schedule: Schedule | None = None  # None: a closed loop
    started = 0.0
    elapsed = 0.0
    workers = 1  # processes that send
    sends = True  # whether this is one of them
    cpu = 0.0  # seconds of this process that were told already
    turns = itertools.count()  # of the requests, at which each user begins
    users: tuple[type["GoldenUser"], ...] = ()  # the classes that were chosen


class GoldenUser(FastHttpUser):  # type: ignore[misc]  # Locust has no types for mypy here
    """Sends one request at a time on a connection of its own; what they share was made before the start."""

    abstract = True
    concurrency = 1
    protocol: wire.Protocol
    path: str
    requests: list[payloads.Payload]
    tally: Tally
    new_connections = False  # one for every request

    def on_start(self) -> None:
        self.turn = next(Run.turns) % len(self.requests)  # users ask for different things at a time
        self.due = math.nan  # when the next request is due, in an open loop
        self.waited = False  # whether this user was free before that
        own = {"Accept-Encoding": "identity"} | ({"Connection": "close"} if self.new_connections else {})
        self.headers = [payload.headers | own for payload in self.requests]

    def wait_time(self) -> float:
        """Seconds until this user's next request; in an open loop it takes the next that is due."""
        if Run.schedule is None:
            return 0.0
        self.due = Run.schedule.take()
        rest = self.due - (clock() - Run.started)
        self.waited = rest > 0
        return min(max(rest, 0.0), FOREVER)

    @task
    def predict(self) -> None:
        late = self.lateness() if Run.schedule is not None else 0.0
        if math.isnan(late):
            return  # Locust runs a task before it waits for the first time
        turn = self.turn
        self.turn = (turn + 1) % len(self.requests)
        payload, protocol = self.requests[turn], self.protocol
        post = self.client.post(
            self.path, data=payload.body, name=protocol.request, headers=self.headers[turn], catch_response=True
        )
        if self.new_connections:
            self.client.client.clientpool.close()
        with post as response:
            response.request_meta["response_time"] += late * 1000
            if response.request_meta["exception"] is not None or not 200 <= response.status_code < 300:
                return  # Locust counts it as failed
            said = response.headers
            wrong = False
            try:
                worst = payloads.check(response.content or b"", said, payload, protocol)
            except WrongAnswer as error:
                wrong, worst = True, error.max_abs
                response.failure(error)
            replica = f"{said.get(wire.POD) or ''} {said.get(wire.SERVED_BY) or ''}"
            self.tally.answered(replica, wrong, worst)

    def lateness(self) -> float:
        """Seconds since the request was due, NaN where none is."""
        late = clock() - Run.started - self.due
        while late < 0:  # the event loop's clock is a coarse one
            gevent.sleep(-late)
            late = clock() - Run.started - self.due
        if self.waited:
            self.tally.sent(int(self.due), late * 1000)
        elif not math.isnan(late):
            self.tally.unready += 1
        return late


class TfsUser(GoldenUser):
    protocol = wire.TFS


class GraphPipeUser(GoldenUser):
    protocol = wire.GRAPHPIPE


class OipUser(GoldenUser):
    protocol = wire.OIP


class OipBinaryUser(GoldenUser):
    protocol = wire.OIP_BINARY


class PngUser(GoldenUser):
    protocol = wire.PNG


USERS = {user.protocol.key: user for user in (TfsUser, GraphPipeUser, OipUser, OipBinaryUser, PngUser)}
BY_REQUEST = {user.protocol.request: user for user in USERS.values()}


class Shape(LoadTestShape):  # type: ignore[misc]
    """A closed loop's users over time; only used where one was asked for."""

    abstract = True
    use_common_options = True

    def __init__(self, shape: str, users: int, seconds: float) -> None:
        super().__init__()
        self._shape, self._users, self._seconds = shape, users, seconds

    def tick(self) -> tuple[int, float] | None:
        share = self.get_run_time() / self._seconds
        if share >= 1:
            return None
        return max(1, math.ceil(self._users * schedule.level(self._shape, share))), float(self._users)


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group("Seaway")
    group.add_argument(
        "--golden", metavar="PATH", help="a published version's folder, an ONNX artifact, or an .npz file"
    )
    group.add_argument("--batch", type=int, default=1, metavar="N", help="examples a request (default: 1)")
    group.add_argument("--model", default="", help="the model's name on the server (default: as on the card)")
    group.add_argument("--model-version", type=int, default=0, metavar="N", help="ask for this version (default: none)")
    group.add_argument("--protocol", choices=["both", *USERS], default="both", help="both: tfs and graphpipe (default)")
    group.add_argument(
        "--rate", type=float, default=0, metavar="R", help="requests a second, whatever the answers take"
    )
    group.add_argument("--shape", choices=schedule.SHAPES, default="constant", help="of the load over the run's time")
    group.add_argument("--new-connections", action="store_true", help="open one for every request")
    group.add_argument("--insecure", action="store_true", help="accept any certificate")
    group.add_argument("--request-timeout", type=float, default=30, metavar="S", help="seconds until a request failed")
    group.add_argument(
        "--counts", metavar="FILE", default="", help="write what was counted there, a JSON line a second"
    )


@events.init.add_listener
def prepare(environment: Any, runner: Any, **_: Any) -> None:
    options = environment.parsed_options
    with errors.exit_with_message("locust"):
        if not options.golden:
            raise errors.InvalidInput("--golden is missing: give a version's folder, e.g. models/characters/1")
        model = payloads.read_model(Path(options.golden))
        name = options.model or model.name
        if not name:
            raise errors.InvalidInput("--model is missing: a file of examples does not say what the model is called")
        chosen = [TfsUser, GraphPipeUser] if options.protocol == "both" else [USERS[options.protocol]]
        for user in chosen:
            user.path = user.protocol.path(name, options.model_version or None)
            user.requests = payloads.encode(model, user.protocol, options.batch)
            user.tally = Tally()
            user.network_timeout = user.connection_timeout = options.request_timeout
            user.new_connections, user.insecure = options.new_connections, options.insecure
        if options.shape != "constant" and not options.run_time:
            raise errors.InvalidInput(f"--shape {options.shape} needs --run-time: it is of the load over that time")
        if options.shape != "constant" and not options.rate:
            environment.shape_class = Shape(options.shape, options.num_users or 1, options.run_time)
            environment.shape_class.runner = runner
    environment.user_classes, Run.users = chosen, tuple(chosen)
    Run.sends = not isinstance(runner, MasterRunner)
    if isinstance(runner, WorkerRunner):
        runner.register_message(WORKERS, hear_workers)
    elif options.counts:
        gevent.spawn(tell, environment, Path(options.counts))
    gevent.get_hub().loop.update_now()  # else the run time would count from before the imports


def hear_workers(environment: Any, msg: Any, **_: Any) -> None:
    del environment
    Run.workers = msg.data


@events.test_start.add_listener
def start(environment: Any, **_: Any) -> None:
    options, runner = environment.parsed_options, environment.runner
    if isinstance(runner, MasterRunner):
        Run.workers = max(1, runner.worker_count)
        runner.send_message(WORKERS, Run.workers)
    Run.started, Run.cpu, Run.elapsed = clock(), time.process_time(), 0.0
    if options.rate:
        seconds = options.run_time or FOREVER
        index = max(0, getattr(runner, "worker_index", 0)) % Run.workers
        Run.schedule = Schedule(options.rate, seconds, options.shape, index, Run.workers)
    for user in Run.users:
        user.tally = Tally()


@events.test_stopping.add_listener
def stop(**_: Any) -> None:
    Run.elapsed = clock() - Run.started


@events.request.add_listener
def count(name: str, response_time: float | None, exception: Exception | None, **_: Any) -> None:
    tally = BY_REQUEST[name].tally
    second = int(clock() - Run.started)
    if exception is None:
        tally.right(second, response_time or 0.0)
    else:
        tally.fault(second, kind_of(exception), wrong=isinstance(exception, WrongAnswer))


def kind_of(exception: Exception) -> str:
    """Errors of one kind under one name: HTTP status, wrong answer's message, or the exception's class and reason."""
    if isinstance(exception, WrongAnswer):
        return f"WrongAnswer: {exception}"
    if code := getattr(exception, "code", None):
        return f"HTTP {code}"
    reason = getattr(exception, "strerror", None)
    return f"{type(exception).__name__}: {reason}" if reason else type(exception).__name__


# ---- what was counted, on its way


def taken() -> dict[str, Any]:
    """Protocol → what was counted since the last time, as JSON; this process's CPU time is dealt to them evenly."""
    counted, used = {}, time.process_time()
    for user in Run.users:
        tally, user.tally = user.tally, Tally()
        if Run.sends:
            tally.cpu += (used - Run.cpu) / len(Run.users)
        counted[user.protocol.key] = tally.to_json()
    Run.cpu = used
    return counted


@events.report_to_master.add_listener
def send_counts(client_id: str, data: dict[str, Any]) -> None:
    del client_id
    data["seaway"] = taken()


@events.worker_report.add_listener
def add_counts(client_id: str, data: dict[str, Any]) -> None:
    del client_id
    for key, raw in data.get("seaway", {}).items():
        USERS[key].tally.merge(Tally.from_json(raw))


def tell(environment: Any, file: Path) -> None:
    while True:
        gevent.sleep(TELL_SECONDS)
        write_counts(environment, file)


def write_counts(environment: Any, file: Path) -> None:
    runner = environment.runner
    elapsed = Run.elapsed or (clock() - Run.started if Run.started else 0.0)
    line = {"elapsed": elapsed, "users": runner.user_count, "processes": Run.workers, "tallies": taken()}
    with file.open("a") as opened:
        opened.write(json.dumps(line) + "\n")


@events.quitting.add_listener
def write_last_counts(environment: Any, **_: Any) -> None:
    options = environment.parsed_options
    if options.counts and not isinstance(environment.runner, WorkerRunner):
        write_counts(environment, Path(options.counts))
