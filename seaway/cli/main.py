"""The `seaway` command: one file per verb, each importing what it needs when it runs."""

import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from seaway.arguments import unknown_option, with_help
from seaway.cli import (
    cluster,
    compile,
    convert,
    diff,
    doctor,
    evaluate,
    lineage,
    load,
    options,
    predict,
    run,
    serve,
    ship,
    submit,
    sweep,
    tune_serving,
    verify,
    version,
    versions,
)  # fmt: skip
from seaway.errors import exit_with_message

app = typer.Typer(
    name="seaway",
    cls=options.Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Trains or imports a PyTorch model, converts it via ONNX to a TensorFlow SavedModel, checks every step "
    "against the original model's outputs, then serves and load-tests it.",
    epilog="Start with [bold]seaway doctor[/bold] and [bold]seaway run[/bold]; `seaway COMMAND --help` shows examples.",
)
LOAD_PANEL = "Serve and test"
PANELS: Mapping[str, tuple[Callable[..., None], ...]] = {  # heading in the help → verbs
    "Train and publish": (run.run, sweep.sweep, ship.ship, convert.convert, diff.diff),
    LOAD_PANEL: (serve.serve, predict.predict, evaluate.evaluate, verify.verify, tune_serving.tune_serving),
    "Release": (
        versions.versions, lineage.lineage, cluster.status, cluster.deploy, cluster.promote, cluster.rollback,
    ),
    "Kubeflow": (compile.compile_, submit.submit),
    "Setup": (doctor.doctor,),
}  # fmt: skip
INTERRUPTED = 130  # typer's status for Ctrl-C; verbs that say themselves how to continue raise SystemExit with it
CONTINUE = {  # verb → how to continue after Ctrl-C, if not just by the same command
    "run": "the same command goes on: finished stages are reused, and training resumes",
    "ship": "run the same command again; `seaway versions` lists what was published",
}
PLAIN_ERRORS = (  # what pydantic says of an argument → what is printed
    (re.compile(r"Input should be a valid integer.*"), "it must be a whole number"),
    (re.compile(r"Input should be a valid number.*"), "it must be a number"),
    (re.compile(r"Input should be "), "it must be "),
    (re.compile(r"Value error, "), ""),
)
VERBS = tuple(verb for verbs in PANELS.values() for verb in verbs)
FORWARDED = {"allow_extra_args": True, "ignore_unknown_options": True}  # serve passes unknown options to the server


def _help(verb: Callable[..., object] | None) -> str:
    """The docstring with every paragraph on one line, for a terminal of any width."""
    return "\n\n".join(
        paragraph if paragraph.startswith("  ") else " ".join(paragraph.split())
        for paragraph in inspect.cleandoc(verb.__doc__ or "").split("\n\n")
    )


for panel, verbs in PANELS.items():
    for verb in verbs:
        app.command(
            verb.__name__.rstrip("_").replace("_", "-"),
            cls=options.Command,
            help=_help(verb),
            context_settings=FORWARDED if verb is serve.serve else None,
            rich_help_panel=panel,
        )(verb)
for command in load.app.registered_commands:
    command.help = command.help or _help(command.callback)
app.add_typer(load.app, rich_help_panel=LOAD_PANEL)


@app.callback()
def seaway(
    print_version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version.", callback=version.show, is_eager=True)
    ] = False,
) -> None:
    """Options before the verb."""


def main() -> None:
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # else gRPC prints a failed handshake, which the error explains
    verb = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
    with exit_with_message("seaway", verb):
        try:
            status = app(prog_name="seaway", standalone_mode=False)
        except TyperException as error:
            raise SystemExit(_show_usage_error(error)) from None
        if status == INTERRUPTED:
            advice = CONTINUE.get(verb, "run the same command again")
            print(f"\nseaway {verb}: interrupted; {advice}", file=sys.stderr, flush=True)
        raise SystemExit(status)


def _show_usage_error(error: TyperException) -> int:
    """Prints a mistake in the command line as one line; the help, if there was no argument at all."""
    context: Any = getattr(error, "ctx", None)
    command, message = context.command_path if context else "seaway", error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":  # typer does not export it; its message is the help
        print(message, file=sys.stderr)
        return 2
    if message.startswith("No such option"):
        known = [name for param in context.command.params for name in param.opts]
        message = unknown_option(getattr(error, "option_name", ""), known)
    for pattern, plain in PLAIN_ERRORS:
        message = pattern.sub(plain, message)
    print(with_help(command, message.rstrip(".")), file=sys.stderr, flush=True)
    return error.exit_code


if __name__ == "__main__":
    main()
