"""SimSiam: heads, loss and the measures that tell learning from collapse.

Chen & He, "Exploring Simple Siamese Representation Learning", CVPR 2021, arXiv:2011.10566. Which two
films or views form a pair is the pipeline's business; the network here only sees two batches.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def projection_head(in_features: int, hidden: int, out: int) -> nn.Sequential:
    """Maps pooled features (B, in_features) to projections z (B, out).

    "The projection MLP has BN applied to each fully-connected layer, including its output fc. Its output
    fc has no ReLU. The hidden fc is 2048-d. This MLP has 3 layers." (section 3). The output's batch norm
    has no affine part: z is only ever compared by direction, and a learned scale could shrink to zero.
    """
    return nn.Sequential(
        nn.Linear(in_features, hidden, bias=False),  # no bias: the batch norm's shift replaces it
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out, bias=False),
        nn.BatchNorm1d(out, affine=False),
    )


def prediction_head(in_features: int, hidden: int) -> nn.Sequential:
    """Maps projections z (B, in_features) to predictions p of the same width.

    "The prediction MLP has BN applied to its hidden fc layers. Its output fc does not have BN or ReLU.
    This MLP has 2 layers. The dimension of h's input and output is 2048, and its hidden layer's dimension
    is 512, making h a bottleneck structure" (section 3).
    """
    return nn.Sequential(
        nn.Linear(in_features, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, in_features),
    )


class SimSiam(nn.Module):
    """A backbone with the two heads.

    Args:
        backbone: A Backbone: grey films (B, 1, H, W) in [0, 1] -> maps; ``pool``: maps -> (B, C).
        projector: (B, C) -> (B, D).
        predictor: (B, D) -> (B, D).
    """

    def __init__(self, backbone: nn.Module, projector: nn.Module, predictor: nn.Module) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.projector = projector
        self.predictor = predictor

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Predictions and projections (p1, p2, z1, z2), each (B, D).

        The views go through one after the other: joined, they would share batch-norm statistics, which
        is another method (and no faster, perf-baselines.md d).
        """
        z1 = self.projector(self.backbone.pool(self.backbone(first)))
        z2 = self.projector(self.backbone.pool(self.backbone(second)))
        return self.predictor(z1), self.predictor(z2), z1, z2


def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """D(p, z) = -mean cosine of p and stop-gradient(z), both (B, D); a scalar in [-1, 1].

    Without the stop-gradient the network collapses to a constant. Source: eq. 1 and 3.
    """
    return -functional.cosine_similarity(p.float(), z.detach().float(), dim=1).mean()


def simsiam_loss(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
    """(D(p1, z2) + D(p2, z1)) / 2, a scalar in [-1, 1]; a collapsed network also reaches -1.

    Raises:
        ValueError: If the shapes differ; (B, D) against (1, D) would broadcast silently.

    Source: eq. 4 of the paper.
    """
    if not p1.shape == p2.shape == z1.shape == z2.shape:
        shapes = [tuple(value.shape) for value in (p1, p2, z1, z2)]
        raise ValueError(f"p1, p2, z1, z2 have shapes {shapes}; they must be equal")
    return 0.5 * negative_cosine(p1, z2) + 0.5 * negative_cosine(p2, z1)


def embedding_std(z: Tensor) -> float:
    """Mean over dimensions of the standard deviation of l2-normalised rows of z, shape (N, D), N >= 2.

    About 1 / sqrt(D) when directions are spread evenly, 0 when every film maps to one point (figure 2 of
    the paper). It does not see collapse of some dimensions: read it beside ``effective_rank``.
    """
    return float(functional.normalize(z.detach().float(), dim=1).std(dim=0, correction=0).mean())


def effective_rank(z: Tensor) -> float:
    """exp of the entropy of the normalised singular values of the centred rows of z, shape (N, D).

    Between 1 (all variance along one line; also for constant rows) and min(N - 1, D). Small networks
    trained by SimSiam lose dimensions long before they lose everything (Li, Efros & Pathak 2022).

    Source: Roy & Vetterli 2007, definition 2.
    """
    rows = z.detach().double()
    # Singular values through the smaller Gram matrix: an SVD of (512, 2048) takes seconds on two cores.
    rows = rows - rows.mean(dim=0)
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    if values.max() <= 1e-12:
        return 1.0
    shares = values / values.sum()
    shares = shares[shares > 1e-12]
    return float(torch.exp(-(shares * shares.log()).sum()))
