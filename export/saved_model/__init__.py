"""SavedModels for TensorFlow Serving: writing and reading their graphs."""
