"""Locust users that send golden examples to a served model and compare every response with the recorded outputs.

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8501 --golden models/characters/1

opens Locust's web page; add `--headless --users 8 --run-time 60s` for a run without it, `--processes 2` for more load.
With `--rate R` R requests per second are due, any free user sends them, and latency counts from when they were due;
without it each user sends its next request after the response to the one before.

On several machines only the master (`--master`) takes options: it sends the workers (`--worker --master-host HOST`) the
requests, the expected outputs and the settings of the run. Files of certificates are not sent: each worker reads them
at the same paths.
"""

# mypy: disable-error-code="untyped-decorator"

import functools
import itertools
import json
import logging
import math
import ssl
import time
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, LoadTestShape, events, task
from locust.runners import STATE_RUNNING, STATE_SPAWNING, MasterRunner, WorkerRunner

from seaway import client_tls, errors
from seaway.client_tls import DEFAULT_TLS, ClientTls
from seaway.load import payloads, schedule, supported_protocols
from seaway.load.config import LoadConfig
from seaway.load.counters import Counters
from seaway.load.payloads import CallFailed, Payload, WrongResponse
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
    tls = DEFAULT_TLS

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

    def take(self) -> int:
        """The index of this user's next request."""
        index = self.next_request
        self.next_request = (index + 1) % len(self.requests)
        return index

    @task
    def predict(self) -> None:
        delay_s = self.delay_s() if Run.schedule is not None else 0.0
        if math.isnan(delay_s):
            return  # Locust runs a task before it waits for the first time
        self.send(self.take(), delay_s)

    def send(self, index: int, delay_s: float) -> None:
        """Sends the request of that index, `delay_s` after it was due, and checks the response. No task of its own:
        Locust would run those of a base class as well as the one that overrides it."""
        payload, headers = self.requests[index], self.headers[index]
        post = self.client.post(
            self.path, data=payload.body, name=self.protocol.request, headers=headers, catch_response=True
        )
        if self.new_connections:
            self.client.client.clientpool.close()
        with post as response:
            response.request_meta["response_time"] += delay_s * 1000
            if response.request_meta["exception"] is not None or not 200 <= response.status_code < 300:
                return  # Locust counts it as failed
            if wrong := self.check(response.content or b"", response.headers, payload):
                response.failure(wrong)

    def check(self, body: bytes, headers: Any, payload: Payload) -> WrongResponse | None:
        """Compares a response with what is expected, and counts it by its replica."""
        wrong, max_abs = None, 0.0
        try:
            max_abs = payloads.check(body, headers, payload, self.protocol)
        except WrongResponse as error:
            wrong, max_abs = error, error.max_abs
        names = (client_codecs.POD, client_codecs.SERVED_BY, client_codecs.BACKEND)
        replica = " ".join(headers.get(name) or "" for name in names)
        self.counters.record_response(replica, wrong is not None, max_abs)
        return wrong

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


class GrpcUser(GoldenUser):
    """The same over gRPC."""

    abstract = True

    def on_start(self) -> None:
        super().on_start()
        self.open()

    def on_stop(self) -> None:
        self.channel.close()

    def open(self) -> None:
        from seaway.load import grpc_client

        grpc_client.cooperate()
        uses_tls = client_tls.is_tls(self.host)
        self.channel = grpc_client.open_channel(self.host, channel_credentials(self.tls) if uses_tls else None)
        method, tls = grpc_client.method(self.channel, self.path), self.tls if uses_tls else None
        self.call = functools.partial(grpc_client.call, method, tls=tls)

    def send(self, index: int, delay_s: float) -> None:
        payload = self.requests[index]
        if self.new_connections:
            self.channel.close()
            self.open()
        began, body = clock(), b""
        failure: Exception | None = None
        try:
            body, headers = self.call(payload.body, self.network_timeout)
        except CallFailed as error:
            failure = error
        response_ms = (clock() - began + delay_s) * 1000
        if failure is None:
            failure = self.check(body, headers, payload)
        self.environment.events.request.fire(
            request_type="gRPC", name=self.protocol.request, response_time=response_ms, response_length=len(body),
            exception=failure, context={},
        )  # fmt: skip


class TfsGrpcUser(GrpcUser):
    protocol = client_codecs.TFS_GRPC


class OipGrpcUser(GrpcUser):
    protocol = client_codecs.OIP_GRPC


