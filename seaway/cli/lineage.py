"""`seaway lineage`: from a served version back to the data."""

from typing import TYPE_CHECKING, Annotated

import typer

from seaway.cli import options

if TYPE_CHECKING:
    from rich.tree import Tree

    from seaway.artifacts.card import Card


def lineage(
    version: Annotated[int, typer.Argument(help="The version's number, as `seaway versions` lists it.")],
    name: options.Name = options.DEFAULT_NAME,
    volume: options.Volume = options.DEFAULT_VOLUME,
) -> None:
    """Walks from a version back to the data, with every stage's digest, settings and metrics.

    Every byte of the version is read and compared with its card first; a changed file is an error.

    [bold]Example[/bold]

      seaway lineage 3 --name characters
    """
    from rich.console import Console
    from rich.tree import Tree

    from seaway.artifacts import card as cards
    from seaway.artifacts import store

    card = cards.check(store.existing(volume, name, version), "version", at=store.CARD)
    tree = Tree(f"[bold]{name}/{version}[/bold]  every file is as it was published")
    _grow(tree, "version", card, set())
    Console().print(tree)


def _grow(tree: "Tree", role: str, card: "Card", seen: set[str]) -> None:
    if card.sha256 in seen:
        tree.add(f"[cyan]{role}[/cyan] @{card.sha256[:12]}  [dim]as above[/dim]")
        return
    seen.add(card.sha256)
    branch = tree.add(f"[cyan]{role}[/cyan] @{card.sha256[:12]}")
    for title, values in (("settings", card.settings), ("metrics", card.metrics)):
        if values:
            branch.add(f"[dim]{title}[/dim] " + ", ".join(f"{key}={_shown(value)}" for key, value in values.items()))
    for parent_role, parent in card.parents.items():
        _grow(branch, parent_role, parent, seen)


def _shown(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
