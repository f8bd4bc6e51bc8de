from keras_en.surgery.network import replace_normalization
from keras_en.surgery.report import Report

__all__ = ["Report", "replace_normalization"]
