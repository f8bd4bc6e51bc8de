from keras_en.training.data import batches, digits

__all__ = ["batches", "digits"]
