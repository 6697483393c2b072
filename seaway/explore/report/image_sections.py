"""The report's image sections: samples of every class, duplicates, blanks and outliers, each image with its row."""

import numpy as np
from markupsafe import Markup

from seaway.data.datasets import Dataset
from seaway.explore import class_balance, statistics
from seaway.explore.analysis import Findings, ImageRef, Outlier
from seaway.explore.duplicates import MAX_DISTANCE, Pair
from seaway.explore.outliers import MIN_IMAGES
from seaway.explore.report import thumbnails
from seaway.reporting import report

SAMPLES, COLUMNS = 24, 8  # of each class
_SAMPLE_PIXELS = 2_000_000  # of all samples together, so that the page stays small
PAIRS, PAIRS_PER_CLASS = 32, 2  # of duplicates shown as images
MAX_ROWS = 2000  # of duplicates listed by row
BLANKS = 32
ROWS = Markup("Rows count from 0: {}, or {}, in the dataset.").format(
    report.code("numpy.load('train_images.npy', mmap_mode='r')[row]"), report.code("test_images.npy")
)


def class_samples(dataset: Dataset, findings: Findings) -> list[Markup | str]:
    """A block for each class, folded by group."""
    rng = np.random.default_rng(0)
    height, width = findings.size
    sample_rows = _SAMPLE_PIXELS // (len(findings.labels) * height * width) // COLUMNS
    samples = int(np.clip(sample_rows, 1, SAMPLES // COLUMNS)) * COLUMNS
    groups: dict[str, list[Markup]] = {name: [] for name in class_balance.GROUPS}
    for label, name in enumerate(findings.labels):
        rows = np.flatnonzero(dataset.train_labels == label)
        chosen = np.sort(rng.choice(rows, min(samples, len(rows)), replace=False))
        groups[class_balance.group(name)].append(_class(findings, label, dataset.train_images[chosen]))
    intro = (
        "From left to right: the mean of a class's training images; their standard deviation, twice as bright, which "
        f"is high where writers differ; and up to {samples} of them, chosen at random."
    )
    folds = [
        report.fold(f"{name}: {len(blocks)}", [thumbnails.columns(blocks, "28.8rem")], opened=True)
        for name, blocks in groups.items()
        if blocks
    ]
    return [intro, *folds]


def _class(findings: Findings, label: int, samples: np.ndarray) -> Markup:
    name, size = findings.labels[label], findings.size
    mean = np.rint(findings.statistics.mean[label]).astype(np.uint8)
    deviation = np.rint(np.minimum(2 * findings.statistics.deviation[label], 255)).astype(np.uint8)
    return thumbnails.TEMPLATES.render(
        "class",
        name=name,
        count=f"{findings.train[label]:,}",
        mean=thumbnails.image(mean, f"mean of {name}", size, 84),
        deviation=thumbnails.image(deviation, f"standard deviation of {name}", size, 84),
        samples=thumbnails.image(thumbnails.sheet(samples, COLUMNS), f"samples of {name}", size, 28),
    )


def duplicate_pairs(dataset: Dataset, findings: Findings) -> list[Markup | str]:
    duplicates = findings.duplicates
    parts: list[Markup | str] = [
        "A test and a training image are near duplicates if their pixels differ by at most "
        f"{MAX_DISTANCE:.0%} of their ink: the sum of all differences, divided by the mean ink of the two images. "
        "Duplicates that were shifted by a pixel or rotated are not found, and blank images are ignored. Unrelated "
        "images of a mere line or ring come this close by chance, more often in larger sets; of S or 4 they rarely do."
    ]
    if duplicates.leaked:
        parts += [_distances(findings), _pairs(dataset, findings)]
    else:
        parts.append(report.verdict("no test image has a duplicate or near duplicate in training", good=True))
    parts.append(f"Exact duplicates within the training set, not counting the first of each: {duplicates.repeated:,}.")
    if duplicates.conflicting_labels:
        shown = [_pair(dataset, findings, pair, "training") for pair in duplicates.conflicting_labels[:PAIRS]]
        caption = (
            f"Training images with conflicting labels: {len(shown):,} of {len(duplicates.conflicting_labels):,} pairs."
        )
        parts.append(thumbnails.gallery(shown, caption, "9.5rem"))
    return parts


def _distances(findings: Findings) -> Markup:
    pairs, test = findings.duplicates.leaked, int(findings.test.sum())
    rows = []
    for limit in (0, MAX_DISTANCE / 3, 2 * MAX_DISTANCE / 3, MAX_DISTANCE):
        near = [pair for pair in pairs if pair.distance <= limit]
        by_class = np.bincount([pair.label for pair in near], minlength=len(findings.labels))
        most = [label for label in np.argsort(-by_class, kind="stable")[:8] if by_class[label]]
        rows.append(
            [
                f"at most {limit:.0%} of the ink" if limit else "nothing",
                len(near),
                f"{len(near) / test:.2%}",
                sum(pair.label != pair.other_label for pair in near),
                ", ".join(f"{findings.labels[label]} {by_class[label]}" for label in most),
            ]
        )
    headers = ["differ by", "test images", "% of test", "different label", "most frequent classes"]
    return report.table(headers, rows)


def _pairs(dataset: Dataset, findings: Findings) -> Markup:
    pairs = findings.duplicates.leaked
    shown_of_class = np.zeros(len(findings.labels), np.int64)
    chosen: list[Pair] = []
    for pair in pairs:
        shown_of_class[pair.label] += 1
        if shown_of_class[pair.label] <= PAIRS_PER_CLASS and len(chosen) < PAIRS:
            chosen.append(pair)
    caption = Markup(
        "Test image on the left, training image on the right: the closest {:,} of {:,} pairs, at most {} per class. {}"
    ).format(len(chosen), len(pairs), PAIRS_PER_CLASS, ROWS)
    listed = "; ".join(f"{pair.row} = {pair.other_row}" for pair in pairs[:MAX_ROWS])
    summary = f"test row = training row, {min(MAX_ROWS, len(pairs)):,} of {len(pairs):,} pairs"
    rows = report.fold(summary, [thumbnails.TEMPLATES.render("rows", text=listed)])
    return thumbnails.gallery([_pair(dataset, findings, pair, "test") for pair in chosen], caption, "9.5rem") + rows


def _pair(dataset: Dataset, findings: Findings, pair: Pair, part: str) -> Markup:
    images = [
        _image(dataset, findings, ImageRef(part, pair.row, pair.label)),
        _image(dataset, findings, ImageRef("training", pair.other_row, pair.other_label)),
    ]
    first, second = findings.labels[pair.label], findings.labels[pair.other_label]
    label = first if pair.label == pair.other_label else f"{first} | {second}, labels differ"
    distance = f"{pair.distance:.1%}, {pair.levels:.1f} levels per pixel" if pair.distance else "identical bytes"
    return thumbnails.thumbnail(images, [label, f"{part} {pair.row}", f"training {pair.other_row}", distance])


def blank_images(dataset: Dataset, findings: Findings) -> list[Markup | str]:
    if not findings.blank_count:
        return [report.verdict("no blank images", good=True)]
    rows = [
        [
            kind,
            statistics.BLANKS[kind],
            *(sum(image.part == part for image in images) for part in ("training", "test")),
        ]
        for kind, images in findings.blanks.items()
    ]
    shown = [image for images in findings.blanks.values() for image in images[:BLANKS]]
    caption = Markup("{:,} of {:,} blank images. {}").format(len(shown), findings.blank_count, ROWS)
    return [
        report.table(["kind", "definition", "training", "test"], rows),
        thumbnails.gallery([_thumbnail(dataset, findings, image) for image in shown], caption),
    ]


def outlier_images(dataset: Dataset, findings: Findings) -> list[Markup | str]:
    if not findings.farthest:
        return ["No class has enough different images to find outliers."]
    intro = (
        "The distance of an image from a class is measured from the mean of the class's training images, each pixel in "
        f"units of its deviation there. Classes with fewer than {MIN_IMAGES} training images are left out. The order "
        "suggests where to look first and proves nothing: a distant image may have a stray mark, a wrong crop or a "
        "wrong label, or just show a rare way to write."
    )
    farthest = "Farthest from their class; the number is the distance relative to the class's median:"
    mislabelled = (
        "Likely mislabelled: nearer to another class (after the arrow); the number is the ratio of the distances:"
    )
    return [
        intro,
        thumbnails.gallery(_outliers(dataset, findings, findings.farthest), farthest),
        thumbnails.gallery(_outliers(dataset, findings, findings.likely_mislabelled, arrow=True), mislabelled),
        report.fold(
            "the farthest of every class",
            [thumbnails.gallery(_outliers(dataset, findings, findings.farthest_by_class), ROWS)],
        ),
    ]


def _outliers(dataset: Dataset, findings: Findings, outliers: tuple[Outlier, ...], arrow: bool = False) -> list[Markup]:
    return [
        _thumbnail(
            dataset,
            findings,
            outlier.image,
            (f" → {findings.labels[outlier.other]}" if arrow else "") + f", {outlier.distance:.1f} x",
        )
        for outlier in outliers
    ]


def _thumbnail(dataset: Dataset, findings: Findings, image: ImageRef, suffix: str = "") -> Markup:
    lines = [findings.labels[image.label] + suffix, f"{image.part} {image.row}"]
    return thumbnails.thumbnail([_image(dataset, findings, image)], lines)


def _image(dataset: Dataset, findings: Findings, image: ImageRef) -> Markup:
    images = dataset.train_images if image.part == "training" else dataset.test_images
    alt = f"{findings.labels[image.label]}, {image.part} {image.row}"
    return thumbnails.image(np.asarray(images[image.row]), alt, findings.size)
