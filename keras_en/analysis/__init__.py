from keras_en.analysis.collect import collect_ratios, exemplar_layers
from keras_en.analysis.dynamics import plot_corruption, plot_dynamics, plot_epochs
from keras_en.analysis.figures import (
    plot_classes,
    plot_correctness,
    plot_difference,
    plot_layers,
    plot_spread,
)
from keras_en.analysis.measures import layers_to_freeze
from keras_en.analysis.page import write_report
from keras_en.analysis.points import plot_embedding, plot_samples, plot_ternary
from keras_en.analysis.ratios import Ratios
from keras_en.analysis.recorder import RatioHistory, RatioRecorder
from keras_en.analysis.simplify import Simplification, simplify

__all__ = [
    "RatioHistory",
    "RatioRecorder",
    "Ratios",
    "Simplification",
    "collect_ratios",
    "exemplar_layers",
    "layers_to_freeze",
    "plot_classes",
    "plot_correctness",
    "plot_corruption",
    "plot_difference",
    "plot_dynamics",
    "plot_embedding",
    "plot_epochs",
    "plot_layers",
    "plot_samples",
    "plot_spread",
    "plot_ternary",
    "simplify",
    "write_report",
]
