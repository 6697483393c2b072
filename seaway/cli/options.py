"""Options that several verbs share: each has one name and one help sentence."""

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from seaway import client_tls

if TYPE_CHECKING:
    from seaway.load.client import Client

DEFAULT_ROOT = Path(".seaway")
DEFAULT_REPOSITORY = DEFAULT_ROOT / "models"
DEFAULT_NAME = "characters"
DEFAULT_PORT = 8501
DEFAULT_CONVERTER: Literal["seaway"] = "seaway"
DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"

# Typer's name of an option's type → what the help shows instead
_METAVARS = {
    "<bool>": "",
    **dict.fromkeys(("<int>", "<int range>", "<float>", "<float range>"), "N"),
    **dict.fromkeys(("<str>", "<list[str]>"), "TEXT"),
    **dict.fromkeys(("<path>", "<file>", "<directory>"), "PATH"),
}


FEW = 10  # options of a verb that its help shows in one list
# Of verbs with more options, those that the help shows last
LESS_COMMON = {
    *(
        "arrivals",
        "baseline_version",
        "batch",
        "ca_file",
        "cache",
        "claim",
        "converter",
        "every",
        "experiment",
        "exporter",
        "final",
    ),
    *(
        "insecure",
        "judge_profile",
        "limits",
        "load_duration_s",
        "load_rate",
        "load_users",
        "metrics",
        "new_connections",
        "poll",
        "port",
    ),
    *("preflight", "processes", "prune", "pull_deadline", "root", "run_name", "search", "seed", "service_account"),
    *("shape", "shared", "timeout", "tls_ca", "tls_cert", "tls_key", "tls_secret", "token_file", "training"),
    *("validation", "version", "warmup"),
}


class Command(TyperCommand):
    """A verb whose help shows only the first name of each option, and metavars instead of Python's types."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        with _params_for_help(self, ctx):
            super().format_help(ctx, formatter)

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)
        return option and _for_help(option, ctx)


class Group(TyperGroup):
    """The same for a command with subcommands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        with _params_for_help(self, ctx):
            super().format_help(ctx, formatter)

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)
        return option and _for_help(option, ctx)


@contextlib.contextmanager
def _params_for_help(command: Any, ctx: Any) -> Iterator[None]:
    params = command.params
    command.params = [_for_help(param, ctx) for param in params]
    options = [param for param in command.params if param.param_type_name == "option"]
    if len(options) > FEW:
        for option in options:
            option.rich_help_panel = option.rich_help_panel or ("More options" if option.name in LESS_COMMON else None)
    try:
        yield
    finally:
        command.params = params


def _for_help(param: Any, ctx: Any) -> Any:
    """A copy of the parameter that leaves its description as many of 80 columns as it can."""
    shown = copy.copy(param)
    shown._get_number_range_help_str = lambda: ""
    long = [name for name in param.opts if name.startswith("--")]
    shown.opts = [name for name in param.opts if name not in long[1:]]  # the others are former names
    if param.default is False:
        shown.secondary_opts = []  # --no-x would change nothing
    if param.metavar is None and param.param_type_name == "option":
        shown.metavar = _METAVARS.get(param.display_type(ctx))
    elif param.param_type_name == "argument":
        shown.metavar = param.metavar or param.name.upper()
        shown.display_type_rich = lambda ctx: None
    return shown


