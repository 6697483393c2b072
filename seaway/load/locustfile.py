"""Locust users that send golden examples to a served model and compare every answer with PyTorch's.

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8501 --golden models/characters/1

opens Locust's web page; add `--headless --users 8 --run-time 60s` for a run without it, `--processes 2` for more load.
With `--rate R` requests are due at R a second, whoever is free sends them, and latency counts from when they were due;
without it each user sends its next request when the one before is answered.

On several machines only the master (`--master`) is given options: workers (`--worker --master-host HOST`) get the
requests, the answers to compare with, and all that is to be known of the run from it.
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
from seaway.load import payloads, schedule, spoken
from seaway.load.payloads import Payload, WrongAnswer
from seaway.load.run import Plan
from seaway.load.schedule import Schedule
from seaway.load.tally import Tally
from seaway.protocols import wire

SETUP = "seaway-setup"  # the master's message to a worker: what to send, and when
FOREVER = 1e6  # seconds that a user sleeps after the last arrival
TELL_SECONDS = 1.0

clock = time.perf_counter


class Run:
    """What the users of this process share."""

    schedule: Schedule | None = None  # None: a closed loop
    started = 0.0
    elapsed = 0.0
    workers = 1  # processes that send
    share: int | None = (
        0  # of the arrivals, 0 to `workers` - 1; None: of those of a run that began without this process
    )
    seconds = FOREVER  # that it takes
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


USERS: dict[str, type[GoldenUser]] = {
    user.protocol.key: user for user in (TfsUser, GraphPipeUser, OipUser, OipBinaryUser, PngUser)
}
BY_REQUEST = {user.protocol.request: user for user in USERS.values()}


def use(change: type) -> tuple[type[GoldenUser], ...]:
    """For a locustfile of one's own: each protocol's user from now on has the attributes of `change` first.

    Returns them all, for Locust wants to find a user in its file (loadtest/think_time.py).
    """
    for key, user in USERS.items():
        USERS[key] = BY_REQUEST[user.protocol.request] = type(user.__name__, (change, user), {})
    return tuple(USERS.values())


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
    group.add_argument(
        "--protocol", choices=["", "both", *USERS], default="",
        help="both: tfs and graphpipe (default: the first of tfs, oip, graphpipe that the server at --host speaks)",
    )  # fmt: skip
    group.add_argument(
        "--rate", type=float, default=0, metavar="R", help="requests a second, whatever the answers take"
    )
    group.add_argument(
        "--arrivals", choices=schedule.ARRIVALS, default=schedule.POISSON,
        help="of the requests of --rate: as independent callers send them, or evenly spaced (default: poisson)",
    )  # fmt: skip
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the Poisson arrivals (default: 0)")
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
    for user in USERS.values():
        user.tally = Tally()
    if isinstance(runner, WorkerRunner):
        environment.user_classes = list(USERS.values())  # its master says which of them, and all the rest
        runner.register_message(SETUP, hear_setup)
    else:
        with errors.exit_with_message("locust"):
            environment.user_classes = read_options(options)
            if options.shape != "constant" and not options.run_time:
                raise errors.InvalidInput(f"--shape {options.shape} needs --run-time: it is of the load over that time")
            if options.rate:
                Schedule(options.rate, 1, options.shape, arrivals=options.arrivals, seed=options.seed)
        if options.shape != "constant" and not options.rate:
            environment.shape_class = Shape(options.shape, options.num_users or 1, options.run_time)
            environment.shape_class.runner = runner
        Run.users = tuple(environment.user_classes)
        if options.counts:
            gevent.spawn(tell, environment, Path(options.counts))
    if isinstance(runner, MasterRunner):
        Run.sends = False
        events.worker_connect.add_listener(lambda client_id, **_: admit(runner, client_id))
    gevent.get_hub().loop.update_now()  # else the run time would count from before the imports


def read_options(options: Any) -> list[type[GoldenUser]]:
    """The users that the options choose, with their requests. Raises what is wrong with the options."""
    if not options.golden:
        raise errors.InvalidInput("--golden is missing: give a version's folder, e.g. models/characters/1")
    source = Path(options.golden)
    model = payloads.read_model(source)
    name = options.model or model.name
    if not name:
        raise errors.InvalidInput("--model is missing: a file of examples does not say what the model is called")
    version = options.model_version or None
    keys = ["tfs", "graphpipe"] if options.protocol == "both" else [options.protocol]
    if not options.protocol:
        if not options.host:
            raise errors.InvalidInput("--host is missing: give a server's address, or name a --protocol")
        plan = Plan(model=name, version=version, request_timeout=options.request_timeout, insecure=options.insecure)
        keys = [spoken.first(options.host, source, plan)]
    chosen = [USERS[key] for key in keys]
    for user in chosen:
        user.path = user.protocol.path(name, version)
        user.requests = payloads.encode(model, user.protocol, options.batch)
    return chosen


# ---- what workers get from their master


def setup(share: int | None) -> dict[str, Any]:
    """The message to a worker that sends `share` of the arrivals; None: a run has begun whose arrivals are dealt."""
    users = {
        user.protocol.key: {"path": user.path, "requests": [payload.to_message() for payload in user.requests]}
        for user in Run.users
    }
    return {"workers": Run.workers, "share": share, "seconds": Run.seconds, "users": users}


def hear_setup(environment: Any, msg: Any, **_: Any) -> None:
    """On a worker, before each run; the options themselves come with Locust's own message."""
    del environment
    Run.workers, Run.share, Run.seconds = msg.data["workers"], msg.data["share"], msg.data["seconds"]
    Run.users = tuple(USERS[key] for key in msg.data["users"])
    for user in Run.users:
        found = msg.data["users"][user.protocol.key]
        user.path, user.requests = found["path"], [Payload.from_message(raw) for raw in found["requests"]]


