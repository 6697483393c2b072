"""The report on a dataset: recommendations, class counts, training vs. test set, image samples and problems."""

import numpy as np
from markupsafe import Markup

from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.data.datasets import Dataset
from seaway.explore import class_balance
from seaway.explore.analysis import Findings
from seaway.explore.recommendations import recommend
from seaway.explore.report import image_sections, plots
from seaway.reporting import report
from seaway.reporting.report import Section

EMNIST_SPLIT = 697_932 / 116_323  # ByClass
MAX_DIFFERENT = 5  # classes whose shares differ most


def render(dataset: Dataset, metadata: ArtifactMetadata, findings: Findings) -> str:
    """The whole page as HTML; reads a few hundred images."""
    sections = [
        Section("Summary", (_facts(findings), _recommendations(findings))),
        Section("Images by group and class", (plots.counts(findings), _by_group(findings))),
        Section("Training vs. test set", _difference(findings)),
        Section("Class imbalance", _imbalance(findings)),
        Section("Samples of each class", image_sections.class_samples(dataset, findings)),
        Section("Duplicates and train/test leakage", image_sections.duplicate_pairs(dataset, findings)),
        Section("Blank images", image_sections.blank_images(dataset, findings)),
        Section("Outliers and likely mislabelled images", image_sections.outlier_images(dataset, findings)),
        Section("Class counts", (report.fold("every class", [_table(findings)]),)),
    ]
    lead = f"From {metadata.settings['source']}, fingerprint {metadata.settings['fingerprint'][:12]}."
    return report.page(f"Dataset of {metadata.name}", sections, lead=lead)


def _facts(findings: Findings) -> Markup:
    height, width = findings.size
    return report.facts(
        {
            "training images": findings.train.sum(),
            "test images": findings.test.sum(),
            "training : test": f"{findings.train_test_ratio:.1f} : 1",
            "classes": len(findings.labels),
            "pixels": f"{height} x {width}",
            "most common to rarest": f"{findings.imbalance.ratio:.1f} : 1",
            "leaked test images": len(findings.duplicates.leaked),
        }
    )


def _recommendations(findings: Findings) -> Markup:
    rows = [[recommendation.finding, recommendation.action] for recommendation in recommend(findings)]
    if not rows:
        return report.paragraph(report.verdict("nothing unusual found", good=True))
    return report.table(["finding", "recommendation"], rows)


def _by_group(findings: Findings) -> Markup:
    groups = class_balance.by_group(findings.labels, findings.train, findings.test)
    rows = [
        [group, classes, train, test, f"{train / findings.train.sum():.1%}", f"{test / findings.test.sum():.1%}"]
        for group, (classes, train, test) in groups.items()
    ]
    headers = ["group", "classes", "training", "test", "% of training", "% of test"]
    return report.table(headers, rows)


def _difference(findings: Findings) -> list[Markup | str]:
    difference = findings.difference
    if difference.p_value > 0.99:
        meaning = "They are closer than chance would make them: the split was stratified by class."
    elif difference.within_chance:
        meaning = "Chance alone explains the difference."
    else:
        meaning = "Chance does not explain the difference: the sets were not split at random from one pool."
    strength = "negligible" if difference.cramers_v < 0.1 else "weak" if difference.cramers_v < 0.3 else "strong"
    facts = report.facts(
        {
            "total variation": f"{difference.total_variation:.2%}",
            "expected by chance": f"{difference.chance:.2%}",
            "95th percentile by chance": f"{difference.chance_95:.2%}",
            "chi-square": f"{difference.chi_square:,.0f}",
            "p": "< 0.001" if difference.p_value < 0.001 else f"{difference.p_value:.3f}",
            "Cramér's V": f"{difference.cramers_v:.3f}",
        }
    )
    shares = (
        f"There are {findings.train_test_ratio:.1f} training images per test image; EMNIST has {EMNIST_SPLIT:.1f}. "
        f"The total variation between their class distributions is {difference.total_variation:.2%}: so much of "
        "the test set would need another class for them to be equal. Two sets of these sizes drawn from one pool "
        f"differ by {difference.chance:.2%} on average. {meaning}"
    )
    terms = (
        f"Chi-square has {len(findings.labels) - 1} degrees of freedom; p is the fraction of "
        f"{class_balance.SIMULATIONS:,} simulated pairs of sets in which chance gives at least as much. Cramér's V, 0 "
        f"to 1, is the effect size, independent of the number of images: {strength}. The images' mean brightness, 0 to "
        f"255, is {findings.brightness[0]:.1f} in training and {findings.brightness[1]:.1f} in the test set."
    )
    most_different = [] if difference.within_chance else [_most_different(findings)]
    return [facts, shares, terms, plots.shares(findings), *most_different]


def _most_different(findings: Findings) -> Markup:
    residuals = findings.difference.residuals
    rows = [
        [
            findings.labels[label],
            f"{findings.train[label] / findings.train.sum():.2%}",
            f"{findings.test[label] / findings.test.sum():.2%}",
            f"{residuals[label]:+.1f}",
        ]
        for label in np.argsort(-np.abs(residuals), kind="stable")[:MAX_DIFFERENT]
    ]
    headers = ["class", "% of training", "% of test", "standardized residual (test)"]
    return report.table(headers, rows, caption="The classes that differ most")


def _imbalance(findings: Findings) -> list[Markup | str]:
    imbalance, classes = findings.imbalance, len(findings.labels)
    most_common, rarest = (f"“{findings.labels[label]}”" for label in (imbalance.most_common, imbalance.rarest))
    most, least = findings.train[imbalance.most_common], findings.train[imbalance.rarest]
    facts = report.facts(
        {
            "most common to rarest": f"{imbalance.ratio:.1f} : 1",
            "effective classes (exp of entropy)": f"{imbalance.effective_classes:.1f} of {classes}",
            "majority-class accuracy": f"{imbalance.majority_accuracy:.1%}",
            "ten most common, of training": f"{imbalance.top10_share:.1%}",
        }
    )
    explanation = (
        f"In an epoch a network sees {most_common} {most:,} times and {rarest} {least:,} times. The common classes "
        f"dominate its accuracy: always predicting {most_common} has an accuracy of {imbalance.majority_accuracy:.1%}, "
        f"but a balanced accuracy (the mean of the classes' recalls) of only {1 / classes:.1%}. The class counts have "
        f"the entropy of {imbalance.effective_classes:.1f} equally common classes."
    )
    if most == least:
        return [facts, "All classes have the same number of training images: nothing needs to be evened out."]
    rows = [
        [choice.name, choice.images, choice.most_common, choice.rarest, choice.effect] for choice in findings.samplings
    ]
    headers = ["sampling", "images per epoch", f"of {most_common}", f"of {rarest}", "effect"]
    caption = "An epoch with each sampling of the train stage, before the validation images are held out"
    return [facts, explanation, report.table(headers, rows, caption=caption)]


def _table(findings: Findings) -> Markup:
    train, test = findings.train, findings.test
    rows = [
        [label, n, m, f"{n / train.sum():.2%}", f"{m / test.sum():.2%}"]
        for label, n, m in zip(findings.labels, train, test, strict=True)
    ]
    return report.table(["class", "training", "test", "% of training", "% of test"], rows)
