"""The page at GET / in a real Chromium, on a real server with small ONNX models whose answers are known.

`shapes` tells a vertical line, a horizontal line and a ring apart, by templates instead of training.
"""

import base64
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

from seaway.artifacts import artifact_metadata, model_repository
from seaway.artifacts import golden as goldens
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor, Tolerance

sync_api = pytest.importorskip("playwright.sync_api", reason="the page is tested with PyPI's playwright; make test")
expect = sync_api.expect
expect.set_options(timeout=30_000)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH: install Debian's package chromium")

ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PAGE = Path(__file__).parents[3] / "seaway" / "serve" / "page"
EXAMPLE = PAGE.parents[1] / "example" / "characters"
LABELS = ("I", "<b>dash</b>", "O")  # a label is text, whatever it looks like
PORTRAIT, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


# ---- models


def templates() -> np.ndarray:
    """float32 [784, 3]: the ink of a glyph that fills 24 of 28 px, one column per label."""
    y, x = np.mgrid[:28, :28] - 13.5
    wanted = np.stack([abs(x) < 2, abs(y) < 2, abs(np.hypot(x, y) - 10.5) < 2.5], axis=-1)
    return np.where(wanted, 0.03, -0.02).astype(np.float32).reshape(784, 3)


def shapes(softmax: bool) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Reshape", ["image", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "weights"], ["logits" if softmax else "scores"]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["scores"], axis=1))
    constants = {"flat": np.array([-1, 784]), "weights": templates()}
    return model(nodes, constants, [("image", "float32", (None, 28, 28, 1))], [("scores", "float32", (None, 3))])


def total() -> onnx.ModelProto:
    """total = the sum of each row of a, plus b; not an image classifier."""
    nodes = [
        helper.make_node("ReduceSum", ["a", "axes"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["b"], ["more"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["sum", "more"], ["total"]),
    ]
    inputs = [("a", "float32", (None, 2)), ("b", "int32", (None,))]
    return model(nodes, {"axes": np.array([1])}, inputs, [("total", "float32", (None,))])


def model(nodes, constants, inputs, outputs) -> onnx.ModelProto:
    def infos(tensors):
        return [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
            for name, dtype, shape in tensors
        ]

    kept = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "model", infos(inputs), infos(outputs), kept)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def publish(repository: Path, name: str, made: onnx.ModelProto, golden: goldens.Golden, labels=()) -> int:
    def tensors(infos):
        return tuple(
            Tensor(
                info.name,
                helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type).name,
                tuple(side.dim_value or None for side in info.type.tensor_type.shape.dim),
            )
            for info in infos
        )

    def fill(folder: Path) -> None:
        extra = folder / model_repository.EXTRA
        extra.mkdir()
        onnx.save(made, extra / "model.onnx")
        goldens.write(extra / goldens.GOLDEN, golden)
        inputs, outputs = tensors(made.graph.input), tensors(made.graph.output)
        tolerances = {output.name: Tolerance(1e-4, 1e-4) for output in outputs}
        artifact_metadata.write(
            folder,
            ArtifactMetadata("version", name, inputs, outputs, labels, tolerances),
            at=model_repository.METADATA_FILE,
        )

    return model_repository.publish(repository, name, fill)


def publish_shapes(repository: Path, name: str = "shapes", softmax: bool = True, labels=LABELS) -> int:
    image = np.zeros((2, 28, 28, 1), np.float32)
    image[1, 2:26, 13:15] = 1
    scores = image.reshape(2, 784) @ templates()
    if softmax:
        scores = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return publish(repository, name, shapes(softmax), goldens.Golden({"image": image}, {"scores": scores}), labels)


def tenure() -> onnx.ModelProto:
    """scores = softmax of the input; not an image classifier."""
    nodes = [helper.make_node("Softmax", ["numbers"], ["scores"], axis=1)]
    return model(nodes, {}, [("numbers", "float32", (None, 4))], [("scores", "float32", (None, 4))])


