"""`seaway lineage`: traces a published version back to its data."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from seaway.cli import options

if TYPE_CHECKING:
    from rich.console import Group
    from rich.tree import Tree

    from seaway.artifacts.artifact_metadata import ArtifactMetadata


def lineage(
    version: Annotated[int, typer.Argument(help="The model's version, as listed by `seaway versions`.")],
    name: options.Name = "",
    repository: options.Repository = options.DEFAULT_REPOSITORY,
) -> None:
    """Traces a version back to its data, with the digest, settings and metrics of every stage.

    First every file of the version is compared with its metadata; a changed file is an error.

    [bold]Example[/bold]

      seaway lineage 3 --name characters
    """
    from rich.console import Console
    from rich.tree import Tree

    from seaway.artifacts import artifact_metadata, model_repository

    name = options.model_name(repository, name)
    metadata = artifact_metadata.check(
        model_repository.existing(repository, name, version), "version", at=model_repository.METADATA_FILE
    )
    tree = Tree(f"[bold]{name}/{version}[/bold]  no file has changed since it was published")
    _add_branch(tree, "version", metadata, set())
    Console().print(tree)


def _add_branch(tree: "Tree", role: str, metadata: "ArtifactMetadata", seen: set[str]) -> None:
    if metadata.sha256 in seen:
        tree.add(f"[cyan]{role}[/cyan] @{metadata.sha256[:12]}  [dim]see above[/dim]")
        return
    seen.add(metadata.sha256)
    branch = tree.add(f"[cyan]{role}[/cyan] @{metadata.sha256[:12]}")
    for title, values in (("settings", metadata.settings), ("metrics", metadata.metrics)):
        if values:
            branch.add(_facts(title, values))
    for parent_role, parent in metadata.parents.items():
        _add_branch(branch, parent_role, parent, seen)


def _facts(title: str, values: Mapping[str, object]) -> "Group":
    """One line per value, complete; the terminal's width only folds it."""
    from rich.console import Group
    from rich.text import Text

    lines = [Text(f"{key}={_format(value)}", overflow="fold") for key, value in _flatten(values)]
    return Group(Text(title, style="dim"), *lines)


def _flatten(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Pairs of name and value; a nested mapping's names follow its own: `augment.affine`."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _format(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
