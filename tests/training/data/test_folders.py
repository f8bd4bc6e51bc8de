"""Folders of image files, with and without masks, and lists of files."""

import numpy as np
import pytest

from keras_en.training.data import load
from tests.training.data.pictures import (
    class_folder,
    encoded,
    mask_folder,
    picture,
)
from tests.training.data.test_images import broken


def sizes(data):
    return {name: len(split) for name, split in data.splits.items()}


def test_a_folder_a_class(tmp_path, rng):
    class_folder(tmp_path, rng)
    data = load(f"folder:{tmp_path}")
    assert data.class_names == ("cat", "dog") and data.task == "classification"
    assert sizes(data) == {"train": 8, "validation": 2}
    np.testing.assert_array_equal(data.splits["validation"].labels, [0, 1])
    assert data.splits["train"].image_shape == (12, 16, 3)


def test_too_few_images_to_split_some_off(tmp_path, rng):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.png").write_bytes(encoded(picture(rng), "PNG"))
    with pytest.raises(ValueError, match="two of a class.*Received: 2 images, none"):
        load(f"folder:{tmp_path}")


def test_train_val_and_what_is_no_image(tmp_path, rng):
    class_folder(tmp_path / "train", rng)
    class_folder(tmp_path / "val", rng, 2)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("about cats")
    (tmp_path / "train" / "cat" / ".hidden.jpg").write_text("")
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "secret.jpg").write_bytes(encoded(picture(rng)))
    assert sizes(load(f"folder:{tmp_path}")) == {"train": 10, "validation": 4}


def test_images_of_different_sizes(tmp_path, rng):
    class_folder(tmp_path, rng)
    (tmp_path / "cat" / "0.jpg").write_bytes(encoded(picture(rng, 20, 16)))
    assert load(f"folder:{tmp_path}").splits["train"].image_shape[2] == 3
    shape = load(f"folder:{tmp_path}", image_size=9).splits["train"].image_shape
    assert shape == (9, 9, 3)


@pytest.mark.parametrize("name", sorted(broken(np.zeros((12, 16, 3), "uint8"))))
def test_broken_files_are_named_or_left_out(tmp_path, rng, name):
    class_folder(tmp_path, rng)
    content, word = broken(picture(rng))[name]
    (tmp_path / "dog" / name).write_bytes(content)
    with pytest.raises(ValueError, match="1 of 11") as error:
        load(f"folder:{tmp_path}")
    assert str(tmp_path / "dog" / name) in str(error.value)
    assert word in str(error.value) and "\n" not in str(error.value)
    data = load(f"folder:{tmp_path}", skip_broken=True)
    assert sum(sizes(data).values()) == 10
    assert len(data.skipped) == 1 and name in data.skipped[0]


def test_a_class_whose_images_are_all_broken(tmp_path, rng):
    for path in class_folder(tmp_path, rng)[:5]:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="every class. Received: none of cat"):
        load(f"folder:{tmp_path}", skip_broken=True)


def test_wrong_folders(tmp_path, rng):
    cases = {}
    cases["missing"] = "no such folder"
    (tmp_path / "file").write_text("")
    cases["file"] = "a file"
    (tmp_path / "empty").mkdir()
    cases["empty"] = "no folder in"
    class_folder(tmp_path / "hollow", rng)
    (tmp_path / "hollow" / "bird").mkdir()
    cases["hollow"] = "every class. Received: none in .*bird"
    class_folder(tmp_path / "one", rng, classes=("cat",))
    cases["one"] = "two classes. Received: cat"
    class_folder(tmp_path / "differ" / "train", rng)
    class_folder(tmp_path / "differ" / "val", rng, classes=("cat", "bird"))
    cases["differ"] = "bird, dog in one of them only"
    for name, words in cases.items():
        with pytest.raises(ValueError, match=words) as error:
            load(f"folder:{tmp_path / name}")
        assert str(tmp_path / name) in str(error.value)


@pytest.mark.tensorflow
@pytest.mark.parametrize("layout", ["beside", "above", "below"])
def test_masks(tmp_path, rng, layout):
    if layout == "beside":
        mask_folder(tmp_path, rng, 5)
    elif layout == "below":
        masks = mask_folder(tmp_path / "train", rng)
        mask_folder(tmp_path / "val", rng, 2)
    else:
        masks = mask_folder(tmp_path / "x", rng)
        (tmp_path / "images").mkdir()
        (tmp_path / "masks").mkdir()
        for kind in ("images", "masks"):
            (tmp_path / "x" / kind).rename(tmp_path / kind / "train")
    data = load(f"folder:{tmp_path}")
    assert data.task == "segmentation" and data.void == 255
    assert data.class_names == ("0", "1", "2")
    train = data.splits["train"]
    assert train.labels is None and len(train) == (3 if layout == "above" else 4)
    if layout == "below":
        _, labels = zip(*train.batches(4), strict=True)
        np.testing.assert_array_equal(labels[0], np.stack(masks))


