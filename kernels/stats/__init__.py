"""Scores, and how far they can be trusted: numpy and the standard library only, no files.

N rows, M members (columns of scores), T targets, B resamples, U units of resampling.
"""
