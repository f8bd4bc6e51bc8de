from keras_en.training.data import digits

__all__ = ["digits"]
