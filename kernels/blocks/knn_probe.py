"""A k-nearest-neighbour probe: how far a representation separates the classes with nothing trained.

It only watches. Nothing is chosen by it: labels never steer self-supervised training.
"""

import numpy as np

from kernels.stats.auc import auc_score


def knn_scores(
    features: np.ndarray, targets: np.ndarray, groups: np.ndarray, neighbours: int = 20
) -> np.ndarray:
    """Similarity-weighted share of positives among each row's nearest neighbours.

    Args:
        features: Shape (N, D); compared by cosine.
        targets: 0 or 1, shape (N,).
        groups: Shape (N,); a row never votes for its own group, so that neither the row itself nor a
            near-copy of it answers for it.
        neighbours: Votes per row; fewer when fewer rows lie outside the group.

    Returns:
        Shape (N,), in [0, 1].

    Raises:
        ValueError: If every row belongs to one group.

    Source: Wu et al. 2018, arXiv:1805.01978, section 3.4, weights exp(cosine / 0.07).
    """
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    # Centred first: pooled activations are all positive, and their cosines all lie near 1.
    rows = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    similarity = rows @ rows.T
    similarity[groups[:, None] == groups[None, :]] = -np.inf
    most = int(np.isfinite(similarity).sum(axis=1).min())
    if most < 1:
        raise ValueError("a group holds every row: no neighbour is left to vote")
    count = min(neighbours, most)
    nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    close = np.take_along_axis(similarity, nearest, axis=1)
    weights = np.exp((close - close.max(axis=1, keepdims=True)) / 0.07)
    return (weights * targets[nearest]).sum(axis=1) / weights.sum(axis=1)


def knn_auc(
    features: np.ndarray, targets: np.ndarray, groups: np.ndarray, neighbours: int = 20
) -> float:
    """AUC of ``knn_scores`` over all rows: leave-one-group-out."""
    return auc_score(targets, knn_scores(features, targets, groups, neighbours))
