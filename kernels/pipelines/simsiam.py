"""Strategy 1 of the write-up: SimSiam on unlabelled films, then a classifier on what it learned.

films -> 22 features -> nearest-neighbour pairs -> SimSiam -> features of augmented views -> in each fold a
classifier -> test-time views. Self-supervised training sees unlabelled films only: no label, no test film,
and no labelled film either, so that its one network serves every fold and every seed.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn

from kernels.blocks.devices import Compute, choose_compute
from kernels.blocks.entry import say
from kernels.blocks.features import extract_features
from kernels.blocks.folds import iterate_folds
from kernels.blocks.grouping import groups_of
from kernels.blocks.images import load_images
from kernels.blocks.knn_probe import knn_auc
from kernels.blocks.models import Backbone, Classifier, create_backbone
from kernels.blocks.outputs import OutputWriter
from kernels.blocks.pairs import find_pairs, label_purity
from kernels.blocks.predicting import encode_images, logistic
from kernels.blocks.pretraining import pretrain
from kernels.blocks.seed import derive_seed
from kernels.blocks.simsiam import SimSiam, effective_rank, prediction_head, projection_head
from kernels.blocks.tables import Tables
from kernels.blocks.tta import random_tta_views
from kernels.config import SimSiamConfig
