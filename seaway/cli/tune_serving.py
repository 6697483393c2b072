"""`seaway tune-serving`: measures a version in both engines and writes its serving profile."""

from typing import Annotated

import typer

from seaway.arguments import seaway_command
from seaway.cli import options


def tune_serving(
    model: Annotated[
        str, typer.Argument(help="The model and its version, e.g. characters/3. Default: the latest version.")
    ],
    repository: options.Repository = options.DEFAULT_REPOSITORY,
) -> None:
    """Measures a version in TensorFlow and ONNX Runtime, and writes the faster one's settings as its serving profile.

    Both must give the recorded outputs of the golden examples in every signature. A difference within noise leaves the
    SavedModel in place. `seaway deploy` puts the settings into the canary's pod template, and `seaway promote` into
    stable's; a server never chooses itself. Run it on a machine like those that serve, with nothing else to do.

    [bold]Examples[/bold]

      seaway tune-serving characters/3

      seaway tune-serving characters/3 --model-repository /mnt/models
    """
    from seaway.artifacts import model_repository
    from seaway.serve import tune

    name, version = _parse(model)
    if version is None:
        numbers = model_repository.versions(repository, name)
        if not numbers:
            raise model_repository.no_model(repository, name)
        version = numbers[-1]
    profile, file = tune.tune(repository, name, version, lambda text: typer.echo(text, err=True))
    for line in tune.lines(profile):
        typer.echo(line)
    typer.echo(f"written: {file}")
    chosen = profile.chosen
    serve = seaway_command(
        "serve", "--model-repository", repository, "--backend", chosen.backend, "--threads", chosen.threads
    )
    onednn = {None: "", True: "TF_ENABLE_ONEDNN_OPTS=1 ", False: "TF_ENABLE_ONEDNN_OPTS=0 "}[chosen.onednn]
    typer.echo(f"to serve with these settings on this machine: {onednn}{serve}")


def _parse(model: str) -> tuple[str, int | None]:
    """NAME[/VERSION]; None without a version. Raises InvalidInput."""
    from seaway.artifacts import model_repository
    from seaway.errors import InvalidInput

    name, slash, text = model.partition("/")
    number = model_repository.number(text)
    if not name or (slash and not number):
        raise InvalidInput(f"{model!r} is not a model and version: give NAME or NAME/VERSION, e.g. characters/3")
    return name, number