def publish_tenure(repository: Path) -> int:
    numbers = np.float32([[1, 2, 3, 4], [0, 0, 0, 9]])
    scores = np.exp(numbers) / np.exp(numbers).sum(1, keepdims=True)
    labels = ("stays", "<b>leaves</b>", "returns", "complains")
    return publish(repository, "tenure", tenure(), goldens.Golden({"numbers": numbers}, {"scores": scores}), labels)


def publish_total(repository: Path) -> int:
    inputs = {"a": np.float32([[1, 2]]), "b": np.int32([3])}
    return publish(repository, "total", total(), goldens.Golden(inputs, {"total": np.float32([6])}))


# ---- a server, a browser, a page


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    repository = tmp_path_factory.mktemp("page")
    publish_shapes(repository)
    publish_shapes(repository, "raw", softmax=False, labels=())
    publish_total(repository)
    publish_tenure(repository)
    shutil.copytree(EXAMPLE, repository / EXAMPLE.name)
    return repository


@pytest.fixture(scope="module")
def site(repository, server_class):
    """The address of a server with all models; tests do not change its repository."""
    running = server_class(repository, "--backend", "onnx")
    try:
        running.wait_ready()
        yield running.url
    finally:
        assert running.stop() == 0


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Opens a page in a new context. Browser errors and CSP violations fail the test."""
    opened, complaints = [], []

    def visit(url: str, expected: str = "", **options):
        page = browser.new_context(**{"viewport": PORTRAIT, **options}).new_page()
        opened.append(page)
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: heard(message, expected))
        page.add_init_script("addEventListener('securitypolicyviolation', e => console.error('CSP', e.blockedURI))")
        reply = page.goto(url)
        assert reply.headers["content-security-policy"].startswith("default-src 'self'")
        return page

    def heard(message, expected):
        if message.type in ("error", "warning") and not (expected and re.search(expected, message.text)):
            complaints.append(message.text)

    yield visit
    for page in opened:
        page.context.close()
    assert not complaints


def line(page, *points) -> None:
    """Draws through points given as fractions of the drawing area."""
    expect(page.locator("#canvas")).to_be_visible()
    box = page.locator("#canvas").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=12)
    page.mouse.up()


def ring(page, radius=0.3) -> None:
    angles = np.linspace(0, 2 * np.pi, 40)
    line(page, *zip(0.5 + radius * np.cos(angles), 0.5 + radius * np.sin(angles), strict=True))


DOWN, ACROSS = [(0.3, 0.15), (0.3, 0.85)], [(0.2, 0.7), (0.6, 0.7)]


def seen(page) -> np.ndarray:
    """uint8 [28, 28]: the model's input as the page shows it."""
    address = page.evaluate("document.getElementById('seen').toDataURL()")
    image = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    assert image.size == (28, 28)
    return np.asarray(image.convert("L"))


