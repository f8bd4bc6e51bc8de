"""What a recipe makes of its data: the batches of a training and of its evaluation."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from keras_en.arguments import require
from keras_en.training import build
from keras_en.training.data import ArraySplit, Data, Transform, load, sampling
from keras_en.training.data.transformations import Resize
from keras_en.training.recipes import rules
from keras_en.training.recipes.recipe import Recipe

# Of what is split off: the same for every seed of a training.
_SEED = 0


class Material(NamedTuple):
    """The images of a recipe.

    - `data`: `keras_en.training.data.Data`.
    - `facts`: What the network has to know of it.
    - `seed`: That of order and augmentation.
    """

    recipe: Recipe
    data: Data
    facts: build.Facts
    seed: int

    @property
    def images(self) -> int:
        """Training images of an epoch."""
        count = len(self.data.splits["train"])
        return min(count, self.recipe.data.limit_train or count)

    @property
    def steps(self) -> int:
        """Training steps of an epoch."""
        return -(-self.images // self.recipe.data.batch_size)

    def train(self, epoch: int) -> Any:
        """The training batches of an epoch; a resumed run sees the same."""
        part = self.recipe.data
        transform = Transform.of(part.train, part.image_size, self.data.void)
        return self.data.splits["train"].batches(
            part.batch_size, transform, self.seed, epoch, part.limit_train
        )

    def split(self, name: str | None = None) -> str:
        """The split called `name`; `None`: what a training is tested on, "test" where
        there is one.

        Raises:
            ValueError: There is none.
        """
        names = [name for name in self.data.splits if name != "train"]
        if name is None:
            return "test" if "test" in names else names[0]
        what = f"be one of {', '.join(self.data.splits)}"
        require(name in self.data.splits, "--split", what, name)
        return name

    @property
    def validation(self) -> str:
        """The split whose metrics are those of an epoch."""
        return "validation" if "validation" in self.data.splits else "test"

    def evaluate(self, split: str, short_side: int | None = None) -> Any:
        """The batches of a split as they are evaluated, in order, every image once.

        Args:
            split: Its name.
            short_side: That of the images, in the place of what the recipe says.
        """
        steps = self.recipe.data.evaluate
        return self._evaluated(
            split, steps if short_side is None else _of(steps, short_side)
        )

    def truths(self, split: str) -> Any:
        """As `evaluate`, of images and masks in the sizes that the source gives them,
        `image_size` included."""
        return self._evaluated(split, _of(self.recipe.data.evaluate, None))

    @property
    def resizes(self) -> bool:
        """Whether evaluation changes the sizes of whole images: what is cut is cut out
        of images and masks alike."""
        transform = Transform.of(self.recipe.data.evaluate, None, self.data.void)
        kinds = {type(step) for step in transform.steps if step.resizes or step.pads}
        return kinds == {Resize}

    def _evaluated(self, split, steps):
        part, own = self.recipe.data, _of(self.recipe.data.evaluate, None)
        transform, own = (
            Transform.of(each, part.image_size, self.data.void) for each in (steps, own)
        )
        one = self._one_size(split, transform)
        if self.facts.task == "segmentation":
            # All that is made of an image is in batches of one size.
            one = one and self._one_size(split, own)
        return self.data.splits[split].batches(part.batch_size if one else 1, transform)

    def mixed(self, split: str, images: int) -> Any:
        """As `evaluate`, at most so many images in an order of chance, in batches as
        large as those of training; `None` where the sizes of images differ."""
        part, source = self.recipe.data, self.data.splits[split]
        transform = Transform.of(part.evaluate, part.image_size, self.data.void)
        if not self._one_size(split, transform):
            return None
        size = min(part.batch_size, len(source))
        limit = size * max(1, min(images, len(source)) // size)
        return source.batches(size, transform, self.seed, limit=limit)

    def _one_size(self, split, transform):
        sized = transform.sized(self.recipe.data.image_size)
        return None not in sized.output_shape(self.data.splits[split].image_shape)


def material(
    recipe: Recipe,
    seed: int = 0,
    data_dir: str | None = None,
    skip_broken: bool = False,
    whole: bool = False,
) -> Material:
    """Finds and checks the images of a recipe. What is split off for evaluation, where
    the data has nothing of its own, is the same for every seed; `whole`: all images of
    such data are "test". (Data of tensorflow-datasets is split by its parts.)

    Raises:
        RuntimeError: A package is missing.
        ValueError: The data has a fault, see `keras_en.training.data.load`, or does not
            fit the recipe.
    """
    where = recipe.data.where()
    source = where.pop("source")
    options: dict[str, Any] = {"data_dir": data_dir, "skip_broken": skip_broken}
    data = load(source, **where, **options, split_off=not whole)
    if whole and list(data.splits) == ["train"]:
        data = data._replace(splits={**data.splits, "test": data.splits["train"]})
    if recipe.data.hold_out is not None:
        data = _held_out(data, recipe.data)
    return Material(recipe, data, build.facts(data, recipe), seed)


def _held_out(data, part):
    """Some training images, of every class its share, in the place of all that are not
    trained on."""
    train = data.splits["train"]
    if not isinstance(train, ArraySplit):
        allowed = "null where images are decoded while training"
        raise rules.wrong("The recipe", "data.hold_out", allowed, part.hold_out)
    rest = len(train) - part.hold_out
    if rest < (part.limit_train or 1):
        allowed = f"less than the {len(train)} training images, without limit_train"
        raise rules.wrong("The recipe", "data.hold_out", allowed, part.hold_out)
    chosen = sampling.sized_part(train.labels, len(train), part.hold_out, _SEED)
    splits = {"train": train.part(~chosen), "validation": train.part(chosen)}
    return data._replace(splits=splits)


def _of(steps: Sequence[Any], short_side: int | None) -> list[Any]:
    """Steps that bring images to another short side, or to none."""
    others = [s for s in steps if not (isinstance(s, dict) and "resize" in s)]
    return others if short_side is None else [{"resize": short_side}, *others]
