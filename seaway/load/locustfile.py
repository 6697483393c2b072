"""Locust users that send golden examples to a served model and compare every response with PyTorch's output.

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8501 --golden models/characters/1

opens Locust's web page; add `--headless --users 8 --run-time 60s` for a run without it, `--processes 2` for more load.
With `--rate R` R requests per second are due, any free user sends them, and latency counts from when they were due;
without it each user sends its next request after the response to the one before.

On several machines only the master (`--master`) takes options: it sends the workers (`--worker --master-host HOST`) the
requests, the expected outputs and the settings of the run.
"""

# mypy: disable-error-code="untyped-decorator"

import itertools
import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, LoadTestShape, events, task
from locust.runners import STATE_RUNNING, STATE_SPAWNING, MasterRunner, WorkerRunner

from seaway import errors
from seaway.load import payloads, schedule, supported_protocols
from seaway.load.config import LoadConfig
from seaway.load.counters import Counters
from seaway.load.payloads import Payload, WrongResponse
from seaway.load.schedule import Schedule
from seaway.protocols import client_codecs

SETUP = "seaway-setup"  # type of the master's message to a worker: what to send, and when
FOREVER_S = 1e6  # a user's wait after the last arrival
REPORT_INTERVAL_S = 1.0

clock = time.perf_counter


class Run:
    """State of the run that all users of this process share."""

    schedule: Schedule | None = None  # None: a closed loop
    started_at = 0.0  # by `clock`
    elapsed_s = 0.0  # of a run that has stopped
    duration_s = FOREVER_S
    workers = 1  # processes that send requests
    sends = True  # whether this process is one of them
    index: int | None = 0  # of this process among the workers; None: it joined after the start and sends no arrivals
    reported_cpu_s = 0.0  # CPU time of this process that is already in the counters
    first_requests = itertools.count()  # the index of each new user's first request
    users: tuple[type["GoldenUser"], ...] = ()  # the classes that were selected


class GoldenUser(FastHttpUser):  # type: ignore[misc]  # Locust has no types for mypy here
    """Sends one request at a time on a connection of its own."""

    abstract = True
    concurrency = 1
    protocol: client_codecs.Protocol
    path: str
    requests: list[payloads.Payload]
    counters: Counters
    new_connections = False  # one for each request

    def on_start(self) -> None:
        self.next_request = next(Run.first_requests) % len(self.requests)  # concurrent users send different requests
        self.due_at = math.nan  # when the next request is due, in an open loop
        self.was_free = False  # whether this user was waiting for no response when it was due
        common = {"Accept-Encoding": "identity"} | ({"Connection": "close"} if self.new_connections else {})
        self.headers = [payload.headers | common for payload in self.requests]

    def wait_time(self) -> float:
        """Seconds until this user's next request, in an open loop the next one that is due."""
        if Run.schedule is None:
            return 0.0
        starts = math.isnan(self.due_at)
        self.due_at = Run.schedule.next_due()
        remaining_s = self.due_at - (clock() - Run.started_at)
        self.was_free = starts or remaining_s > 0  # what came due while this user started did not wait for the server
        return min(max(remaining_s, 0.0), FOREVER_S)

    @task
    def predict(self) -> None:
        delay_s = self.delay_s() if Run.schedule is not None else 0.0
        if math.isnan(delay_s):
            return  # Locust runs a task before it waits for the first time
        index = self.next_request
        self.next_request = (index + 1) % len(self.requests)
        payload, protocol = self.requests[index], self.protocol
        post = self.client.post(
            self.path, data=payload.body, name=protocol.request, headers=self.headers[index], catch_response=True
        )
        if self.new_connections:
            self.client.client.clientpool.close()
        with post as response:
            response.request_meta["response_time"] += delay_s * 1000
            if response.request_meta["exception"] is not None or not 200 <= response.status_code < 300:
                return  # Locust counts it as failed
            headers = response.headers
            wrong = False
            try:
                max_abs = payloads.check(response.content or b"", headers, payload, protocol)
            except WrongResponse as error:
                wrong, max_abs = True, error.max_abs
                response.failure(error)
            replica = f"{headers.get(client_codecs.POD) or ''} {headers.get(client_codecs.SERVED_BY) or ''}"
            self.counters.record_response(replica, wrong, max_abs)

    def delay_s(self) -> float:
        """Seconds since the request was due, NaN before the first one. Counts it as the generator's lag or backlog."""
        delay_s = clock() - Run.started_at - self.due_at
        while delay_s < 0:  # the event loop's clock is coarse
            gevent.sleep(-delay_s)
            delay_s = clock() - Run.started_at - self.due_at
        if self.was_free:
            self.counters.record_lag(int(self.due_at), delay_s * 1000)
        elif not math.isnan(delay_s):
            self.counters.backlog += 1
        return delay_s