USERS: dict[str, type[GoldenUser]] = {
    user.protocol.key: user
    for user in (TfsUser, GraphPipeUser, OipUser, OipBinaryUser, PngUser, TfsGrpcUser, OipGrpcUser)
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
        help="both: tfs and graphpipe (default: the first of tfs, oip, graphpipe, or with a --host like "
        "grpc://127.0.0.1:8500 of tfs-grpc, oip-grpc, that the server there supports)",
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
    group.add_argument("--tls-ca", metavar="FILE", default="", help=client_tls.CA_HELP)
    group.add_argument(
        "--tls-client-cert", metavar="FILE", default="",
        help="like --tls-cert of seaway load: PEM file of the users' own certificate, for a server that requires one; "
        "with --tls-client-key. (--tls-cert and --tls-key are Locust's own, of its web page.)",
    )  # fmt: skip
    group.add_argument(
        "--tls-client-key", metavar="FILE", default="", help="PEM file of the private key of --tls-client-cert"
    )
    group.add_argument("--insecure", action="store_true", help=client_tls.INSECURE_HELP)
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
    version, tls = options.model_version or None, tls_of(options)
    if options.host:
        tls.check(options.host)
    keys = ["tfs", "graphpipe"] if options.protocol == "both" else [options.protocol]
    if not options.protocol:
        if not options.host:
            raise errors.InvalidInput("--host is missing: give a server's URL, or name a --protocol")
        config = LoadConfig(model=name, version=version, request_timeout_s=options.request_timeout, tls=tls)
        keys = [supported_protocols.preferred_protocol(options.host, source, config)]
    selected = [USERS[key] for key in keys]
    for user in selected:
        user.path = user.protocol.path(name, version)
        user.requests = payloads.encode(model, user.protocol, options.batch)
        if options.host:
            client_codecs.check_url(options.host, user.protocol)
        if name_model := user.protocol.name_model:
            for payload in user.requests:
                payload.body = name_model(name, version) + payload.body
    return selected


def tls_of(options: Any) -> ClientTls:
    ca, cert, key = (
        Path(file) if file else None for file in (options.tls_ca, options.tls_client_cert, options.tls_client_key)
    )
    return ClientTls(ca, cert, key, options.insecure)


def set_tls(tls: ClientTls) -> None:
    """The settings for all users of this process. Raises InvalidInput for files that cannot be used."""
    context = functools.cache(tls.ssl_context)  # one for all connections, made for the first one
    channel_credentials.cache_clear()
    if tls != DEFAULT_TLS:
        context()
    for user in Run.users:
        user.tls, user.insecure = tls, tls.insecure
        user.ssl_context_factory = staticmethod(lambda **_: context())


@functools.cache  # one for all channels, of which there may be one for each request
def channel_credentials(tls: ClientTls) -> Any:
    from seaway.load import grpc_client

    return grpc_client.credentials(tls)


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
    with errors.exit_with_message("locust"):  # on another machine the files may be missing
        set_tls(tls_of(options))
    Run.started_at, Run.reported_cpu_s, Run.elapsed_s = clock(), time.process_time(), 0.0
    Run.schedule = None
    if options.rate:
        share = (Run.index, Run.workers, options.arrivals, options.seed)
        Run.schedule = Schedule(options.rate, Run.duration_s, options.shape, *share)
    for user in Run.users:
        user.counters = Counters()
        user.network_timeout = user.connection_timeout = options.request_timeout
        user.new_connections = options.new_connections


@events.test_stopping.add_listener
def on_test_stopping(**_: Any) -> None:
    Run.elapsed_s = clock() - Run.started_at


@events.request.add_listener
def on_request(name: str, response_time: float | None, exception: Exception | None, **_: Any) -> None:
    user = BY_REQUEST[name]
    counters = user.counters
    completed_s = clock() - Run.started_at
    if exception is None:
        counters.record_correct(completed_s, response_time or 0.0)
    else:
        kind, wrong = error_kind(exception, user.tls), isinstance(exception, WrongResponse)
        counters.record_error(int(completed_s), kind, wrong=wrong)


def error_kind(exception: Exception, tls: ClientTls = DEFAULT_TLS) -> str:
    """A name for errors of one kind: HTTP status, wrong response's message, what to do about a failed TLS handshake, or
    the exception's class and reason."""
    if isinstance(exception, WrongResponse):
        return f"{exception.KIND}{exception}"
    if isinstance(exception, CallFailed):
        return str(exception)
    if isinstance(exception, ssl.SSLError) and (advice := tls.advice(str(exception))):
        return f"TLS: {advice}"
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