def test_names_of_classes_and_void(tmp_path, rng):
    mask_folder(tmp_path, rng)
    (tmp_path / "classes.txt").write_text("void\nsky\nroad\n")
    data = load(f"folder:{tmp_path}")
    assert data.class_names == ("sky", "road") and data.void == 255
    # As some editors write it.
    (tmp_path / "classes.txt").write_text("void\nsky\nroad\n", encoding="utf-8-sig")
    assert load(f"folder:{tmp_path}").class_names == ("sky", "road")
    (tmp_path / "classes.txt").write_text("void\nblå\nroad\n", encoding="latin-1")
    with pytest.raises(ValueError, match="classes.txt must be a text file"):
        load(f"folder:{tmp_path}")


def test_the_layout_of_ade20k(tmp_path, rng):
    for split, name in (("training", "a"), ("validation", "b")):
        mask_folder(tmp_path / name, rng)
        for kind, folder in (("images", "images"), ("masks", "annotations")):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / name / kind).rename(tmp_path / folder / split)
    head = "Idx\tRatio\tTrain\tVal\tName\n"
    rows = "1\t0.5\t1\t1\twall, brick\n2\t0.5\t1\t1\tbuilding\n"
    (tmp_path / "objectInfo150.txt").write_text(head + rows)
    data = load(f"folder:{tmp_path}")
    assert data.class_names == ("wall", "building")
    assert sizes(data) == {"train": 4, "validation": 4}


def test_wrong_masks(tmp_path, rng):
    def changed(name, change, words, **options):
        mask_folder(tmp_path / name, rng)
        change(tmp_path / name)
        with pytest.raises(ValueError, match=words):
            load(f"folder:{tmp_path / name}", **options)

    small = encoded(np.zeros((5, 16), "uint8"), "PNG")
    colours = encoded(picture(rng), "PNG")
    high = np.zeros((12, 16), "uint8")
    high[3, 3] = 77

    def put(content, mask="2.png"):
        return lambda root: (root / "masks" / mask).write_bytes(content)

    def named(root):
        (root / "classes.txt").write_text("a\nb\nc\n")
        put(encoded(high, "PNG"))(root)

    words = "images/2.png: 12x16 pixels, its mask 5x16"
    changed("size", put(small), words)
    changed("rgb", put(colours), "images/2.png: RGB; a mask has one channel")
    changed("empty", put(b""), "images/2.png: empty")
    changed("range", named, "77 in the mask of .*images/2.png")
    changed("gap", put(encoded(high, "PNG")), "none of 3, 4, 5, 6, 7")
    changed("lonely", lambda root: (root / "masks" / "2.png").unlink(), "images/2.png")
    changed("other", lambda root: (root / "images" / "1.png").unlink(), "masks/1.png")


def test_a_list(tmp_path, rng):
    paths = class_folder(tmp_path / "images", rng)
    lines = [f"images/{p.parent.name}/{p.name} {int('dog' in str(p))}" for p in paths]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "val.txt").write_text("\n".join(lines[::2]))
    data = load(f"list:{tmp_path / 'train.txt'},{tmp_path / 'val.txt'}")
    assert sizes(data) == {"train": 10, "validation": 5}
    np.testing.assert_array_equal(data.splits["train"].labels, [0] * 5 + [1] * 5)
    elsewhere = tmp_path / "lists"
    elsewhere.mkdir()
    (tmp_path / "train.txt").rename(elsewhere / "train.txt")
    data = load(f"list:{elsewhere / 'train.txt'}", data_dir=str(tmp_path))
    assert sizes(data) == {"train": 8, "validation": 2}


@pytest.mark.parametrize(
    "line, words",
    [
        ("a.jpg", "'a.jpg' in line 2"),
        ("a.jpg -1", "'a.jpg -1' in line 2"),
        ("a.jpg one", "'a.jpg one' in line 2"),
        ("nowhere.jpg 1", "nowhere.jpg: No such file"),
        ("images/cat/0.jpg 4", "every class|label 4"),
    ],
)
def test_wrong_lists(tmp_path, rng, line, words):
    class_folder(tmp_path / "images", rng)
    (tmp_path / "a.txt").write_text(f"images/cat/0.jpg 0\n{line}\nimages/dog/0.jpg 1\n")
    with pytest.raises(ValueError, match=words) as error:
        load(f"list:{tmp_path / 'a.txt'}")
    assert "a.txt" in str(error.value) and "Received: " in str(error.value)


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="a.txt must be a text file. .*No such file"):
        load(f"list:{tmp_path / 'a.txt'}")
