"""The findings on a terminal or in a log: a table of groups, key figures, recommendations."""

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from seaway.explore import class_balance
from seaway.explore.analysis import Findings
from seaway.explore.recommendations import recommend


def print_summary(findings: Findings, console: Console) -> None:
    train, test = int(findings.train.sum()), int(findings.test.sum())
    table = Table("group")
    for heading in ("classes", "training", "test", "% of training", "% of test"):
        table.add_column(heading, justify="right")
    groups = class_balance.by_group(findings.labels, findings.train, findings.test)
    for name, (classes, group_train, group_test) in {**groups, "all": (len(findings.labels), train, test)}.items():
        shares = f"{group_train / train:.1%}", f"{group_test / test:.1%}"
        table.add_row(
            name, f"{classes:,}", f"{group_train:,}", f"{group_test:,}", *shares, end_section=name == [*groups][-1]
        )
    console.print(table)
    difference, imbalance = findings.difference, findings.imbalance
    console.print(
        Text(
            f"training : test images {findings.train_test_ratio:.1f} : 1; class distributions differ by "
            f"{difference.total_variation:.2%} (expected by chance: {difference.chance:.2%}); most common to rarest "
            f"class {imbalance.ratio:.1f} : 1 ({findings.labels[imbalance.most_common]}, "
            f"{findings.labels[imbalance.rarest]}); majority-class accuracy {imbalance.majority_accuracy:.1%}"
        )
    )
    for recommendation in recommend(findings):
        console.print(Text.assemble(("! ", "bold yellow"), (recommendation.finding, "bold")))
        console.print(Padding(Text(recommendation.action), (0, 0, 0, 2), expand=False))