Root = Annotated[Path, typer.Option(help="Folder for all outputs: model repository, cache, reports.")]
REPOSITORY_NAMES = ("--model-repository", "--repository")
Repository = Annotated[
    Path, typer.Option(*REPOSITORY_NAMES, help="The model repository: a folder of <name>/<version>/.", metavar="DIR")
]
MountedRepository = Annotated[
    Path | None,
    typer.Option(*REPOSITORY_NAMES, help="The model repository, if it is mounted here: a folder of <name>/<version>/."),
]
Name = Annotated[str, typer.Option(help="The model's name. Default: the only model there is.")]
Version = Annotated[int, typer.Option(help="The model's version, e.g. 3.", min=1)]
Port = Annotated[int, typer.Option(help="Port of the model server.", min=1, max=65535)]
Url = Annotated[str, typer.Option(help="URL of a running server.", metavar="URL")]
TlsCa = Annotated[Path | None, typer.Option("--tls-ca", help=client_tls.CA_HELP, metavar="FILE")]
TlsCert = Annotated[Path | None, typer.Option("--tls-cert", help=client_tls.CERT_HELP, metavar="FILE")]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", help=client_tls.KEY_HELP, metavar="FILE")]
Insecure = Annotated[bool, typer.Option("--insecure", help=client_tls.INSECURE_HELP)]
TlsSecret = Annotated[
    str,
    typer.Option(
        help="Name of a Kubernetes Secret with ca.crt, and tls.crt and tls.key of a client certificate, for the stages "
        "that call a server at https://.",
        metavar="NAME",
    ),
]
Namespace = Annotated[str, typer.Option(help="Kubernetes namespace of the serving stack.")]
Context = Annotated[str, typer.Option(help="kubectl context. Default: the current one.")]
Converter = Annotated[
    Literal["seaway", "onnx-tf"], typer.Option(help="Converter from ONNX to TensorFlow: Seaway's own, or onnx-tf.")
]
Pipeline = Annotated[
    str,
    typer.Option(help="characters, ship, or a Python file with your own pipeline, e.g. mine.py.", metavar="PIPELINE"),
]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", help="A parameter of the pipeline; repeat for more.", metavar="NAME=VALUE"),
]
Registry = Annotated[str, typer.Option(help="Prefix of the images, registry and repository, e.g. ghcr.io/example.")]
Claim = Annotated[str, typer.Option(help="Name of the PersistentVolumeClaim that holds the model repository.")]
Data = Annotated[
    str,
    typer.Option(
        help="Data source: 'strokes[:N]' (N synthetic characters, generated locally, as unevenly distributed as "
        "EMNIST's; with '#text' as in running text), 'idx:DIR' or 'idx:DIR#SPLIT' (a folder with the original "
        "EMNIST files), or 'emnist[:SPLIT]' (downloaded, 536 MB). SPLIT: byclass, bymerge, balanced, letters, digits "
        "or mnist.",
        metavar="SOURCE",
    ),
]


def model_name(repository: Path, name: str) -> str:
    """`name`, or that of the only model in the repository. Raises NotFound without any, or with several."""
    from seaway.artifacts import model_repository
    from seaway.errors import NotFound

    names = [name] if name else model_repository.models(repository)
    if not names:
        raise NotFound(f"{repository} has no models yet: make one with `seaway run` or `seaway ship`")
    if len(names) > 1:
        raise NotFound(f"{repository} has the models {', '.join(names)}: choose one with --name")
    return names[0]


def served_name(client: "Client", name: str) -> str:
    """`name`, or that of the only model of the server. Raises NotFound without any, or with several, or if it does not
    list them."""
    from seaway.errors import NotFound, SeawayError
    from seaway.load.client import NoResponse

    try:
        names = [name] if name else client.models()
    except NoResponse:
        raise
    except SeawayError:
        raise NotFound(f"{client.url} does not list its models: give --name") from None
    if not names:
        raise NotFound(f"{client.url} serves no model yet")
    if len(names) > 1:
        raise NotFound(f"{client.url} serves the models {', '.join(names)}: choose one with --name")
    return names[0]


def tls(ca: Path | None, cert: Path | None, key: Path | None, insecure: bool, *urls: str) -> client_tls.ClientTls:
    """The settings for these URLs. Raises InvalidInput."""
    settings = client_tls.ClientTls(ca, cert, key, insecure)
    settings.check(*urls)
    return settings


def pairs(option: str, example: str, texts: list[str] | None) -> dict[str, str]:
    """["p99_ms=50"] as {"p99_ms": "50"}. Raises InvalidInput for anything but NAME=VALUE."""
    from seaway.errors import InvalidInput

    values = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(f"{option} {text!r}: give NAME=VALUE, e.g. {option} {example}")
        values[name.strip()] = value
    return values


def limits(texts: list[str] | None) -> dict[str, str]:
    """The values of `--limit`. Raises InvalidInput."""
    return pairs("--limit", "p99_ms=500", texts)