def ink_box(image: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(image.max(1) > 60)[0], np.nonzero(image.max(0) > 60)[0]
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def expect_best(page, label: str) -> None:
    expect(page.locator("#answer:not(.old) #best")).to_have_text(label)


def bars(page) -> list[tuple[str, str]]:
    """(label, probability) by rank."""
    rows = page.locator(".bar").all()
    ranked = sorted(rows, key=lambda row: int(row.evaluate("e => e.style.getPropertyValue('--rank')")))
    return [(row.locator(".bar-label").inner_text(), row.locator(".bar-value").inner_text()) for row in ranked]


def png(size=(300, 200), ink=(40, 30, 30), paper=(235, 230, 220), box=(60, 40, 72, 150), form="PNG") -> bytes:
    image = Image.new("RGB", size, paper)
    ImageDraw.Draw(image).rectangle(box, fill=ink)
    written = io.BytesIO()
    image.save(written, form)
    return written.getvalue()


def hand_over(page, event: str, content: bytes, name: str, kind: str) -> None:
    """Drops or pastes a file, as the browser passes it to the page."""
    page.evaluate(
        """([event, bytes, name, type]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name, { type }));
            const target = document.getElementById("canvas");
            const shared = { bubbles: true, cancelable: true };
            target.dispatchEvent(event === "drop"
                ? new DragEvent("drop", { ...shared, dataTransfer: data })
                : new ClipboardEvent("paste", { ...shared, clipboardData: data }));
        }""",
        [event, list(content), name, kind],
    )


# ---- drawing


def test_drawing_shows_probabilities_version_and_time(site, visit):
    page = visit(f"{site}/#shapes")
    expect(page.locator("#sure")).to_have_text("Nothing drawn yet")
    line(page, *DOWN)
    expect_best(page, "I")
    assert re.fullmatch(r"shapes/1 · \d+(\.\d)? ms", page.inner_text("#by"))
    labels, shares = zip(*bars(page), strict=True)
    assert set(labels) == set(LABELS) and labels[0] == "I"
    assert page.locator(".bar b").count() == 0
    numbers = [float(share.removesuffix("%").removeprefix("> ")) for share in shares]
    assert numbers == sorted(numbers, reverse=True) and sum(numbers) == pytest.approx(100, abs=0.3)
    expect(page.locator("#spoken")).to_contain_text("I ")
    page.click("#clear")
    line(page, *ACROSS)
    expect_best(page, "<b>dash</b>")
    page.click("#clear")
    ring(page)
    expect_best(page, "O")


def test_what_the_model_sees_is_centred_and_fills_24_of_28_pixels(site, visit):
    page = visit(f"{site}/#shapes")
    line(page, (0.1, 0.1), (0.1, 0.4))
    expect_best(page, "I")
    top, bottom, left, right = ink_box(seen(page))
    assert (top, bottom) == (2, 25)
    assert left + right == 27 and 2 <= right - left <= 4
    page.click("#clear")
    line(page, (0.7, 0.7))  # a dot stays a dot
    expect(page.locator("#answer:not(.old) .bar")).to_have_count(3)
    top, bottom, _, _ = ink_box(seen(page))
    assert 2 <= bottom - top <= 4


def test_undo_removes_a_stroke_and_clear_everything(site, visit):
    page = visit(f"{site}/#shapes")
    expect(page.locator("#undo")).to_be_disabled()
    line(page, *DOWN)
    expect_best(page, "I")
    before = seen(page)
    line(page, *ACROSS)
    expect(page.locator("#answer:not(.old)")).to_be_visible()
    page.click("#undo")
    expect_best(page, "I")
    assert np.array_equal(seen(page), before)
    line(page, *ACROSS)
    page.keyboard.press("Control+z")
    expect_best(page, "I")
    page.click("#clear")
    expect(page.locator("#sure")).to_have_text("Nothing drawn yet")
    assert not seen(page).any() and page.locator(".bar").count() == 0


def test_one_request_at_a_time_and_the_last_drawing_wins(site, visit):
    page = visit(f"{site}/#shapes")
    expect(page.locator("#hint")).to_be_visible()
    flying, most, bodies = set(), 0, []

    def began(request):
        nonlocal most
        if ":predict" in request.url:
            flying.add(request)
            bodies.append(request.post_data)
            most = max(most, len(flying))

    page.on("request", began)
    page.on("requestfinished", lambda request: flying.discard(request))
    for _ in range(5):
        line(page, (0.1, 0.2), (0.9, 0.3), (0.1, 0.5), (0.9, 0.8))
    page.click("#clear")
    line(page, *DOWN)
    expect_best(page, "I")
    assert most == 1 and len(bodies) > 3
    sent = np.float32(json.loads(bodies[-1])["instances"]).reshape(28, 28)
    assert np.array_equal(sent, np.float32(seen(page)) / np.float32(255))


def test_a_finger_and_a_pen_draw_without_scrolling(site, visit):
    page = visit(f"{site}/#shapes", viewport=PHONE, has_touch=True, is_mobile=True)
    expect(page.locator("#hint")).to_be_visible()
    box = page.locator("#canvas").bounding_box()
    x, tops = box["x"] + box["width"] / 2, np.linspace(box["y"] + 30, box["y"] + box["height"] - 30, 12)
    devtools = page.context.new_cdp_session(page)
    touch = "Input.dispatchTouchEvent"
    devtools.send(touch, {"type": "touchStart", "touchPoints": [{"x": x, "y": tops[0]}]})
    for y in tops[1:]:
        devtools.send(touch, {"type": "touchMove", "touchPoints": [{"x": x, "y": y}]})
    devtools.send(touch, {"type": "touchEnd", "touchPoints": []})
    expect_best(page, "I")
    assert page.evaluate("scrollY") == 0
    page.click("#clear")
    for kind, place in (("mousePressed", tops[-1]), ("mouseMoved", tops[0]), ("mouseReleased", tops[0])):
        pen = {"type": kind, "x": x, "y": place, "button": "left", "buttons": 1, "pointerType": "pen"}
        devtools.send("Input.dispatchMouseEvent", {**pen, "clickCount": 1})
    expect_best(page, "I")


def test_the_keyboard_draws_and_reaches_every_control(site, visit):
    page = visit(f"{site}/#shapes")
    expect(page.locator("#hint")).to_be_visible()
    ringed = """() => {
        const { id, parentElement } = document.activeElement; // the file's and the canvas's focus is shown around them
        const around = [getComputedStyle(document.activeElement), getComputedStyle(parentElement)];
        const paper = getComputedStyle(parentElement, "::after").borderTopWidth === "3px";
        return [id, paper || around.some((style) => style.outlineStyle + style.outlineWidth === "solid3px")];
    }"""
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(ringed)[0])
        assert page.evaluate(ringed)[1] or reached[-1] == "", reached
    assert {"model", "canvas", "file", "tab-curl", "copy"} <= set(reached)
    page.focus("#canvas")
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Space")
    expect(page.locator("#spoken")).to_have_text("pen down")
    for _ in range(10):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect_best(page, "I")
    page.keyboard.press("Delete")
    expect(page.locator("#sure")).to_have_text("Nothing drawn yet")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    expect_best(page, "<b>dash</b>")
    page.keyboard.press("Backspace")
    expect(page.locator("#sure")).to_have_text("Nothing drawn yet")
    page.focus("#tab-curl")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-Python")).to_be_focused()
    expect(page.locator("#code")).to_contain_text("urllib.request")


