from keras_en.training.data.arrays import ArraySplit
from keras_en.training.data.augmentation import Transform
from keras_en.training.data.digits import Split, batches, digits
from keras_en.training.data.encoded import EncodedSplit
from keras_en.training.data.sources import Data, load

__all__ = [
    "ArraySplit",
    "Data",
    "EncodedSplit",
    "Split",
    "Transform",
    "batches",
    "digits",
    "load",
]
