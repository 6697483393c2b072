"""The report on a dataset: what stands out, how many of each class, training against test, and what they look like."""

import numpy as np
from markupsafe import Markup

from seaway.artifacts.card import Card
from seaway.data.data import Dataset
from seaway.explore import balance, plots, sights, tiles
from seaway.explore.advice import advise
from seaway.explore.analysis import Findings
from seaway.reporting import report
from seaway.reporting.report import Section

EMNIST_SPLIT = 697_932 / 116_323  # ByClass
DIFFERENT = 5  # classes whose shares differ most


def render(dataset: Dataset, card: Card, findings: Findings) -> str:
    """The whole page as HTML; reads a few hundred pictures."""
    sections = [
        Section("At a glance", (_facts(findings), _advice(findings))),
        Section("Counts by group and class", (plots.counts(findings), _by_group(findings))),
        Section("Training against test", _difference(findings)),
        Section("What the imbalance will do", _imbalance(findings)),
        Section("What the classes look like", sights.classes(dataset, findings)),
        Section("Copies in training and test set", sights.copies(dataset, findings)),
        Section("Blank pictures", sights.blanks(dataset, findings)),
        Section("Pictures unlike their class", sights.strangers(dataset, findings)),
        Section("Counts", (tiles.fold("every class", [_table(findings)]),)),
    ]
    lead = f"From {card.settings['source']}, fingerprint {card.settings['fingerprint'][:12]}."
    return report.page(f"Dataset of {card.name}", sections, lead=lead)


def _facts(findings: Findings) -> Markup:
    height, width = findings.size
    return report.facts(
        {
            "training pictures": findings.train.sum(),
            "test pictures": findings.test.sum(),
            "training to test": f"{findings.split:.1f} : 1",
            "classes": len(findings.labels),
            "pixels": f"{height} x {width}",
            "most to least common": f"{findings.imbalance.ratio:.1f} : 1",
            "test pictures copied": len(findings.copies.across),
        }
    )


def _advice(findings: Findings) -> Markup:
    rows = [[advice.found, advice.do] for advice in advise(findings)]
    if not rows:
        return Markup("<p>{}</p>").format(report.verdict("nothing stands out", good=True))
    return report.table(["what stands out", "what to do"], rows)


def _by_group(findings: Findings) -> Markup:
    rows = [
        [group, classes, train, test, f"{train / findings.train.sum():.1%}", f"{test / findings.test.sum():.1%}"]
        for group, (classes, train, test) in balance.by_group(findings.labels, findings.train, findings.test).items()
    ]
    headers = ["group", "classes", "training", "test", "share of training", "share of test"]
    return report.table(headers, rows)


def _difference(findings: Findings) -> list[Markup | str]:
    found = findings.difference
    if found.p_value > 0.99:
        meaning = "They are closer than chance would have it: the split was made class by class."
    elif found.by_chance:
        meaning = "That is what chance alone does."
    else:
        meaning = "That is more than chance: whoever split the data did not draw at random from one pool."
    strength = "a trace" if found.cramers_v < 0.1 else "weak" if found.cramers_v < 0.3 else "strong"
    facts = report.facts(
        {
            "total variation": f"{found.total_variation:.2%}",
            "by chance": f"{found.chance:.2%}",
            "19 of 20 times below": f"{found.chance_95:.2%}",
            "chi-square": f"{found.chi_square:,.0f}",
            "p": "< 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}",
            "Cramér's V": f"{found.cramers_v:.3f}",
        }
    )
    words = (
        f"{findings.split:.1f} training pictures for each test picture; EMNIST has {EMNIST_SPLIT:.1f}. The class "
        f"shares of the two sets are {found.total_variation:.2%} apart: so much of the test set would have to be of "
        f"another class for them to be equal. Two sets of these sizes drawn from one pool are {found.chance:.2%} "
        f"apart on average. {meaning}"
    )
    terms = (
        f"Chi-square has {len(findings.labels) - 1} degrees of freedom; p is how often chance gives as much, in "
        f"{balance.DRAWS:,} simulated pairs of sets. Cramér's V, 0 to 1, is the strength of the difference whatever "
        f"the number of pictures: {strength}. The pictures' mean brightness, 0 to 255, is {findings.brightness[0]:.1f} "
        f"in training and {findings.brightness[1]:.1f} in the test set."
    )
    return [facts, words, terms, plots.shares(findings), *([] if found.by_chance else [_most_different(findings)])]


def _most_different(findings: Findings) -> Markup:
    residuals = findings.difference.residuals
    rows = [
        [
            findings.labels[label],
            f"{findings.train[label] / findings.train.sum():.2%}",
            f"{findings.test[label] / findings.test.sum():.2%}",
            f"{residuals[label]:+.1f}",
        ]
        for label in np.argsort(-np.abs(residuals), kind="stable")[:DIFFERENT]
    ]
    headers = ["class", "share of training", "share of test", "test count, in deviations of chance"]
    return report.table(headers, rows, caption="The classes that differ most")


def _imbalance(findings: Findings) -> list[Markup | str]:
    found, classes = findings.imbalance, len(findings.labels)
    commonest, rarest = (f"“{findings.labels[label]}”" for label in (found.commonest, found.rarest))
    most, least = findings.train[found.commonest], findings.train[found.rarest]
    facts = report.facts(
        {
            "most to least common": f"{found.ratio:.1f} : 1",
            "effective classes": f"{found.effective:.1f} of {classes}",
            "accuracy of always the commonest": f"{found.guess:.1%}",
            "of training in the ten commonest": f"{found.ten:.1%}",
        }
    )
    words = (
        f"In an epoch a network sees {commonest} {most:,} times and {rarest} {least:,} times. Its accuracy is made "
        f"of the common classes: to answer always {commonest} scores {found.guess:.1%}, but {1 / classes:.1%} of "
        f"balanced accuracy, the mean of the classes' recalls. The counts have the entropy of {found.effective:.1f} "
        "equally common classes."
    )
    if most == least:
        return [facts, "Every class is as common as any other: there is nothing to even out."]
    rows = [
        [choice.name, choice.pictures, choice.commonest, choice.rarest, choice.what] for choice in findings.samplings
    ]
    headers = ["--sampling", "pictures an epoch", f"of {commonest}", f"of {rarest}", ""]
    caption = "What the train stage's --sampling makes of an epoch, before the share for validation is held back"
    return [facts, words, report.table(headers, rows, caption=caption)]


def _table(findings: Findings) -> Markup:
    train, test = findings.train, findings.test
    rows = [
        [label, n, m, f"{n / train.sum():.2%}", f"{m / test.sum():.2%}"]
        for label, n, m in zip(findings.labels, train, test, strict=True)
    ]
    return report.table(["class", "training", "test", "share of training", "share of test"], rows)