# ---- images


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_an_image_is_inverted_cropped_and_centred(site, visit, how):
    page = visit(f"{site}/#shapes")
    expect(page.locator("#hint")).to_be_visible()
    hand_over(page, how, png(form="JPEG"), "line.jpg", "image/jpeg")
    expect_best(page, "I")
    image = seen(page)
    top, bottom, left, right = ink_box(image)
    assert (top, bottom) == (2, 25) and left + right == 27
    assert image[:, :8].max() < 30 and image[14, 14] > 230
    page.click("#undo")
    expect(page.locator("#sure")).to_have_text("Nothing drawn yet")


def test_ctrl_v_pastes_an_image_from_the_clipboard(site, visit):
    page = visit(f"{site}/#shapes", permissions=["clipboard-read", "clipboard-write"])
    expect(page.locator("#hint")).to_be_visible()
    page.evaluate(
        """async (bytes) => {
            const png = new Blob([new Uint8Array(bytes)], { type: "image/png" });
            await navigator.clipboard.write([new ClipboardItem({ "image/png": png })]);
        }""",
        list(png(box=(100, 95, 220, 107))),
    )
    page.keyboard.press("Control+v")
    expect_best(page, "<b>dash</b>")


def test_an_image_of_the_model_s_size_is_used_as_is_and_can_be_drawn_on(site, visit):
    page = visit(f"{site}/#shapes")
    pixels = np.zeros((28, 28), np.uint8)
    pixels[3:20, 5:8] = np.arange(17, dtype=np.uint8)[:, np.newaxis] + 100
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    page.set_input_files("#file", {"name": "small.png", "mimeType": "image/png", "buffer": written.getvalue()})
    expect(page.locator("#answer:not(.old) .bar")).to_have_count(3)
    assert np.array_equal(seen(page), pixels)
    line(page, (0.9, 0.1), (0.9, 0.9))
    expect(page.locator("#answer:not(.old)")).to_be_visible()
    assert not np.array_equal(seen(page), pixels)


