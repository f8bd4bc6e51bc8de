from keras_en.surgery.network import Report, replace_normalization

__all__ = ["Report", "replace_normalization"]
