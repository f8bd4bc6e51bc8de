"""Every figure in every edge case: what it says, and that it can be drawn."""

import numpy as np
import pytest
from matplotlib.text import Text

from keras_en import analysis
from keras_en.analysis import RatioHistory, Ratios, figures, style
from keras_en.analysis.running import Layer
from tests.analysis import samples


@style.styled
def drawn(figure):
    """All texts of a figure that is drawn, none of which may lie outside."""
    style.lay_out(figure)
    width, height = figure.get_size_inches()
    for dpi in (72, 150):  # Of SVG, and of PNG.
        figure.dpi = dpi
        box = figure.get_tightbbox()
        sides = [box.x0, box.y0, width - box.x1, height - box.y1]
        assert min(sides) > -0.02, sides
    return [text.get_text() for text in figure.findobj(Text)]


EDGES = {
    "usual": {},
    "one layer": {"layers": 1},
    "one class": {"classes": 1},
    "one sample a class": {"samples": 5, "classes": 5},
    "one normalizer": {"pool": ("batch",)},
    "two": {"pool": ("layer", "batch")},
    "four": {"pool": ("instance", "layer", "group", "batch")},
    "untrained": {"scale": 0},
    "no labels": {"labels": False},
}


@pytest.mark.slow
@pytest.mark.parametrize("edge", EDGES)
def test_every_figure(edge):
    ratios = samples.ratios(**EDGES[edge])
    title = analysis.plot_layers({"a": ratios, "b": ratios}).axes[0].get_title("left")
    assert title.startswith(f"a: {ratios.count} samples, means ")
    drawn(analysis.plot_layers({"a": ratios}))
    drawn(analysis.plot_difference(ratios, ratios))
    drawn(analysis.plot_spread(ratios))
    drawn(
        analysis.plot_samples(ratios, {0: np.zeros((4, 4, 3)), 2: np.ones((4, 4, 1))})
    )
    drawn(analysis.plot_corruption({0.0: ratios, 0.5: ratios}))
    drawn(analysis.plot_epochs(RatioHistory({0: ratios, 1: ratios})))
    if edge == "no labels":
        for plot in (analysis.plot_classes, analysis.plot_correctness):
            with pytest.raises(ValueError, match="Received: "):
                plot(ratios)
    else:
        drawn(analysis.plot_classes(ratios))
        drawn(analysis.plot_correctness(ratios))
        drawn(analysis.plot_dynamics(RatioHistory({0: ratios, 1: ratios})))
    if len(ratios.normalizers) == 3:
        drawn(analysis.plot_ternary(ratios))
    else:
        with pytest.raises(ValueError, match="`layers` must be of three"):
            analysis.plot_ternary(ratios)


def test_an_untrained_network_does_not_look_as_if_it_had_chosen():
    ratios = samples.ratios(scale=0)
    figure = analysis.plot_classes(ratios)
    assert figure.axes[0].get_title() == "instance: no difference"
    image = figure.axes[0].images[0]
    assert (image.norm.vmin, image.norm.vmax) == (-0.01, 0.01)
    low, high = analysis.plot_layers({"a": ratios}).axes[0].get_ylim()
    assert low < 1 / 3 < high


def test_many_layers_and_classes_fit_on_a_page():
    """The page's width, a readable height, and no more names than have room."""
    ratios = samples.ratios(layers=53, samples=2000, classes=1000)
    figure = analysis.plot_classes(ratios)
    width, height = figure.get_size_inches()
    assert width == style.WIDTH and height < 12
    assert len(figure.axes[0].get_xticklabels()) == 30
    assert "30 of 1,000 classes" in figure.axes[-1].get_xlabel()
    axis = analysis.plot_layers({"a": ratios}).axes[0]
    assert len(axis.get_xticklabels()) == 53


def test_mistakes_by_hand():
    """One wrong image at .8; right ones at .2, .4: their difference is .5, and the
    deviation of all three about their means .1 * sqrt(2), whatever one image says."""
    layer, first = Layer("one", ("layer", "batch")), np.array([0.8, 0.2, 0.4])
    ratios = Ratios.of([layer], [np.stack([first, 1 - first], 1)], [0, 1, 1], [1, 1, 1])
    axis = analysis.plot_correctness(ratios).axes[0]
    assert axis.get_title(loc="left") == "1 wrong against 2 right: -.50 to +.50"
    bars = [box.get_segments()[0][:, 1] for box in axis.collections]
    half = 1.96 * np.sqrt(2 * 0.1**2 * (1 + 1 / 2))
    np.testing.assert_allclose(bars[0], [0.5 - half, 0.5 + half], rtol=1e-6)
    np.testing.assert_allclose(bars[1], [-0.5 - half, -0.5 + half], rtol=1e-6)


def test_two_networks_by_hand():
    """The second has one of the layers, and one of the normalizers; means .3 of .2 and
    .4, and .8."""
    first = np.array([[0.2, 0.8], [0.4, 0.6]])
    ratios = Ratios.of(
        [Layer(f"a/{name}", ("layer", "batch")) for name in ("one", "two")], [first] * 2
    )
    layers = [Layer(f"b/{name}", ("instance", "layer")) for name in ("two", "three")]
    other = Ratios.of(layers, [np.array([[0.2, 0.8]])] * 2)
    axis = analysis.plot_difference(ratios, other).axes[0]
    assert axis.get_title(loc="left") == "1 sample against 2: +.50 to +.50"
    marks = np.array([line.get_ydata() for line in axis.lines[:2]], dtype=float)
    np.testing.assert_allclose(marks[:, 1], [0.5, np.nan], rtol=1e-6)
    assert np.isnan(marks[:, 0]).all()
    with pytest.raises(ValueError, match="`other` must be of layers with the same"):
        analysis.plot_difference(ratios, samples.ratios())