def test_transparent_and_broken_images(site, visit):
    page = visit(f"{site}/#shapes")
    expect(page.locator("#hint")).to_be_visible()
    hand_over(page, "drop", b"no image at all", "notes.txt", "text/plain")
    expect(page.locator("#complaint")).to_have_text("notes.txt is not an image that this browser can read.")
    for ink in ((0, 0, 0, 255), (255, 255, 255, 255)):
        image = Image.new("RGBA", (90, 90), (0, 0, 0, 0))
        ImageDraw.Draw(image).rectangle((40, 10, 47, 80), fill=ink)
        written = io.BytesIO()
        image.save(written, "PNG")
        hand_over(page, "drop", written.getvalue(), "ink.png", "image/png")
        expect_best(page, "I")
        expect(page.locator("#complaint")).to_be_hidden()
        assert seen(page)[:, 13:15].min(1)[3:25].min() > 200
        page.click("#clear")
        expect(page.locator("#sure")).to_have_text("Nothing drawn yet")


def test_raw_scores_are_shown_unchanged(site, visit):
    page = visit(f"{site}/#raw")
    line(page, *DOWN)
    expect_best(page, "0")  # no labels: the class's number
    expect(page.locator("#scale")).to_be_visible()
    assert all(not share.endswith("%") for _, share in bars(page))


# ---- versions come and go, servers too


def test_a_new_version_is_noticed_and_can_be_selected(tmp_path, start, visit):
    publish_shapes(tmp_path)
    server = start(tmp_path, "--backend", "onnx")
    server.wait_ready()
    page = visit(server.url)
    line(page, *DOWN)
    expect_best(page, "I")
    expect(page.locator("#pick-version")).to_be_hidden()
    publish_shapes(tmp_path, labels=("one", "two", "three"))
    expect(page.locator("#notice")).to_have_text("This page now uses version 2 instead of version 1.")
    expect_best(page, "one")
    expect(page.locator("#by")).to_contain_text("shapes/2 · ")
    model_repository.set_label(tmp_path, "shapes", "first", 1)
    page.select_option("#version", label="first (1)")
    expect_best(page, "I")
    expect(page.locator("#code")).to_contain_text("/v1/models/shapes/labels/first:predict")
    page.select_option("#version", label="version 2")
    expect_best(page, "one")
    expect(page.locator("#code")).to_contain_text("/v1/models/shapes/versions/2:predict")
    page.reload()  # the address keeps the choice
    expect(page.locator("#version")).to_have_value("shapes/versions/2")
    page.select_option("#version", label="default (2)")
    line(page, *DOWN)
    expect_best(page, "one")
    model_repository.set_label(tmp_path, "shapes", "stable", 1)
    expect(page.locator("#notice")).to_have_text("This page now uses version 1 instead of version 2.")
    expect_best(page, "I")


