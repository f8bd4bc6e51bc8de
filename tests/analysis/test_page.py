"""The page: what it holds, and how a real browser shows it."""

import configparser
import importlib.util
import itertools
import re
import shutil

import numpy as np
import pytest

from keras_en.analysis import RatioHistory, Ratios, write_report
from keras_en.analysis.running import Layer
from tests.analysis import samples
from tests.sources import ROOT

# Figures of the page: three of one network, one of both, seven of each.
CHARTS = 3 + 1 + 2 * 7
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """With every figure, and names as only an attacker has them."""
    folder = tmp_path_factory.mktemp("page")
    names = ["cat", "<script>alert(1)</script>", "$a^$"]
    ratios = samples.ratios(class_names=names)
    images = {i: np.full((8, 8, 3), i / 30) for i in range(20)}
    return write_report(
        folder,
        "net_of_a_long_name_" * 5 + " on <data>",
        ratios,
        {"other": samples.ratios(layers=3)},
        samples.history(),
        {0.0: ratios, 0.4: ratios},
        images,
        [("data", 'folder:"x"'), ("model", "/a_long_folder" * 20)],
        other_histories={"other": samples.history()},
    )


def test_one_file_and_the_figures(page):
    text = page.read_text(encoding="utf-8")
    names = re.findall(r'<h2 id="(\w+)"', text)
    alone, each = {"layers", "images", "noise"}, {"classes", "spread", "ternary"}
    each |= {"embedding", "epochs", "dynamics", "correctness"}
    others = {"layers-table", "typical", "facts", "difference"}
    assert set(names) - others == alone | each
    figures = alone | each | {f"{name}_2" for name in (*each, "difference")}
    assert len(figures) == CHARTS == text.count("<svg")
    files = {path.name for path in (page.parent / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in figures for kind in ("png", "svg")}
    assert text.count(">other</figcaption>") == len(each) + 1
    assert text.count(">other</h3>") == 1
    beside = {"ratios.npz", "ratios.csv", "figures"}
    links = set(re.findall(r'<a href="([^#"]+)"', text))
    assert links == beside and all((page.parent / name).exists() for name in links)
    assert page.stat().st_size < 6e6
    np.testing.assert_array_equal(
        Ratios.load(page.parent / "ratios.npz").labels, np.arange(30) % 3
    )
    assert len((page.parent / "ratios.csv").read_text().splitlines()) == 31


def test_it_loads_nothing_and_runs_nothing(page):
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text and "&lt;script&gt;" in text and "$a^$" in text
    own = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert not re.findall(r"https?://", own), "no address but names of formats"
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)), "ids of figures do not meet"
    wanted = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    assert wanted <= set(ids)


def test_it_says_numbers_seed_and_chance(page):
    text = page.read_text(encoding="utf-8")
    for part in (
        "30 images of 3 classes, 2 layers",
        "would be right in 33.3%",
        "The network is right in 80.0% of these images",
        '<th scope="row">seed</th><td>0</td>',
        "folder:&#34;x&#34;",
    ):
        assert part in text


def test_the_template_is_packaged():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    pattern = config["options.package_data"]["keras_en.analysis"]
    assert [path.name for path in (ROOT / "keras_en/analysis").glob(pattern)] == [
        "report.html.jinja"
    ]


@pytest.mark.parametrize(
    "edge",
    [
        {"layers": 1, "samples": 1, "classes": 1},
        {"labels": False, "samples": 3},
        {"samples": 5, "classes": 4, "pool": ("instance", "layer", "group", "batch")},
        {"pool": ("batch",), "samples": 2, "classes": 2},
    ],
)
def test_edges(tmp_path, edge):
    text = write_report(tmp_path, "net", samples.ratios(**edge)).read_text()
    assert 'id="layers"' in text and 'id="typical"' not in text


def test_a_training_that_noted_few_images(tmp_path):
    """Too few for a map: that is of the images of the page."""
    few, pool = samples.history(samples=2), ("layer", "batch")
    ratios = samples.ratios(layers=1, samples=6, pool=pool)
    text = write_report(tmp_path, "net", ratios, history=few).read_text()
    assert 'id="embedding"' in text and 'id="epochs"' in text and ">6 images<" in text


def test_layers_of_other_kinds(tmp_path):
    """One that is constant by construction, one with other rows than samples, one of
    another pool."""
    usual = samples.ratios(layers=1, samples=6)
    layers = (
        *usual.layers,
        Layer("net/sn/mean", samples.POOL, (), True),
        Layer("net/parts", samples.POOL, (4,)),
        Layer("net/dense", ("layer", "batch")),
    )
    values = [usual["net/block0_norm"], np.full((6, 3), 1 / 3), np.full((12, 3), 1 / 3)]
    ratios = Ratios.of(
        layers, [*values, np.full((6, 2), 0.5)], usual.labels, usual.predicted
    )
    images = {i: np.zeros((4, 4, 1)) for i in range(6)}
    history = RatioHistory({0: ratios, 1: ratios})
    path = write_report(tmp_path, "net", ratios, None, history, None, images)
    text = path.read_text(encoding="utf-8")
    assert text.count('<th scope="row">') == 4 + 3 and "nan" not in text.lower()
    assert not (tmp_path / "ratios.csv").exists(), "there is no row a sample"
    assert "ratios.csv" not in text and "ratios.npz" in text


def test_a_network_of_constants(tmp_path):
    """As one of Switchable Normalization."""
    layer = Layer("net/sn/mean", samples.POOL, (), True)
    ratios = Ratios.of([layer], [np.full((8, 3), 1 / 3)], np.arange(8) % 2)
    text = write_report(tmp_path, "net", ratios).read_text(encoding="utf-8")
    assert "all images have" in text and "would be right in 50.0%" in text


@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
@pytest.mark.skipif(
    importlib.util.find_spec("playwright") is None, reason="playwright is not installed"
)
def test_in_a_browser(page):
    """At the width of a desk and of a phone, light and dark: nothing is cut off, asked
    of a network or complained about, and the keyboard reaches every figure."""
    from playwright.sync_api import sync_playwright

    faults: list = []

    def note(text):
        if text != page.as_uri() and not text.startswith("data:"):
            faults.append(text)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox"]
        )
        for width, scheme in itertools.product((1280, 390), ("light", "dark")):
            size = {"width": width, "height": 800}
            tab = browser.new_page(viewport=size, color_scheme=scheme)
            tab.on("console", lambda message: note(message.text))
            tab.on("pageerror", lambda error: note(str(error)))
            tab.on("request", lambda request: note(request.url))
            tab.goto(page.as_uri())
            assert faults == []
            assert tab.evaluate("document.documentElement.scrollWidth") == width
            ink, paper = tab.evaluate(
                "['color', 'backgroundColor'].map("
                "name => getComputedStyle(document.body)[name])"
            )
            brightness = [int(re.findall(r"\d+", text)[0]) for text in (ink, paper)]
            assert (brightness[0] > brightness[1]) == (scheme == "dark")
            charts = tab.locator("figure svg")
            assert charts.count() == CHARTS
            for i in range(CHARTS):
                box = charts.nth(i).bounding_box()
                assert box["width"] >= min(width, 570) and box["height"] > 100
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.className") == "skip"
        assert tab.locator('[tabindex="0"]').count() == CHARTS + 2
        browser.close()
