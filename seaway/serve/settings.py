"""The server's settings, declared once: options, SEAWAY_ variables, defaults, ranges. Options override variables."""

import argparse
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_args

from seaway.errors import InvalidInput
from seaway.platform import cgroup
from seaway.serve.backends.backend import BACKENDS

PREFIX = "SEAWAY_"
PROGRAM = "SEAWAY_PROGRAM"  # the command that begins the server's error messages, set by `seaway serve`
POD = re.compile("[A-Za-z0-9._-]{1,253}")
ENDPOINT = re.compile(r"https?://[^/?#\s]+(/[^?#\s]*)?")
ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/?#\s,A-Z]+")  # in lower case, as browsers send it


CORES, LIMITS, TLS, TRACES = "cores and batches", "limits", "TLS", "traces"  # headings of options in --help
MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class About:
    """What a field's option and check are made of. `kind`: the option's metavar; `shown`: the default in the help, by
    default the value; `also`: further names of the option; `least`, `most`, `above`: limits of numbers."""

    help: str
    kind: str | None = None
    shown: str | None = None
    also: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """The one declaration of all options: field `drain_s` is --drain-s, and SEAWAY_DRAIN_S in the environment."""

    model_repository: Annotated[
        Path, About("the folder of models: <name>/<version>/saved_model.pb", "DIR", also=("--repository",))
    ]
    backend: Annotated[
        str,
        About(
            "runtime of the models: TensorFlow (savedmodel, default) or ONNX Runtime",
            shown="onnx",
            choices=(*BACKENDS,),
        ),
    ] = "savedmodel"
    wait: Annotated[bool, About("start although the model repository does not exist yet")] = False
    host: Annotated[str, About("IP address to listen on; 0.0.0.0 for all", "IP")] = "127.0.0.1"
    port: Annotated[
        int, About("port of all protocols and the page; 0 picks a free one and prints it", "N", least=0, most=MAX_PORT)
    ] = 8501
    admin_port: Annotated[
        int | None, About("port of GET /metrics and /status", "N", shown="default: none", least=0, most=MAX_PORT)
    ] = None
    grpc_port: Annotated[
        int | None,
        About("port of gRPC; 0 picks a free one and prints it", "N", shown="default: none", least=0, most=MAX_PORT),
    ] = None
    tls_cert: Annotated[
        Path | None,
        About(
            "PEM file of the server's certificate: the data port then speaks HTTPS, and gRPC TLS; it is read again "
            "when it changes",
            "FILE",
            "default: none",
            group=TLS,
        ),
    ] = None
    tls_key: Annotated[Path | None, About("PEM file of its key", "FILE", group=TLS)] = None
    tls_client_ca: Annotated[
        Path | None,
        About("PEM file of CAs: clients must have a certificate of one of them", "FILE", "default: none", group=TLS),
    ] = None
    default_version: Annotated[
        str,
        About(
            "version for requests that name none: the one labelled stable, or the latest if there is no such label "
            "(stable, default); or always the latest",
            shown="",
            choices=("stable", "latest"),
        ),
    ] = "stable"
    model: Annotated[str, About("the only model to serve", "NAME")] = ""
    model_version: Annotated[
        int,
        About(
            "the only version of it to serve, whatever its labels", "N", "default: the stable one at startup", least=0
        ),
    ] = 0
    allow_op: Annotated[
        tuple[str, ...],
        About("allow a SavedModel operator that is blocked by default; repeat for more", "OP"),
    ] = ()
    poll_interval_s: Annotated[float, About("seconds between two scans of the model repository", "S", above=0)] = 1.0

    workers: Annotated[
        int,
        About("processes that hold the models", "N", "default: the number of cores minus one", least=0, group=CORES),
    ] = 0
    threads: Annotated[
        int, About("threads of each worker's backend", "N", "default: its share of the cores", least=0, group=CORES)
    ] = 0
    max_batch: Annotated[
        int, About("maximum rows in a batch merged from several requests", "N", above=0, group=CORES)
    ] = 64
    batch_delay_ms: Annotated[
        float,
        About(
            "how long a request may wait for others to be batched with it while a worker is idle",
            "MS",
            least=0,
            group=CORES,
        ),
    ] = 0.0
    warmup_iterations: Annotated[
        int,
        About(
            "runs of each request in assets.extra/tf_serving_warmup_requests at load; 0: none",
            "N",
            least=0,
            group=CORES,
        ),
    ] = 1

    timeout_s: Annotated[  # TensorFlow Serving's default
        float, About("a request's deadline; after it the client gets 504", "S", above=0, group=LIMITS)
    ] = 30.0
    read_timeout_s: Annotated[
        float,
        About("seconds for a request to arrive, and for the client to read its response", "S", above=0, group=LIMITS),
    ] = 30.0
    drain_s: Annotated[
        float,
        About("seconds between SIGTERM, when /readyz turns 503, and closing the port", "S", least=0, group=LIMITS),
    ] = 0.5
    max_body_bytes: Annotated[
        int, About("maximum size of a request; larger ones get 413", "N", above=0, group=LIMITS)
    ] = 64 << 20
    max_held_bytes: Annotated[
        int,
        About(
            "maximum bytes of all request bodies in memory",
            "N",
            "default: a quarter of the memory, at most 1 GiB",
            least=0,
            group=LIMITS,
        ),
    ] = 0
    max_waiting: Annotated[
        int, About("maximum requests that wait for a worker; further ones get 503", "N", above=0, group=LIMITS)
    ] = 1000
    max_connections: Annotated[
        int, About("maximum open connections; further ones get 503 and are closed", "N", above=0, group=LIMITS)
    ] = 16384
    gzip_min_bytes: Annotated[
        int,
        About(
            "compress responses of HTTP larger than this, for clients that accept gzip; 0: none",
            "N",
            least=0,
            group=LIMITS,
        ),
    ] = 0
    cors_origin: Annotated[
        tuple[str, ...],
        About(
            "allowed CORS origin, e.g. https://example.com, or '*'; repeat for more",
            "URL",
            "default: none",
            group=LIMITS,
        ),
    ] = ()
    access_log: Annotated[bool, About("one JSON line per request on stderr", group=LIMITS)] = False
    pod: Annotated[str, About("name of this replica, sent in the header Seaway-Pod", "NAME", group=LIMITS)] = ""

    otlp_endpoint: Annotated[
        str,
        About(
            "OpenTelemetry collector that gets a trace of each request, by OTLP over HTTP, e.g. http://127.0.0.1:4318; "
            "the environment variables OTEL_... configure the rest",
            "URL",
            "default: none",
            group=TRACES,
        ),
    ] = ""

    def __post_init__(self) -> None:
        if self.model_repository.exists() and not self.model_repository.is_dir():
            raise InvalidInput(f"--model-repository {self.model_repository}: this is a file; give the folder of models")
        if self.model_version and not self.model:
            raise InvalidInput("--model-version needs --model: together they name the only version to serve")
        for name, (_, about, _) in DECLARED.items():
            _check(name, about, getattr(self, name))
        if (self.tls_cert is None) != (self.tls_key is None):
            given, other = ("cert", "key") if self.tls_cert else ("key", "cert")
            raise InvalidInput(f"--tls-{given} needs --tls-{other}: TLS needs a certificate and its key")
        if self.tls_client_ca and not self.tls_cert:
            raise InvalidInput("--tls-client-ca needs --tls-cert and --tls-key: only TLS has client certificates")
        if self.pod and not POD.fullmatch(self.pod):
            raise InvalidInput(f"--pod {self.pod!r}: use at most 253 letters, digits, '-', '.' and '_'")
        if self.otlp_endpoint and not ENDPOINT.fullmatch(self.otlp_endpoint):
            raise InvalidInput(f"--otlp-endpoint {self.otlp_endpoint!r}: give a URL like http://127.0.0.1:4318")
        for origin in self.cors_origin:
            if not ORIGIN.fullmatch(origin):
                raise InvalidInput(
                    f"--cors-origin {origin!r}: give '*', or a site in lower case without a path, like https://example.com"
                )

    @property
    def worker_count(self) -> int:
        return self.workers or max(1, cgroup.cores() - 1)

    @property
    def thread_count(self) -> int:
        """Threads that a worker's backend may use."""
        return self.threads or max(1, (cgroup.cores() - 1) // self.worker_count)

    @property
    def cores_per_worker(self) -> int:
        """Cores for one large batch of a worker, including the supervisor's, which is mostly idle then."""
        return max(1, cgroup.cores() // (self.worker_count * self.thread_count))

    @property
    def held_bytes_limit(self) -> int:
        """Limit on all request bodies in memory together; at least one body of the largest size fits."""
        memory = cgroup.memory_bytes()
        limit = self.max_held_bytes or min(1 << 30, memory // 4 if memory else 1 << 30)
        return max(limit, self.max_body_bytes)

    def url(self, port: int, tls: bool = False) -> str:
        """The URL of a port of this server."""
        return f"{'https' if tls else 'http'}://{address(self.host, port)}/"

    @property
    def pin(self) -> tuple[str, int | None] | None:
        return (self.model, self.model_version or None) if self.model else None


# Field → its type, what is said about it, and its default.
DECLARED: dict[str, tuple[Any, About, Any]] = {
    each.name: (*get_args(each.type), each.default) for each in fields(Settings)
}


def _check(name: str, about: About, value: Any) -> None:
    """Raises InvalidInput for a value outside its field's range or choices."""
    if about.choices and value not in about.choices:
        raise InvalidInput(f"{option(name)} {value!r}: choose from {', '.join(about.choices)}")
    if about.above is not None and not about.above < value < math.inf:  # which NaN is not
        raise InvalidInput(f"{option(name)} is {value}: it must be above {about.above:g}")
    if about.least is not None and value is not None and not about.least <= value < math.inf:
        raise InvalidInput(f"{option(name)} is {value}: it must be at least {about.least:g}")
    if about.most is not None and value is not None and value > about.most:
        raise InvalidInput(f"{option(name)} is {value}: it must be at most {about.most:g}")


def option(name: str) -> str:
    """The command-line option of a field."""
    return f"--{name.replace('_', '-')}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """An option for each field; one that is not given leaves no value."""
    groups: dict[str, Any] = {"": parser}
    for name, (kind, about, default) in DECLARED.items():
        if about.group not in groups:
            groups[about.group] = parser.add_argument_group(about.group)
        shown = about.shown
        if shown is None and kind in (int, float, str) and default != "":
            shown = f"default {default:g}" if isinstance(default, float) else f"default {default}"
        more: dict[str, Any] = {"action": "store_true"} if kind is bool else {"metavar": about.kind}
        if kind == tuple[str, ...]:
            more["action"] = "append"
        elif kind is not bool:
            more |= {"type": _PARSERS[kind], "choices": about.choices or None}
        words = f"{about.help} ({shown})" if shown else about.help
        groups[about.group].add_argument(option(name), *about.also, help=words, default=argparse.SUPPRESS, **more)


def address(host: str, port: int) -> str:
    """host:port as in a URL, with an IPv6 address in brackets."""
    return f"[{host.replace('%', '%25')}]:{port}" if ":" in host else f"{host}:{port}"


def _flag(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("", "0", "false", "no", "off"):
        return False
    raise ValueError(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in re.split(r"[,\s]+", text) if name)


def _file(text: str) -> Path | None:
    return Path(text) if text else None


_PARSERS: dict[Any, Any] = {
    Path: Path,
    Path | None: _file,
    str: str,
    int: int,
    int | None: int,
    float: float,
    bool: _flag,
    tuple[str, ...]: _names,
}


def program(environ: Mapping[str, str] = os.environ) -> str:
    """The command that the server was started with, for its error messages."""
    return environ.get(PROGRAM, "python -m seaway.serve")


def from_environment(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Settings from the environment, by field name. Raises InvalidInput for a value that cannot be parsed."""
    values = {}
    for name, (kind, *_) in DECLARED.items():
        parse = _PARSERS[kind]
        text = environ.get(PREFIX + name.upper())
        if text is None or (name.endswith("port") and text.startswith("tcp://")):  # Kubernetes' link to a Service
            continue
        try:
            values[name] = parse(text)
        except ValueError:
            raise InvalidInput(f"{PREFIX}{name.upper()}={text!r} is not a valid {parse.__name__.strip('_')}") from None
    return values