def test_a_selected_version_that_is_unloaded_is_replaced_by_the_default(tmp_path, start, visit):
    publish_shapes(tmp_path)
    publish_shapes(tmp_path, labels=("one", "two", "three"))
    model_repository.set_label(tmp_path, "shapes", "first", 1)
    server = start(tmp_path, "--backend", "onnx")
    server.wait_ready()
    server.wait(lambda: server.states("shapes").get(1) == "AVAILABLE")
    page = visit(f"{server.url}/#shapes/versions/1", expected="404")
    line(page, *DOWN)
    expect_best(page, "I")
    model_repository.set_label(tmp_path, "shapes", "first", 2)  # nothing needs version 1 any more
    expect(page.locator("#notice")).to_have_text(
        "version 1 is not served any more; this page now uses the default version."
    )
    expect_best(page, "one")


def test_a_server_that_stops_and_returns(tmp_path, start, visit):
    publish_shapes(tmp_path)
    server = start(tmp_path, "--backend", "onnx")
    server.wait_ready()
    page = visit(server.url, expected="Failed to load resource")
    line(page, *DOWN)
    expect_best(page, "I")
    assert server.stop() == 0
    expect(page.locator("#banner")).to_contain_text("The server does not respond.")
    expect(page.locator("#state")).to_have_text("gone")
    page.click("#clear")
    line(page, *ACROSS)  # drawing still works
    expect(page.locator("#answer.old")).to_be_visible()
    back = start(tmp_path, "--backend", "onnx", "--port", str(server.port))
    back.wait_ready()
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("#state")).to_have_text("serving")
    expect_best(page, "<b>dash</b>")


def test_an_empty_server_says_so_until_a_model_arrives(tmp_path, start, visit):
    server = start(tmp_path, "--backend", "onnx")
    page = visit(server.url)
    expect(page.locator("#banner")).to_contain_text("Nothing is served yet.")
    publish_shapes(tmp_path)
    expect(page.locator("#banner")).to_be_hidden()
    line(page, *DOWN)
    expect_best(page, "I")


def test_a_version_that_failed_shows_its_error_as_text(tmp_path, start, visit):
    publish_shapes(tmp_path)
    publish_shapes(tmp_path)
    broken = model_repository.path(tmp_path, "shapes", 2) / model_repository.EXTRA / "model.onnx"
    broken.write_bytes(b"<img src=x onerror=alert(1)>")
    server = start(tmp_path, "--backend", "onnx")
    page = visit(server.url)
    expect(page.locator("#served .end")).to_contain_text("END")
    expect(page.locator("#served .end small")).not_to_be_empty()
    assert page.locator("#served img").count() == 0


# ---- other models


def test_a_model_that_is_not_an_image_classifier_has_a_form(site, visit):
    page = visit(f"{site}/#total", expected="400")
    expect(page.locator("#classifier")).to_be_hidden()
    expect(page.locator("#tensors tr")).to_have_text(["inafloat32 [any, 2]", "inbint32 [any]", "outtotalfloat32 [any]"])
    expect(page.locator("#field-0")).to_have_value("[[0.0, 0.0]]")
    expect(page.locator("#field-1")).to_have_value("[0]")
    page.click("text=Send")
    expect(page.locator("#output")).to_have_text('{ "outputs": [0.0] }')
    page.fill("#field-0", "[[1, 2.5], [3, 4]]")
    page.fill("#field-1", "[10, 20]")
    page.click("text=Send")
    expect(page.locator("#output")).to_have_text('{ "outputs": [13.5, 27.0] }')
    expect(page.locator("#form-by")).to_have_text(re.compile(r"total/1 · \d+(\.\d)? ms"))
    page.fill("#field-1", '["<b>ten</b>"]')
    page.click("text=Send")
    expect(page.locator("#form-by")).to_have_text("error 400")
    expect(page.locator("#output")).to_contain_text("<b>ten</b>")
    page.fill("#field-1", "[1, 2")
    expect(page.locator("#code")).to_have_text(re.compile("^# b: .*JSON"))
    page.click("text=Send")
    expect(page.locator("#form-by")).to_have_text("not sent")
    expect(page.locator("#output")).to_have_text(re.compile("^b: .*JSON"))
    page.select_option("#model", "shapes")
    expect(page.locator("#canvas")).to_be_visible()


