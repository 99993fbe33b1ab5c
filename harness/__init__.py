"""Package, render, push, watch, pull, blend and submit Kaggle image-model kernels."""

__version__ = "0.1.0"