def test_bands_and_long_titles_are_not_cut_off():
    figure = analysis.plot_layers({"a_long_name_" * 20: samples.ratios()})
    (axis,) = figure.axes
    text = axis.get_title(loc="left")
    assert text.startswith("a_long_name_") and text.endswith(
        ": 30 samples, means .26 to .43"
    )
    drawn(figure)
    low, high = axis.get_ylim()
    for band in axis.collections:
        places = band.get_paths()[0].vertices[:, 1]
        assert low <= places.min() and places.max() <= high


def test_names_of_layers_are_not_cut_off():
    """Of the length that they have in a network, below images."""
    layers = [Layer(f"net/stage{i}_block1_shortcut_norm", samples.POOL) for i in (1, 2)]
    ratios = Ratios.of(layers, [np.full((4, 3), 1 / 3)] * 2)
    pictures = {i: np.zeros((8, 8, 1)) for i in range(4)}
    assert "stage1_block1_shortcut" in drawn(analysis.plot_samples(ratios, pictures))


def test_the_small_triangle_hides_no_point():
    """All lie in the upper left of the window but one."""
    values = np.array([[0.1, 0.1, 0.8]] * 9 + [[0.0, 0.5, 0.5]])
    figure = analysis.plot_ternary(Ratios.of([Layer("n", samples.POOL)], [values]))
    (small,) = figure.axes[0].child_axes
    drawn(figure)
    box = small.get_window_extent()
    for points in figure.axes[0].collections:
        for place in figure.axes[0].transData.transform(points.get_offsets()):
            assert not box.contains(*place)


def test_noise_shows_what_it_moves():
    """From the ratios of the images as they are."""
    layer = Layer("norm", ("layer", "batch"))
    values = {0.0: [[0.5, 0.5]], 0.2: [[0.48, 0.52]]}
    ratios = {s: Ratios.of([layer], [np.array(v)]) for s, v in values.items()}
    axis = analysis.plot_corruption(ratios).axes[0]
    assert axis.get_title() == "norm: -.020 to +.020"
    assert np.abs(axis.get_ylim()).max() < 0.03


def test_ternary_places():
    """The corners are the normalizers; the center is where all are alike."""
    corners = np.eye(3)
    x, y = analysis.points.place(np.concatenate([corners, [[1 / 3] * 3]]))
    np.testing.assert_allclose(x, [0, 1, 0.5, 0.5])
    np.testing.assert_allclose(y, [0, 0, np.sqrt(3) / 2, np.sqrt(3) / 6])


@pytest.mark.slow
def test_map_by_epochs():
    figure = analysis.plot_embedding(samples.history())
    assert [a.get_title() for a in figure.axes] == ["epoch 0", "epoch 1", "epoch 4"]
    assert "all images have\nequal ratios" in drawn(figure)
    with pytest.raises(ValueError, match="four images at least"):
        analysis.plot_embedding(samples.ratios(samples=3))


@pytest.mark.slow
def test_a_map_of_many_classes_is_of_those_with_a_colour():
    """Twelve classes of two images, two of three."""
    labels = np.concatenate([np.repeat(np.arange(12), 2), [12, 13] * 3])
    values = np.random.default_rng(0).dirichlet([1, 1, 1], len(labels))
    ratios = Ratios.of([Layer("norm", samples.POOL)], [values], labels)
    figure = analysis.plot_embedding(ratios)
    assert figure.axes[0].get_title() == "22 images"


def test_classes_in_training_are_those_far_apart():
    figure = analysis.plot_dynamics(samples.history(classes=8))
    assert len(figure.axes) == 2 * 3
    assert len(figure.axes[0].lines) == 4
    with pytest.raises(
        ValueError, match="`classes` must be among 0, 1, 2. Received: 7"
    ):
        analysis.plot_dynamics(samples.history(), classes=[7])


def test_strange_names(tmp_path):
    """Names that would be formulas, markup, control codes, or very long."""
    names = ["$x^$", "<b>&\x1b[1m", "a" * 200]
    ratios = samples.ratios(class_names=names)
    text = style.write(analysis.plot_classes(ratios), tmp_path, "classes")
    assert "$x^$" in text and "&lt;b&gt;&amp;" in text
    assert "[1m" not in text and "a" * 20 not in text


def test_files_and_the_element_of_a_page(tmp_path):
    text = style.write(figures.plot_spread(samples.ratios()), tmp_path, "spread")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["spread.png", "spread.svg"]
    again = style.write(figures.plot_spread(samples.ratios()), tmp_path, "spread")
    assert text == again, "the same data give the same file"
    assert 'id="spread-axes_1"' in text and style.INK not in text
    assert "currentColor" in text and "<metadata>" not in text


def test_texts_of_ratios():
    assert [style.text_of(v) for v in (0.333, 1, 0)] == [".33", "1.00", ".00"]
    assert style.text_of(-0.04, sign=True) == "-.040"
    assert style.text_of(0.25, sign=True) == "+.25"
