from keras_en.layers.exemplar_normalization import ExemplarNormalization

__all__ = ["ExemplarNormalization"]
