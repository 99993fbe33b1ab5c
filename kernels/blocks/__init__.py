"""Reusable parts of the training stories, one idea a file."""