class TfsUser(GoldenUser):
    protocol = client_codecs.TFS


class GraphPipeUser(GoldenUser):
    protocol = client_codecs.GRAPHPIPE


class OipUser(GoldenUser):
    protocol = client_codecs.OIP


class OipBinaryUser(GoldenUser):
    protocol = client_codecs.OIP_BINARY


class PngUser(GoldenUser):
    protocol = client_codecs.PNG


USERS: dict[str, type[GoldenUser]] = {
    user.protocol.key: user for user in (TfsUser, GraphPipeUser, OipUser, OipBinaryUser, PngUser)
}
BY_REQUEST = {user.protocol.request: user for user in USERS.values()}


def customize_users(mixin: type) -> tuple[type[GoldenUser], ...]:
    """For your own locustfile: makes `mixin` the first base class of every protocol's user class.

    Returns the new classes, because Locust looks for users in the file that it runs (loadtest/think_time.py).
    """
    for key, user in USERS.items():
        USERS[key] = BY_REQUEST[user.protocol.request] = type(user.__name__, (mixin, user), {})
    return tuple(USERS.values())


class Shape(LoadTestShape):  # type: ignore[misc]
    """The number of users over time in a closed loop with `--shape`."""

    abstract = True
    use_common_options = True

    def __init__(self, shape: str, users: int, duration_s: float) -> None:
        super().__init__()
        self._shape, self._users, self._duration_s = shape, users, duration_s

    def tick(self) -> tuple[int, float] | None:
        share = self.get_run_time() / self._duration_s
        if share >= 1:
            return None
        return max(1, math.ceil(self._users * schedule.level(self._shape, share))), float(self._users)


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group("Seaway")
    group.add_argument(
        "--golden", metavar="PATH", help="a published version's folder, an ONNX artifact, or an .npz file"
    )
    group.add_argument("--batch", type=int, default=1, metavar="N", help="examples per request (default: 1)")
    group.add_argument("--model", default="", help="the model's name on the server (default: the one in its metadata)")
    group.add_argument(
        "--model-version", type=int, default=0, metavar="N", help="request this version (default: the server's choice)"
    )
    group.add_argument(
        "--protocol", choices=["", "both", *USERS], default="",
        help="both: tfs and graphpipe (default: the first of tfs, oip, graphpipe that the server at --host supports)",
    )  # fmt: skip
    group.add_argument(
        "--rate", type=float, default=0, metavar="R", help="requests per second, however long responses take"
    )
    group.add_argument(
        "--arrivals", choices=schedule.ARRIVALS, default=schedule.POISSON,
        help="how --rate spaces requests: like independent callers, or evenly (default: poisson)",
    )  # fmt: skip
    group.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the Poisson arrivals (default: 0)")
    group.add_argument("--shape", choices=schedule.SHAPES, default="constant", help="the load over the run's time")
    group.add_argument("--new-connections", action="store_true", help="open a new connection for every request")
    group.add_argument("--insecure", action="store_true", help="accept any certificate")
    group.add_argument(
        "--request-timeout", type=float, default=30, metavar="S", help="seconds after which a request fails"
    )
    group.add_argument(
        "--counts", metavar="FILE", default="", help="write the counters there, one JSON line per second"
    )


