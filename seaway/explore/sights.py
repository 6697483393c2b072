"""The report's pictures: every class, copies side by side, blanks, strangers; each with the row to find it by."""

import numpy as np
from markupsafe import Markup

from seaway.data.data import Dataset
from seaway.explore import balance, pictures, tiles
from seaway.explore.analysis import Findings, Found, Stranger
from seaway.explore.copies import NEAR, Pair
from seaway.explore.strangers import FEW
from seaway.reporting import report

SAMPLES, ACROSS = 24, 8  # of each class
_SHEETS = 2_000_000  # pixels of all samples together, so that the page stays small
PAIRS, PAIRS_EACH = 32, 2  # shown of all copies, of each class
LISTED = 2000  # copies told by row
BLANKS = 32
ROWS = "Rows count from 0: numpy.load('train_images.npy', mmap_mode='r')[row], or test_images.npy, in the dataset."


def classes(dataset: Dataset, findings: Findings) -> list[Markup | str]:
    """A card for each class, folded by group."""
    rng = np.random.default_rng(0)
    height, width = findings.size
    samples = int(np.clip(_SHEETS // (len(findings.labels) * height * width) // ACROSS, 1, SAMPLES // ACROSS)) * ACROSS
    groups: dict[str, list[Markup]] = {name: [] for name in balance.GROUPS}
    for label, name in enumerate(findings.labels):
        where = np.flatnonzero(dataset.train_labels == label)
        chosen = np.sort(rng.choice(where, min(samples, len(where)), replace=False))
        groups[balance.group(name)].append(_card(findings, label, dataset.train_images[chosen]))
    intro = (
        "From the left: the mean of a class's training pictures; their standard deviation, twice as bright, which "
        f"shines where writers differ; up to {samples} of them, chosen at random."
    )
    folds = [
        tiles.fold(f"{name}: {len(cards)}", [tiles.columns(cards, "28.8rem")], opened=True)
        for name, cards in groups.items()
        if cards
    ]
    return [intro, *folds]


def _card(findings: Findings, label: int, samples: np.ndarray) -> Markup:
    name, size = findings.labels[label], findings.size
    mean = np.rint(findings.looks.mean[label]).astype(np.uint8)
    deviation = np.rint(np.minimum(2 * findings.looks.deviation[label], 255)).astype(np.uint8)
    return Markup(
        '<div style="display:flex;flex-wrap:wrap;gap:6px"><div style="width:3.2rem;line-height:1.2">'
        '<b style="font-size:1.3rem">{}</b><br><small>{:,}</small></div>{}{}{}</div>'
    ).format(
        name,
        int(findings.train[label]),
        tiles.image(mean, f"mean of {name}", size, 84),
        tiles.image(deviation, f"standard deviation of {name}", size, 84),
        tiles.image(tiles.sheet(samples, ACROSS), f"samples of {name}", size, 28),
    )


def copies(dataset: Dataset, findings: Findings) -> list[Markup | str]:
    found = findings.copies
    parts: list[Markup | str] = [
        f"A test and a training picture count as near copies if their pixels differ by at most {NEAR:.0%} of their "
        "ink: the sum of all differences, divided by the mean sum of either picture. A copy that was moved by a "
        "pixel or turned is not found so, and blank pictures are left out. Where a character is a mere line or "
        "ring, strangers come as close by chance, the more the larger the sets are; two S or two 4 hardly do."
    ]
    if found.across:
        parts += [_closeness(findings), _pairs(dataset, findings)]
    else:
        parts.append(report.verdict("no test picture has a copy or near copy in training", good=True))
    parts.append(f"Training pictures that repeat an earlier one byte by byte: {found.repeated:,}.")
    if found.disputed:
        shown = [_pair(dataset, findings, pair, "training") for pair in found.disputed[:PAIRS]]
        caption = f"The same picture under two labels in training, {len(shown):,} of {len(found.disputed):,}."
        parts.append(tiles.gallery(shown, caption, "9.5rem"))
    return parts


def _closeness(findings: Findings) -> Markup:
    pairs, test = findings.copies.across, int(findings.test.sum())
    rows = []
    for limit in (0, NEAR / 3, 2 * NEAR / 3, NEAR):
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
    headers = ["differ by", "test pictures", "of the test set", "label differs", "most of them"]
    return report.table(headers, rows)


def _pairs(dataset: Dataset, findings: Findings) -> Markup:
    pairs = findings.copies.across
    seen = np.zeros(len(findings.labels), np.int64)
    chosen: list[Pair] = []
    for pair in pairs:
        seen[pair.label] += 1
        if seen[pair.label] <= PAIRS_EACH and len(chosen) < PAIRS:
            chosen.append(pair)
    caption = (
        f"Test picture left, training picture right: the closest {len(chosen):,} of {len(pairs):,}, at most "
        f"{PAIRS_EACH} of a class. {ROWS}"
    )
    listed = "; ".join(f"{pair.row} = {pair.other_row}" for pair in pairs[:LISTED])
    summary = f"test row = training row, {min(LISTED, len(pairs)):,} of {len(pairs):,}"
    rows = tiles.fold(summary, [Markup('<p style="max-width:none"><small>{}</small></p>').format(listed)])
    return tiles.gallery([_pair(dataset, findings, pair, "test") for pair in chosen], caption, "9.5rem") + rows


def _pair(dataset: Dataset, findings: Findings, pair: Pair, part: str) -> Markup:
    shown = _image(dataset, findings, Found(part, pair.row, pair.label))
    other = _image(dataset, findings, Found("training", pair.other_row, pair.other_label))
    first, second = findings.labels[pair.label], findings.labels[pair.other_label]
    label = first if pair.label == pair.other_label else f"{first} | {second}, labels differ"
    apart = f"{pair.distance:.1%}, {pair.levels:.1f} levels a pixel" if pair.distance else "the same bytes"
    return tiles.tile([shown, other], [label, f"{part} {pair.row}", f"training {pair.other_row}", apart])


def blanks(dataset: Dataset, findings: Findings) -> list[Markup | str]:
    if not findings.blank:
        return [report.verdict("no blank picture", good=True)]
    rows = [
        [
            kind,
            pictures.BLANKS[kind],
            *(sum(picture.part == part for picture in found) for part in ("training", "test")),
        ]
        for kind, found in findings.blanks.items()
    ]
    shown = [picture for found in findings.blanks.values() for picture in found[:BLANKS]]
    caption = f"{len(shown):,} of {findings.blank:,}. {ROWS}"
    return [
        report.table(["kind", "what counts as one", "training", "test"], rows),
        tiles.gallery([_tile(dataset, findings, picture) for picture in shown], caption),
    ]


def strangers(dataset: Dataset, findings: Findings) -> list[Markup | str]:
    if not findings.farthest:
        return ["No class has enough pictures that differ from each other to tell."]
    distance = (
        "A picture's distance from its class is told against the mean image, each pixel in units of the class's spread "
        f"there. Classes with fewer than {FEW} training pictures are left out. This is an order to look in, not a "
        "verdict: what is far is a stray mark, a wrong crop, a wrong label, or only a rare way to write."
    )
    far = "The farthest from their class, in times the distance of the class's middle picture:"
    astray = "Farther from their own class than from another, in times, with that other after the arrow:"
    return [
        distance,
        tiles.gallery(_unlike(dataset, findings, findings.farthest), far),
        tiles.gallery(_unlike(dataset, findings, findings.astray, towards=True), astray),
        tiles.fold(
            "the farthest of every class", [tiles.gallery(_unlike(dataset, findings, findings.of_each_class), ROWS)]
        ),
    ]


def _unlike(dataset: Dataset, findings: Findings, found: tuple[Stranger, ...], towards: bool = False) -> list[Markup]:
    how = [
        f" → {findings.labels[one.other]}, {one.times:.1f} x" if towards else f", {one.times:.1f} x" for one in found
    ]
    return [_tile(dataset, findings, one.picture, more) for one, more in zip(found, how, strict=True)]


def _tile(dataset: Dataset, findings: Findings, picture: Found, more: str = "") -> Markup:
    shown = _image(dataset, findings, picture)
    return tiles.tile([shown], [findings.labels[picture.label] + more, f"{picture.part} {picture.row}"])


def _image(dataset: Dataset, findings: Findings, picture: Found) -> Markup:
    images = dataset.train_images if picture.part == "training" else dataset.test_images
    alt = f"{findings.labels[picture.label]}, {picture.part} {picture.row}"
    return tiles.image(np.asarray(images[picture.row]), alt, findings.size)
