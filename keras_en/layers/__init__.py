from keras_en.layers.batch_kalman_normalization import BatchKalmanNormalization
from keras_en.layers.exemplar_normalization import ExemplarNormalization
from keras_en.layers.kalman_prediction import KalmanMoments, KalmanSample
from keras_en.layers.sparse_switchable_normalization import (
    SparseSwitchableNormalization,
)
from keras_en.layers.static_normalization import StaticNormalization
from keras_en.layers.switchable_normalization import SwitchableNormalization

__all__ = [
    "BatchKalmanNormalization",
    "ExemplarNormalization",
    "KalmanMoments",
    "KalmanSample",
    "SparseSwitchableNormalization",
    "StaticNormalization",
    "SwitchableNormalization",
]