@events.init.add_listener
def on_init(environment: Any, runner: Any, **_: Any) -> None:
    options = environment.parsed_options
    for user in USERS.values():
        user.counters = Counters()
    if isinstance(runner, WorkerRunner):
        environment.user_classes = list(USERS.values())  # the master selects among them
        runner.register_message(SETUP, on_setup)
    else:
        with errors.exit_with_message("locust"):
            environment.user_classes = select_users(options)
            if options.shape != "constant" and not options.run_time:
                raise errors.InvalidInput(
                    f"--shape {options.shape} needs --run-time: it describes the load over that time"
                )
            if options.rate:
                Schedule(options.rate, 1, options.shape, arrivals=options.arrivals, seed=options.seed)
        if options.shape != "constant" and not options.rate:
            environment.shape_class = Shape(options.shape, options.num_users or 1, options.run_time)
            environment.shape_class.runner = runner
        Run.users = tuple(environment.user_classes)
        if options.counts:
            gevent.spawn(write_counters_regularly, environment, Path(options.counts))
    if isinstance(runner, MasterRunner):
        Run.sends = False
        events.worker_connect.add_listener(lambda client_id, **_: on_worker_connect(runner, client_id))
    gevent.get_hub().loop.update_now()  # otherwise the run time would include the imports


def select_users(options: Any) -> list[type[GoldenUser]]:
    """The user classes for the options' protocols, with their requests. Raises InvalidInput and as `read_model`."""
    if not options.golden:
        raise errors.InvalidInput("--golden is missing: give a version's folder, e.g. models/characters/1")
    source = Path(options.golden)
    model = payloads.read_model(source)
    name = options.model or model.name
    if not name:
        raise errors.InvalidInput("--model is missing: a file of examples does not contain the model's name")
    version = options.model_version or None
    keys = ["tfs", "graphpipe"] if options.protocol == "both" else [options.protocol]
    if not options.protocol:
        if not options.host:
            raise errors.InvalidInput("--host is missing: give a server's URL, or name a --protocol")
        config = LoadConfig(
            model=name, version=version, request_timeout_s=options.request_timeout, insecure=options.insecure
        )
        keys = [supported_protocols.preferred_protocol(options.host, source, config)]
    selected = [USERS[key] for key in keys]
    for user in selected:
        user.path = user.protocol.path(name, version)
        user.requests = payloads.encode(model, user.protocol, options.batch)
    return selected


# ---- from the master to its workers


def setup_message(index: int | None) -> dict[str, Any]:
    """The message to the worker of that index; None: a worker that joined after the start."""
    users = {
        user.protocol.key: {"path": user.path, "requests": [payload.to_message() for payload in user.requests]}
        for user in Run.users
    }
    return {"workers": Run.workers, "index": index, "duration_s": Run.duration_s, "users": users}


def on_setup(environment: Any, msg: Any, **_: Any) -> None:
    """Runs on a worker before each run; the options themselves come with Locust's own message."""
    del environment
    Run.workers, Run.index, Run.duration_s = msg.data["workers"], msg.data["index"], msg.data["duration_s"]
    Run.users = tuple(USERS[key] for key in msg.data["users"])
    for user in Run.users:
        settings = msg.data["users"][user.protocol.key]
        user.path, user.requests = settings["path"], [Payload.from_message(raw) for raw in settings["requests"]]


def on_worker_connect(runner: MasterRunner, client_id: str) -> None:
    """A worker that joins during a run gets users in a closed loop, but none of an open loop's arrivals."""
    if runner.state in (STATE_SPAWNING, STATE_RUNNING):
        runner.send_message(SETUP, setup_message(None), client_id)