def test_the_form_shows_the_best_labels_of_each_row(site, visit):
    page = visit(f"{site}/#tenure", expected="400")
    expect(page.locator("#subtitle")).to_have_text("version 1 · 4 classes · 2 signatures")
    expect(page.locator("#labels")).to_be_hidden()
    page.fill("#field-0", "[[0, 9, 0, 0], [1, 2, 3, 4]]")
    for signature in ("label", "serving_default"):
        page.select_option("#signature", signature)
        expect(page.locator("#field-0")).to_have_value("[[0, 9, 0, 0], [1, 2, 3, 4]]")
        page.click("text=Send")
        expect(page.locator("#labels")).to_be_visible()
        rows = page.locator("#labels tr")
        expect(rows.nth(0)).to_have_text(re.compile(r"0<b>leaves</b>> 99\.9%stays 0\.0% · "))
        expect(rows.nth(1)).to_have_text("1complains64.4%returns 23.7% · <b>leaves</b> 8.7% · stays 3.2%")
        expect(page.locator("#output")).to_contain_text("outputs")
    page.fill("#field-0", "[[0]]")
    page.click("text=Send")
    expect(page.locator("#form-by")).to_have_text("error 400")
    expect(page.locator("#labels")).to_be_hidden()


# ---- lines to copy


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Path:
    """A folder for the page's code, with an environment whose Python has no packages."""
    folder = tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True, timeout=60)
    return folder


def run(text: str, folder: Path, page, tab: str) -> str:
    """The output of the page's code, in a shell or a Python without packages; no variables of this process."""
    saved = page.locator("#save")
    if saved.is_visible():
        with page.expect_download() as download:
            saved.click()
        download.value.save_as(folder / download.value.suggested_filename)
    clean = {name: value for name, value in os.environ.items() if re.match("PIP_|SSL_|(https?|no)_proxy$", name, re.I)}
    clean |= {"PATH": f"{folder / 'env' / 'bin'}:/usr/bin:/bin", "HOME": str(folder)}
    command = ["python3" if tab == "Python" else "bash", "-c", text]
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{tab}: {done.stderr}"
    return done.stdout


def copied(page, tab: str) -> str:
    page.click(f"role=tab[name='{tab}']")
    page.click("#copy")
    expect(page.locator("#copy")).to_have_text("Copied")
    return page.evaluate("navigator.clipboard.readText()")


TABS = ("curl", "Python", "Open Inference", "GraphPipe")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["shapes", EXAMPLE.name])
def test_the_code_works_when_pasted(site, visit, empty, model):
    page = visit(f"{site}/#{model}", permissions=["clipboard-read", "clipboard-write"])
    line(page, *DOWN)
    expect(page.locator("#answer:not(.old) .bar").first).to_be_visible()
    expect(page.locator("#code-note")).to_have_text("This code sends the drawing above.")
    share = float(bars(page)[0][1].removesuffix("%").removeprefix("> ")) / 100
    for tab in TABS:
        answer = run(copied(page, tab), empty, page, tab)
        scores = [float(number) for number in re.findall(r"\d\.\d+(?:e-?\d+)?", answer)]
        assert any(score == pytest.approx(share, abs=6e-4) for score in scores), (tab, answer)


@pytest.mark.slow
def test_the_code_of_a_form_works_when_pasted(site, visit, empty):
    page = visit(f"{site}/#total", permissions=["clipboard-read", "clipboard-write"])
    page.fill("#field-0", "[[1, 2.5],\n [3, 4]]")
    page.fill("#field-1", "[10, 20]")
    expect(page.locator("#code")).to_contain_text("[10, 20]")
    for tab in TABS:
        answer = run(copied(page, tab), empty, page, tab)
        assert re.search(r"\[\s*13\.5,?\s*27(\.0?)?\s*\]", answer), (tab, answer)


