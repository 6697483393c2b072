"""What the exploration found, on a terminal or in a log: a table of groups, one line of figures, what to look at."""

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from seaway.explore import balance
from seaway.explore.advice import advise
from seaway.explore.analysis import Findings


def tell(findings: Findings, console: Console) -> None:
    """Prints ten to twenty lines."""
    train, test = int(findings.train.sum()), int(findings.test.sum())
    table = Table("group")
    for heading in ("classes", "training", "test", "share of training", "share of test"):
        table.add_column(heading, justify="right")
    groups = balance.by_group(findings.labels, findings.train, findings.test)
    for name, (classes, of_train, of_test) in {**groups, "all": (len(findings.labels), train, test)}.items():
        shares = f"{of_train / train:.1%}", f"{of_test / test:.1%}"
        table.add_row(name, f"{classes:,}", f"{of_train:,}", f"{of_test:,}", *shares, end_section=name == [*groups][-1])
    console.print(table)
    found = findings.imbalance
    console.print(
        Text(
            f"training to test {findings.split:.1f} : 1, class shares {findings.difference.total_variation:.2%} apart "
            f"(by chance {findings.difference.chance:.2%}); most to least common {found.ratio:.1f} : 1 "
            f"({findings.labels[found.commonest]}, {findings.labels[found.rarest]}); "
            f"always the commonest {found.guess:.1%} accuracy"
        )
    )
    for advice in advise(findings):
        console.print(Text.assemble(("! ", "bold yellow"), (advice.found, "bold")))
        console.print(Padding(Text(advice.do), (0, 0, 0, 2), expand=False))
