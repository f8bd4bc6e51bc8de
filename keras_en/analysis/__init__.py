from keras_en.analysis.collect import collect_ratios, exemplar_layers
from keras_en.analysis.figures import plot_class_ratios
from keras_en.analysis.ratios import Ratios
from keras_en.analysis.recorder import RatioHistory, RatioRecorder

__all__ = [
    "RatioHistory",
    "RatioRecorder",
    "Ratios",
    "collect_ratios",
    "exemplar_layers",
    "plot_class_ratios",
]