# ---- behind a gateway that serves it at a path


@pytest.fixture
def gateway(site) -> Iterator[str]:
    """The address of a reverse proxy that serves `site` at /models/, and nothing else."""

    class Forward(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith("/models/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
            request = urllib.request.Request(site + self.path.removeprefix("/models"), body, method=self.command)
            for name in ("Accept", "Content-Type"):
                if name in self.headers:
                    request.add_header(name, self.headers[name])
            with urllib.request.urlopen(request, timeout=30) as reply:
                content = reply.read()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forward) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/models"
        server.shutdown()


def test_the_page_and_the_docs_work_at_a_path(gateway, visit):
    page = visit(f"{gateway}/#shapes", permissions=["clipboard-read", "clipboard-write"])
    line(page, *DOWN)
    expect_best(page, "I")
    assert f"{gateway}/v1/models/shapes:predict" in copied(page, "curl")
    page.click("text=API")
    expect(page).to_have_url(f"{gateway}/docs")
    page.click("#oipServerReady > summary")
    operation = page.locator("#oipServerReady")
    expect(operation.locator("pre").first).to_contain_text(f"{gateway}/v2/health/ready")
    operation.locator("button.send").click()
    expect(operation.get_by_label("Response")).to_have_text('{"ready":true}')
    page.click("header a:has-text('Seaway')")
    expect(page).to_have_url(re.compile(f"{gateway}/.*"))
    expect(page.locator("#canvas")).to_be_visible()


# ---- looks


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_there_is_one_column_with_large_targets(site, visit, width):
    page = visit(f"{site}/#shapes", viewport={"width": width, "height": 800}, has_touch=True, is_mobile=True)
    line(page, *DOWN)
    expect_best(page, "I")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    canvas, answer = (page.locator(name).bounding_box() for name in ("#canvas", "#answer"))
    assert canvas["width"] > width - 40 and answer["y"] > canvas["y"] + canvas["height"]
    for target in page.locator("button:visible, select:visible, label.button:visible").all():
        assert target.bounding_box()["height"] >= 44, target.inner_text()
    assert page.locator(".bar-track").first.bounding_box()["width"] > 60


def test_dark_mode_and_reduced_motion(site, visit):
    def brightness(page):
        colour = page.evaluate("getComputedStyle(document.body).color")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return [np.mean([int(number) for number in re.findall(r"\d+", value)[:3]]) for value in (colour, ground)]

    dark = visit(f"{site}/#shapes", color_scheme="dark", reduced_motion="reduce")
    expect(dark.locator("#title")).to_have_text("shapes")
    text, ground = brightness(dark)
    assert ground < 60 and text > 190
    line(dark, *DOWN)
    expect_best(dark, "I")
    assert dark.locator(".bar").first.evaluate("e => getComputedStyle(e).transitionDuration") == "0s"
    light = visit(f"{site}/#shapes")
    text, ground = brightness(light)
    assert ground > 240 and text < 60


def test_the_page_is_small_and_self_contained(site, visit):
    files = ["index.html", "page.css", "icon.svg", *re.findall(r'from "\./(\w+\.js)"', (PAGE / "page.js").read_text())]
    files += ["page.js", "draw.js", "lines.js", "scores.js"]
    assert sum((PAGE / name).stat().st_size for name in set(files)) < 65_536
    page = visit(f"{site}/#shapes")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    line(page, *DOWN)
    expect_best(page, "I")
    assert asked and all(url.startswith((site, "data:", "blob:")) for url in asked)
    types = {url: page.request.get(f"{site}/page/{url}").headers["content-type"] for url in ("page.js", "page.css")}
    assert types["page.js"].startswith("text/javascript") and types["page.css"].startswith("text/css")