def admit(runner: MasterRunner, client_id: str) -> None:
    """A worker that comes while others run gets users in a closed loop, but none of an open loop's arrivals."""
    if runner.state in (STATE_SPAWNING, STATE_RUNNING):
        runner.send_message(SETUP, setup(None), client_id)


@events.test_start.add_listener
def start(environment: Any, **_: Any) -> None:
    options, runner = environment.parsed_options, environment.runner
    if not isinstance(runner, WorkerRunner):
        Run.seconds = options.run_time or FOREVER
    if isinstance(runner, MasterRunner):
        workers = [*runner.clients.ready, *runner.clients.spawning, *runner.clients.running]
        Run.workers = max(1, len(workers))
        for share, worker in enumerate(workers):
            runner.send_message(SETUP, setup(share), worker.id)
    Run.started, Run.cpu, Run.elapsed = clock(), time.process_time(), 0.0
    Run.schedule = None
    if options.rate:
        own = (Run.share, Run.workers, options.arrivals, options.seed)
        Run.schedule = Schedule(options.rate, Run.seconds, options.shape, *own)
    for user in Run.users:
        user.tally = Tally()
        user.network_timeout = user.connection_timeout = options.request_timeout
        user.new_connections, user.insecure = options.new_connections, options.insecure


@events.test_stopping.add_listener
def stop(**_: Any) -> None:
    Run.elapsed = clock() - Run.started


@events.request.add_listener
def count(name: str, response_time: float | None, exception: Exception | None, **_: Any) -> None:
    tally = BY_REQUEST[name].tally
    came = clock() - Run.started
    if exception is None:
        tally.right(came, response_time or 0.0)
    else:
        tally.fault(int(came), kind_of(exception), wrong=isinstance(exception, WrongAnswer))


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
    options, runner = environment.parsed_options, environment.runner
    if isinstance(runner, WorkerRunner):
        return
    if options.counts:
        write_counts(environment, Path(options.counts))
    if options.headless and not runner.stats.total.num_requests:
        workers = isinstance(runner, MasterRunner)
        hint = "; see what the workers said, and start them with this locustfile" if workers else ""
        logging.error("nothing was measured: no request ended in this time%s", hint)
        environment.process_exit_code = 1
