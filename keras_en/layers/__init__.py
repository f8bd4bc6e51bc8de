from keras_en.layers.exemplar_normalization import ExemplarNormalization
from keras_en.layers.sparse_switchable_normalization import (
    SparseSwitchableNormalization,
)
from keras_en.layers.switchable_normalization import SwitchableNormalization

__all__ = [
    "ExemplarNormalization",
    "SparseSwitchableNormalization",
    "SwitchableNormalization",
]
