"""The `seaway` command: one file a verb, each importing what it needs when it runs."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from seaway.cli import (
    cluster,
    compile,
    convert,
    doctor,
    evaluate,
    lineage,
    load,
    predict,
    run,
    serve,
    ship,
    submit,
    sweep,
    verify,
    version,
    versions,
)  # fmt: skip
from seaway.errors import exit_with_message

app = typer.Typer(
    name="seaway",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Carries a PyTorch model across ONNX into a SavedModel, proves every hop, serves and load-tests it.",
    epilog="Begin with [bold]seaway doctor[/bold] and [bold]seaway run[/bold]; `seaway VERB --help` shows examples.",
)
VERBS: tuple[Callable[..., None], ...] = (
    run.run, serve.serve, verify.verify, predict.predict, evaluate.evaluate, versions.versions, lineage.lineage,
    ship.ship, convert.convert, sweep.sweep, cluster.status, cluster.deploy, cluster.promote, cluster.rollback,
    compile.compile_, submit.submit, doctor.doctor,
)  # fmt: skip
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}  # serve gives the server what it does not know
for verb in VERBS:
    app.command(verb.__name__.rstrip("_"), context_settings=PASSED_ON if verb is serve.serve else None)(verb)
app.add_typer(load.app)


@app.callback()
def seaway(
    shown: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version.", callback=version.show, is_eager=True)
    ] = False,
) -> None:
    """What comes before the verb."""


def main() -> None:
    verb = next((given for given in sys.argv[1:] if not given.startswith("-")), "")
    with exit_with_message("seaway", verb):
        try:
            app(standalone_mode=True)
        except KeyboardInterrupt:
            raise SystemExit(130) from None


if __name__ == "__main__":
    main()