@events.test_start.add_listener
def on_test_start(environment: Any, **_: Any) -> None:
    options, runner = environment.parsed_options, environment.runner
    if not isinstance(runner, WorkerRunner):
        Run.duration_s = options.run_time or FOREVER_S
    if isinstance(runner, MasterRunner):
        workers = [*runner.clients.ready, *runner.clients.spawning, *runner.clients.running]
        Run.workers = max(1, len(workers))
        for index, worker in enumerate(workers):
            runner.send_message(SETUP, setup_message(index), worker.id)
    Run.started_at, Run.reported_cpu_s, Run.elapsed_s = clock(), time.process_time(), 0.0
    Run.schedule = None
    if options.rate:
        share = (Run.index, Run.workers, options.arrivals, options.seed)
        Run.schedule = Schedule(options.rate, Run.duration_s, options.shape, *share)
    for user in Run.users:
        user.counters = Counters()
        user.network_timeout = user.connection_timeout = options.request_timeout
        user.new_connections, user.insecure = options.new_connections, options.insecure


@events.test_stopping.add_listener
def on_test_stopping(**_: Any) -> None:
    Run.elapsed_s = clock() - Run.started_at


@events.request.add_listener
def on_request(name: str, response_time: float | None, exception: Exception | None, **_: Any) -> None:
    counters = BY_REQUEST[name].counters
    completed_s = clock() - Run.started_at
    if exception is None:
        counters.record_correct(completed_s, response_time or 0.0)
    else:
        counters.record_error(int(completed_s), error_kind(exception), wrong=isinstance(exception, WrongResponse))


def error_kind(exception: Exception) -> str:
    """A name for errors of one kind: HTTP status, wrong response's message, or the exception's class and reason."""
    if isinstance(exception, WrongResponse):
        return f"{exception.KIND}{exception}"
    if code := getattr(exception, "code", None):
        return f"HTTP {code}"
    reason = getattr(exception, "strerror", None)
    return f"{type(exception).__name__}: {reason}" if reason else type(exception).__name__


# ---- counters: from workers to the master, and from it to a file


def take_counters() -> dict[str, Any]:
    """Protocol → counters since the last call, as JSON; this process's CPU time is split evenly among them."""
    taken, cpu_s = {}, time.process_time()
    for user in Run.users:
        counters, user.counters = user.counters, Counters()
        if Run.sends:
            counters.cpu_s += (cpu_s - Run.reported_cpu_s) / len(Run.users)
        taken[user.protocol.key] = counters.to_json()
    Run.reported_cpu_s = cpu_s
    return taken


@events.report_to_master.add_listener
def on_report_to_master(client_id: str, data: dict[str, Any]) -> None:
    del client_id
    data["seaway"] = take_counters()


@events.worker_report.add_listener
def on_worker_report(client_id: str, data: dict[str, Any]) -> None:
    del client_id
    for key, raw in data.get("seaway", {}).items():
        USERS[key].counters.merge(Counters.from_json(raw))


def write_counters_regularly(environment: Any, file: Path) -> None:
    while True:
        gevent.sleep(REPORT_INTERVAL_S)
        write_counters(environment, file)


def write_counters(environment: Any, file: Path) -> None:
    runner = environment.runner
    elapsed_s = Run.elapsed_s or (clock() - Run.started_at if Run.started_at else 0.0)
    line = {
        "elapsed_s": elapsed_s,
        "users": runner.user_count,
        "processes": Run.workers,
        "counters": take_counters(),
    }
    with file.open("a") as opened:
        opened.write(json.dumps(line) + "\n")


@events.quitting.add_listener
def on_quitting(environment: Any, **_: Any) -> None:
    options, runner = environment.parsed_options, environment.runner
    if isinstance(runner, WorkerRunner):
        return
    if options.counts:
        write_counters(environment, Path(options.counts))
    if options.headless and not runner.stats.total.num_requests:
        distributed = isinstance(runner, MasterRunner)
        hint = "; check the workers' output, and start them with this locustfile" if distributed else ""
        logging.error("nothing was measured: no request ended during the run%s", hint)
        environment.process_exit_code = 1
