"""Image files in folders, and lists of files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keras_en.arguments import fault, require
from keras_en.training.data import images
from keras_en.training.data.parts import Contents, Part, path_of

# The splits, and how folders call them.
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "validation", "valid"),
    "test": ("test", "testing"),
}
_MASKS = ("masks", "annotations")
# A text file with one name of a class per line, by label.
_NAMES = "classes.txt"
# The one of ADE20K's scene parsing, in which label 0 is none of the classes.
_ADE_NAMES = "objectInfo150.txt"
_VOID = "void"


def contents(text: str) -> Contents:
    """The contents of a folder.

    It holds one folder per class, or `images` beside `masks`; at the top, or in
    `train`, `val` and `test`. `images` and `masks` may also hold these.
    """
    root = path_of(text)
    where = f"The folder {root}"
    state = "a file" if root.exists() else "no such folder"
    require(root.is_dir(), where, "be a folder of images", state)
    masks = _mask_folders(root)
    if masks:
        parts = {name: _with_masks(where, *pair) for name, pair in masks.items()}
        names, void = _class_names(root)
        require("train" in parts, where, "hold a folder train", list(parts))
        return Contents(where, parts, names, void)
    return _with_classes(where, _splits(root) or {"train": root})


def from_list(text: str, data_dir: str | None) -> Contents:
    """The contents of `TRAIN` or `TRAIN,VALIDATION`: files with a path and a label a
    line, the path from `data_dir`, or from where the file is."""
    listed = [path_of(part) for part in text.split(",")]
    where = f"The list {listed[0]}"
    require(len(listed) < 3, where, "be followed by one list at most", text)
    splits = zip(("train", "validation"), listed, strict=False)
    parts = {name: _listed(path, data_dir) for name, path in splits}
    names, _ = _class_names(listed[0].parent)
    return Contents(where, parts, names)


def _class_names(folder: Path) -> tuple[tuple | None, int | None]:
    """The names of labels, from a file in the folder, and the one that is void."""
    names = []
    if (folder / _NAMES).is_file():
        lines = _lines(folder / _NAMES, f"The file {folder / _NAMES}")
        names = [line.strip() for line in lines if line.strip()]
    elif (folder / _ADE_NAMES).is_file():
        lines = _lines(folder / _ADE_NAMES, f"The file {folder / _ADE_NAMES}")[1:]
        rows = [line.split("\t") for line in lines if line.strip()]
        names = [_VOID, *(row[-1].split(",")[0].strip() for row in rows)]
    if not names:
        return None, None
    return tuple(names), names.index(_VOID) if _VOID in names else None


def _splits(root):
    """The folders of splits; nothing where there is none for training."""
    folders = {}
    for name, aliases in _SPLITS.items():
        for alias in aliases:
            # Images without classes, as those of a contest's test, are none.
            if _folders(root / alias):
                folders[name] = root / alias
    return folders if "train" in folders else {}


def _folders(path):
    if not path.is_dir():
        return []
    return sorted(p for p in path.iterdir() if p.is_dir() and p.name[0] not in "._")


def _mask_folders(root):
    """Folders of images and of masks, by split; nothing where there are no masks."""
    pairs = {}
    for masks in _MASKS:
        for name, aliases in _SPLITS.items():
            for alias in aliases:
                for pair in (
                    (root / alias / "images", root / alias / masks),
                    (root / "images" / alias, root / masks / alias),
                ):
                    if all(folder.is_dir() for folder in pair):
                        pairs[name] = pair
        pair = root / "images", root / masks
        if not pairs and all(folder.is_dir() for folder in pair):
            pairs["train"] = pair
    return pairs


def _images(folder: Path) -> Iterator[Path]:
    """The image files below a folder, in the order of their paths."""
    allowed = (*images.SUFFIXES, *images.UNREADABLE)
    for path in sorted(folder.rglob("*")):
        hidden = any(part[0] == "." for part in path.relative_to(folder).parts)
        if path.suffix.lower() in allowed and not hidden and path.is_file():
            yield path


def _with_classes(where, folders):
    """A folder a class, in each of `folders`."""
    names = [folder.name for folder in _folders(folders["train"])]
    what = "hold a folder of images a class, or train and val with such folders"
    require(names, where, what, f"no folder in {folders['train']}")
    parts = {}
    for split, root in folders.items():
        others = [folder.name for folder in _folders(root)]
        differing = sorted(set(names) ^ set(others))
        received = f"{', '.join(differing[:5])} in one of them only"
        what = f"hold the same classes in train and {split}"
        require(not differing, where, what, received)
        paths = [list(_images(folder)) for folder in _folders(root)]
        for name, members in zip(names, paths, strict=True):
            what = f"hold images ({', '.join(images.SUFFIXES)}) of every class"
            require(members, where, what, f"none in {root / name}")
        labels = np.repeat(np.arange(len(names)), [len(p) for p in paths])
        listed = [path for members in paths for path in members]
        parts[split] = Part(listed, labels, None, list(map(str, listed)))
    return Contents(where, parts, tuple(names))


def _with_masks(where, image_folder, mask_folder):
    def by_stem(folder):
        return {p.relative_to(folder).with_suffix(""): p for p in _images(folder)}

    pictures, masks = by_stem(image_folder), by_stem(mask_folder)
    lonely = sorted(pictures.keys() ^ masks.keys())
    paths = [str(pictures.get(stem) or masks[stem]) for stem in lonely]
    what = f"hold a mask of the same name beside every image, in {mask_folder}"
    received = f"{', '.join(paths[:3])} without its other half"
    require(not lonely, where, what, received)
    listed = list(pictures.values())
    return Part(
        listed, None, [masks[stem] for stem in pictures], list(map(str, listed))
    )


def _lines(path, where):
    """Those of a text, without the mark that some editors put before it."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        received = getattr(error, "strerror", None) or error
        raise fault(where, "be a text file", received) from error


def _listed(path, data_dir):
    root = path.parent if data_dir is None else path_of(data_dir)
    lines = _lines(path, f"The list {path}")
    paths, labels = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        *name, label = line.rsplit(maxsplit=1)
        # Longer ones are no numbers of classes.
        fits = name and label.isascii() and label.isdigit() and len(label) < 9
        what = "hold a path, a space and a label of at least 0 a line"
        require(fits, f"The list {path}", what, f"{line!r} in line {number}")
        paths.append(root / name[0].strip())
        labels.append(int(label))
    return Part(paths, np.array(labels, "int64"), None, list(map(str, paths)))
