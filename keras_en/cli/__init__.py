from keras_en.cli.main import main

__all__ = ["main"]
