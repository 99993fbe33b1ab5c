"""Frozen configuration: what a competition, a strategy and each training story are made of.

Plain values only (str, int, float, bool, None, tuples, nested configs), so that ``repr`` of a
config evaluates back to it: that text is the literal at the end of every rendered kernel script.
Nothing here imports torch, pandas or numpy, so that listing strategies stays instant.
"""

import hashlib
import math
import re
from dataclasses import dataclass, fields, is_dataclass, replace
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

PROFILE_NAMES = ("full", "cpu", "small")
# full: as on Kaggle's GPUs. cpu: a real result in minutes. small: a rehearsal in seconds.

# The words that fields know; a misspelt one is refused when a config is made, not after an hour of
# training.
OPTIMISER_NAMES = ("adamw", "sgd", "rmsprop")
PAIR_NAMES = ("neighbours", "views")
SCHEDULE_NAMES = ("constant", "cosine", "warm_restarts", "one_cycle", "plateau")
LOSS_NAMES = ("bce", "focal", "weighted_ce")
SAMPLER_NAMES = ("shuffle", "balanced")
ATTENTION_NAMES = ("none", "spatial", "channels")
TTA_SPACES = ("logits", "probs")
DEVICE_NAMES = ("auto", "cpu", "cuda")
PRECISION_NAMES = ("auto", "float32")


def require(condition: bool, message: str) -> None:
    """Raise ValueError(message) unless the condition holds: a config says what is wrong with itself."""
    if not condition:
        raise ValueError(message)


def require_one_of(field: str, value: str, known: tuple[str, ...]) -> None:
    """Raise ValueError unless the value is a known word, naming the field and all words."""
    require(value in known, f"{field} is {value!r}, not one of {', '.join(known)}")


def check_plain(value: Any, where: str) -> None:
    """Refuse values whose repr does not evaluate back to themselves.

    Raises:
        ValueError: Naming the field, for anything but str, int, finite float, bool, None, tuples
            and nested dataclasses of those. Enums, paths, inf, sets and numpy scalars do not
            survive repr.
    """
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            check_plain(getattr(value, field.name), f"{where}.{field.name}")
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            check_plain(item, f"{where}[{index}]")
    elif type(value) is float:
        require(math.isfinite(value), f"{where} is {value!r}; only finite numbers can be rendered")
    else:
        require(
            value is None or type(value) in (str, int, bool),
            f"{where} is a {type(value).__name__}; configs hold str, int, float, bool, None and tuples",
        )


def weights_slug(backbone: str) -> str:
    """Slug of the dataset that carries a backbone's weights: at most 50 characters of [a-z0-9-].

    ``tf_efficientnet_lite0.in1k`` -> ``weights-tf-efficientnet-lite0-in1k``. The file inside is
    ``<backbone>.safetensors``. Names too long for Kaggle end in a hash instead.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", f"weights-{backbone.lower()}").strip("-")
    if len(slug) <= 50:
        return slug
    return f"{slug[:41].rstrip('-')}-{hashlib.sha256(backbone.encode()).hexdigest()[:8]}"


def ssl_file_stem(backbone: str) -> str:
    """The write-ups name files after the network without its tag: tf_efficientnet_b0."""
    return backbone.partition(".")[0]


def ssl_weights_file(backbone: str) -> str:
    """The file in which a ``simsiam`` run leaves its network, and in which others look for it."""
    return f"{ssl_file_stem(backbone)}_ssl_backbone.pth"


# ---- what is learned
# ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Competition:
    """A competition as data. Column names are those of its own CSV files."""

    slug: str
    title: str
    id_column: str
    target_columns: tuple[str, ...]
    metric: str = "auc"  # a name that kernels/stats/metrics.py knows
    greater_is_better: bool = True
    kind: str = "csv"  # csv: a file is submitted; code: a kernel is
    positive_label: str = "positive"
    group_column: str | None = None  # rows that must never be split between folds, where ids tell
    public_rows: int | None = None  # size of the leaderboard's public part, None when unknown
    max_daily_submissions: int = 5
    awards_medals: bool = False
    hidden_rows: int | None = None  # of a code competition's hidden test, None when unknown
    kernel_hours: float = 12.0  # that a submitted kernel may take

    def __post_init__(self) -> None:
        require(bool(self.target_columns), f"{self.slug}: target_columns is empty")
        require(
            self.kind in ("csv", "code"), f"{self.slug}: kind is {self.kind!r}, not csv or code"
        )
        require(
            not self.exclusive or len(self.target_columns) > 1,
            f"{self.slug}: {self.metric} needs a target column for each class",
        )

    @property
    def exclusive(self) -> bool:
        """True when the targets are classes: exactly one is 1 in a row, predictions of a row sum to 1."""
        return self.metric == "multiclass_log_loss"


# ---- how it is learned
# ----------------------------------------------------------------------------


@dataclass(frozen=True)
class FoldsConfig:
    """Stratified (and where groups are known, grouped) cross-validation, the same for every strategy.

    ``run_folds`` and ``seeds`` choose what this run trains; None means every fold. Two runs can
    only be compared row by row when ``count`` and the seed are equal.
    """

    count: int = 5
    seeds: tuple[int, ...] = (0,)
    run_folds: tuple[int, ...] | None = None
    parallel: int = 0  # folds trained side by side, a process each; 0: one for each GPU, else 1
    group_near_duplicates: bool = True  # near-copies (pixel correlation) count as one group
    duplicate_correlation: float = 0.965

    def __post_init__(self) -> None:
        require(self.count >= 2, f"folds.count is {self.count}; cross-validation needs at least 2")
        require(bool(self.seeds), "folds.seeds is empty; name at least one seed")
        require(len(set(self.seeds)) == len(self.seeds), f"folds.seeds repeats: {self.seeds}")
        require(self.parallel >= 0, f"folds.parallel is {self.parallel}; 0 lets the machine decide")
        for fold in self.run_folds or ():
            require(0 <= fold < self.count, f"fold {fold} is not in 0..{self.count - 1}")


@dataclass(frozen=True)
class FeaturesConfig:
    """Hand-crafted features and a standardised logistic regression: pipelines/features.py."""

    folds: FoldsConfig = FoldsConfig()
    image_size: int = 224  # one fixed size: else the features encode acquisition resolution
    glcm_levels: int = 32  # the write-up names none; contrast scales with levels squared
    inverse_regularisation: float = 1.0  # scikit-learn's C
    max_images: int | None = None  # for rehearsals: the first rows of each table

    def __post_init__(self) -> None:
        require(2 <= self.glcm_levels <= 256, f"glcm_levels is {self.glcm_levels}, not in 2..256")
        require(self.image_size >= 16, f"image_size is {self.image_size}; at least 16")


@dataclass(frozen=True)
class ProbeConfig:
    """A frozen pretrained backbone and logistic regression: pipelines/probe.py."""

    folds: FoldsConfig = FoldsConfig()
    backbone: str = "tf_efficientnet_lite0.in1k"
    weights: str = "pretrained"  # pretrained | random | a file's name in a mounted dataset
    image_size: int = 224
    levels: int = 0  # deepest levels of the network that are looked at; 0: its last features alone
    batch_size: int = 32
    inverse_regularisation: float = 0.01
    hflip_tta: bool = True
    device: str = "auto"  # auto | cpu | cuda; cuda: without a usable one the run stops at once
    precision: str = "auto"  # auto: bf16 or fp16 where the machine gains | float32
    max_images: int | None = None

    def __post_init__(self) -> None:
        require(self.image_size >= 16, f"image_size is {self.image_size}; at least 16")
        require(self.levels >= 0, f"levels is {self.levels}; 0 for the last features alone")
        require(self.batch_size >= 1, f"batch_size is {self.batch_size}; at least 1")
        require_one_of("device", self.device, DEVICE_NAMES)
        require_one_of("precision", self.precision, PRECISION_NAMES)


@dataclass(frozen=True)
class AugmentConfig:
    """Random views. Zero switches a step off."""

    crop_scale_min: float = 1.0  # smallest share of the area a random crop keeps, in (0, 1]
    hflip: float = 0.5
    rotation_deg: float = 0.0
    translate: float = 0.0  # share of the side
    scale: float = 0.0  # zoom drawn from 1 - scale .. 1 + scale
    perspective: float = 0.0  # distortion, as torchvision's RandomPerspective
    perspective_p: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        kept = self.crop_scale_min
        require(0 < kept <= 1, f"crop_scale_min is {kept}, not in (0, 1]; 1 keeps the whole film")
        for name in ("hflip", "translate", "perspective", "perspective_p"):
            require(
                0 <= getattr(self, name) <= 1, f"{name} is {getattr(self, name)}, not in [0, 1]"
            )
        require(0 <= self.scale < 1, f"scale is {self.scale}, not in [0, 1)")
        for name in ("rotation_deg", "brightness", "contrast"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; 0 switches it off")


@dataclass(frozen=True)
class MixConfig:
    """MixUp and CutMix, one of them per batch."""

    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    cutmix_share: float = 0.5  # probability of CutMix when both are on
    clean_last_epochs: int = 0  # mixing off at the end

    def __post_init__(self) -> None:
        for name in ("mixup_alpha", "cutmix_alpha"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; 0 switches it off")
        require(0 <= self.cutmix_share <= 1, f"cutmix_share is {self.cutmix_share}, not in 0..1")


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and schedule, per epoch unless said otherwise."""

    name: str = "adamw"  # adamw | sgd | rmsprop
    lr: float = 1e-4  # backbone, or everything when head_lr is None
    head_lr: float | None = None
    weight_decay: float = 0.01
    momentum: float = 0.0
    schedule: str = "cosine"  # cosine | warm_restarts | plateau | one_cycle | constant
    warmup_share: float = 0.0  # share of all steps
    restart_epochs: int = 10  # T_0 of warm_restarts
    restart_factor: int = 2
    plateau_factor: float = 0.5
    plateau_patience: int = 5
    layer_decay: float | None = None
    decay_norm_and_bias: bool = False
    clip_grad_norm: float | None = None

    def __post_init__(self) -> None:
        require_one_of("optim.name", self.name, OPTIMISER_NAMES)
        require_one_of("schedule", self.schedule, SCHEDULE_NAMES)
        require(self.lr > 0, f"lr is {self.lr}; it must be positive")
        require(0 <= self.warmup_share < 1, f"warmup_share is {self.warmup_share}, not in [0, 1)")
        require(self.restart_epochs >= 1, f"restart_epochs is {self.restart_epochs}; at least 1")
        require(self.restart_factor >= 1, f"restart_factor is {self.restart_factor}; at least 1")
        decay = self.layer_decay
        require(decay is None or 0 < decay <= 1, f"layer_decay is {decay}, not in (0, 1]")


@dataclass(frozen=True)
class TrainConfig:
    """One supervised fit of a classifier.

    With ``early_stop_patience`` or a plateau schedule the held-out fold steers the training that it then
    scores: that score is optimistic, and the run says so.
    """

    optim: OptimConfig = OptimConfig()
    augment: AugmentConfig = AugmentConfig()
    mix: MixConfig = MixConfig()
    epochs: int = 8
    batch_size: int = 32
    loss: str = "bce"  # bce | focal | weighted_ce
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    label_smoothing: float = 0.0  # y(1-eps) + eps/2, applied once, before mixing
    sampler: str = "shuffle"  # shuffle | balanced
    early_stop_patience: int | None = None  # None: fixed epochs, keep the last
    ema_decay: float | None = None
    rows_per_class: int | None = None  # train on so many rows of each class, drawn once; None: all
    class_weights: tuple[float, float] | None = None  # of weighted_ce; None: from the rows' counts

    def __post_init__(self) -> None:
        require_one_of("loss", self.loss, LOSS_NAMES)
        require_one_of("sampler", self.sampler, SAMPLER_NAMES)
        require(self.epochs >= 1, f"epochs is {self.epochs}; at least 1")
        require(self.batch_size >= 2, f"batch_size is {self.batch_size}; batch norm needs 2")
        smoothing, decay = self.label_smoothing, self.ema_decay
        require(0 <= smoothing < 1, f"label_smoothing is {smoothing}, not in [0, 1)")
        require(decay is None or 0 <= decay < 1, f"ema_decay is {decay}, not in [0, 1)")
        rows, weights = self.rows_per_class, self.class_weights
        require(rows is None or rows >= 1, f"rows_per_class is {rows}; at least 1, or None for all")
        require(
            weights is None or (len(weights) == 2 and min(weights) > 0),
            f"class_weights are {weights}; two positive numbers, of class 0 and 1",
        )


@dataclass(frozen=True)
class HeadConfig:
    """The classifier on top of a backbone's feature map."""

    attention: str = "none"  # none | spatial | channels
    attention_reduction: int = 8
    attention_residual: bool = True  # x * (1 + a): a sigmoid near 0.5 would halve the features
    hidden: tuple[int, ...] = ()
    batch_norm: bool = False
    dropout: tuple[float, ...] = ()  # one per hidden layer
    final_dropout: float = 0.0
    outputs: int = 1  # 1: one logit per target; 2: softmax over two classes (write-up B)

    def __post_init__(self) -> None:
        require_one_of("attention", self.attention, ATTENTION_NAMES)
        require(
            self.outputs in (1, 2), f"outputs is {self.outputs}; 1 (a logit) or 2 (two classes)"
        )
        require(
            len(self.dropout) in (0, len(self.hidden)),
            f"dropout has {len(self.dropout)} values for {len(self.hidden)} hidden layers",
        )
        for share in (*self.dropout, self.final_dropout):
            require(0 <= share < 1, f"dropout {share} is not in [0, 1)")


@dataclass(frozen=True)
class SimSiamConfig:
    """Features, nearest-neighbour pairs, SimSiam, then a classifier in folds: pipelines/simsiam.py."""

    folds: FoldsConfig = FoldsConfig()
    backbone: str = "tf_efficientnet_b0.ns_jft_in1k"
    weights: str = "pretrained"
    image_size: int = 224
    glcm_levels: int = 32
    pairs: str = "neighbours"  # neighbours | views (plain SimSiam, the control arm)
    pair_share: float = 0.5  # share of pairs made of two films; the rest are two views of one
    ssl_image_size: int | None = (
        None  # of the SimSiam views, for networks of any size; None: the same
    )
    ssl_epochs: int = 20
    ssl_batch_size: int = 64
    ssl_optim: OptimConfig = OptimConfig(
        name="sgd", lr=0.0125, weight_decay=1e-4, momentum=0.9, schedule="cosine"
    )
    ssl_augment: AugmentConfig = AugmentConfig()
    ssl_frozen_norm: bool = False  # backbone's batch norms keep the statistics they came with
    projector_hidden: int = 2048
    projector_out: int = 2048
    predictor_hidden: int = 512
    fix_predictor_lr: bool = True
    probe_every: int = 5  # epochs between k-NN probes, which watch and never choose
    freeze_backbone: bool = True
    cached_views: int = 8  # frozen backbone: augmented views whose features are computed once
    head: HeadConfig = HeadConfig()
    train: TrainConfig = TrainConfig()
    tta_views: int = 5
    device: str = "auto"  # auto | cpu | cuda; cuda: without a usable one the run stops at once
    precision: str = "auto"  # auto: bf16 or fp16 where the machine gains | float32
    max_images: int | None = None
    max_unlabelled: int | None = None

    def __post_init__(self) -> None:
        require(self.image_size >= 16, f"image_size is {self.image_size}; at least 16")
        size = self.ssl_image_size
        require(size is None or size >= 16, f"ssl_image_size is {size}; at least 16")
        require(2 <= self.glcm_levels <= 256, f"glcm_levels is {self.glcm_levels}, not in 2..256")
        require_one_of("pairs", self.pairs, PAIR_NAMES)
        require(0 <= self.pair_share <= 1, f"pair_share is {self.pair_share}, not in [0, 1]")
        require(self.ssl_epochs >= 0, f"ssl_epochs is {self.ssl_epochs}; 0 leaves SimSiam out")
        require(self.ssl_batch_size >= 2, f"ssl_batch_size is {self.ssl_batch_size}; at least 2")
        for name in ("projector_hidden", "projector_out", "predictor_hidden", "probe_every",
                     "cached_views", "tta_views"):  # fmt: skip
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; at least 1")
        require_one_of("device", self.device, DEVICE_NAMES)
        require_one_of("precision", self.precision, PRECISION_NAMES)


@dataclass(frozen=True)
class SupervisedConfig:
    """CLAHE, mixing, attention classifier, test-time augmentation: pipelines/supervised.py."""

    folds: FoldsConfig = FoldsConfig()
    backbone: str = "tf_efficientnetv2_s.in21k_ft_in1k"
    weights: str = "pretrained"
    image_size: int = 384
    clahe: bool = True
    clahe_clip: float = 2.0
    clahe_grid: int = 8
    freeze_backbone: bool = False
    head: HeadConfig = HeadConfig()
    train: TrainConfig = TrainConfig()
    tta: tuple[str, ...] = ("plain", "hflip", "rot+5", "rot-5", "crop0.9")
    tta_space: str = "logits"  # logits | probs: what is averaged over views
    drop_path: float = 0.0  # stochastic depth inside the backbone
    device: str = "auto"  # auto | cpu | cuda; cuda: without a usable one the run stops at once
    precision: str = "auto"  # auto: bf16 or fp16 where the machine gains | float32
    max_images: int | None = None

    def __post_init__(self) -> None:
        require(self.image_size >= 16, f"image_size is {self.image_size}; at least 16")
        require(bool(self.tta), "tta is empty; name at least 'plain'")
        require_one_of("tta_space", self.tta_space, TTA_SPACES)
        require(0 <= self.drop_path < 1, f"drop_path is {self.drop_path}, not in [0, 1)")
        require_one_of("device", self.device, DEVICE_NAMES)
        require_one_of("precision", self.precision, PRECISION_NAMES)


@dataclass(frozen=True)
class NetworkConfig:
    """A pretrained network whose first stages stay as they are."""

    backbone: str = "tf_efficientnet_lite0.in1k"
    image_size: int = 224
    frozen_stages: int = 5  # the stem and so many stages keep ImageNet's weights and statistics

    def __post_init__(self) -> None:
        require(self.image_size >= 16, f"image_size is {self.image_size}; at least 16")
        require(self.frozen_stages >= 1, f"frozen_stages is {self.frozen_stages}; at least 1")


@dataclass(frozen=True)
class DistilConfig:
    """Teachers in each fold, their soft labels for unlabelled films, a student: pipelines/distil.py."""

    folds: FoldsConfig = FoldsConfig()
    backbone: str = "tf_efficientnet_lite0.in1k"  # the student's, and a teacher's
    weights: str = "pretrained"
    image_size: int = 224
    frozen_stages: int = 5
    co_teachers: tuple[NetworkConfig, ...] = ()  # further networks that teach; logits are averaged
    head: HeadConfig = HeadConfig(final_dropout=0.2)
    augment: AugmentConfig = AugmentConfig()
    labelled_views: int = 8  # random views of each labelled film, computed once
    unlabelled_views: int = 2  # and of each unlabelled one
    teacher: TrainConfig = TrainConfig()
    student: TrainConfig | None = TrainConfig()  # None: the teachers' mean (the control arm)
    labelled_repeats: int = 2  # how often a student sees each labelled film in an epoch
    teacher_tta: tuple[str, ...] = ("plain",)  # views of an unlabelled film that are averaged
    tta: tuple[str, ...] = ("plain", "hflip")
    teacher_share: float = 0.0  # of the teachers' logits in the prediction, in [0, 1]
    device: str = "auto"  # auto | cpu | cuda; cuda: without a usable one the run stops at once
    precision: str = "auto"  # auto: bf16 or fp16 where the machine gains | float32
    max_images: int | None = None
    max_unlabelled: int | None = None

    def __post_init__(self) -> None:
        self.networks()
        for name in ("labelled_views", "unlabelled_views"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; at least 1")
        repeats, share = self.labelled_repeats, self.teacher_share
        require(repeats >= 0, f"labelled_repeats is {repeats}; 0 for pseudo-labels alone")
        require(0 <= share <= 1, f"teacher_share is {share}, not in [0, 1]")
        require(bool(self.tta and self.teacher_tta), "a tta is empty; name at least 'plain'")
        require_one_of("device", self.device, DEVICE_NAMES)
        require_one_of("precision", self.precision, PRECISION_NAMES)
        require(self.head.attention == "none", "head.attention must be none here")
        for name, fit in (("teacher", self.teacher), ("student", self.student)):
            require(
                fit is None or (fit.rows_per_class is None and fit.sampler == "shuffle"),
                f"{name} sets rows_per_class or sampler; this story trains on every row",
            )

    def networks(self) -> tuple[NetworkConfig, ...]:
        """Every network that teaches, the student's own first."""
        own = NetworkConfig(self.backbone, self.image_size, self.frozen_stages)
        return (own, *self.co_teachers)


AnyConfig = FeaturesConfig | ProbeConfig | SimSiamConfig | SupervisedConfig | DistilConfig


def steered_by_held_out(config: AnyConfig) -> bool:
    """Whether a held-out fold chooses the epoch, or the rates, of the network that predicts it."""
    fits = (getattr(config, name, None) for name in ("train", "teacher", "student"))
    return any(
        isinstance(fit, TrainConfig)
        and (fit.early_stop_patience is not None or fit.optim.schedule == "plateau")
        for fit in fits
    )


@dataclass(frozen=True)
class MemberConfig:
    """A finished run whose checkpoints an inference kernel loads."""

    name: str  # the run's id
    slug: str  # of the kernel whose output is mounted
    manifest_sha256: str
    weight: float
    config: AnyConfig  # the run's own: films and views as it had them


@dataclass(frozen=True)
class InferenceConfig:
    """Checkpoints to one blended submission, in a code competition: pipelines/inference.py."""

    members: tuple[MemberConfig, ...]
    method: str  # the blend's, for the log
    space: str  # prob | rank | logit: what is added up
    intercept: float
    fallback: tuple[float, ...]  # for films that cannot be read, one for each target
    device: str = "auto"  # auto | cpu | cuda, in place of the members' own
    thresholds: tuple[float, ...] = ()  # of each target, where the metric wants 0 and 1

    def __post_init__(self) -> None:
        require(bool(self.members), "an inference kernel needs members")
        require_one_of("space", self.space, ("prob", "rank", "logit"))
        require_one_of("device", self.device, DEVICE_NAMES)


StartedConfig = TypeVar("StartedConfig", ProbeConfig, SupervisedConfig)


def starting_from(run: SimSiamConfig, config: StartedConfig) -> StartedConfig:
    """A config that reads its network from what a finished run of ``run`` left: for ``Strategy.needs``."""
    return replace(
        config,
        backbone=run.backbone,
        weights=ssl_weights_file(run.backbone),
        image_size=run.image_size,
    )


@dataclass(frozen=True)
class Profiles:
    """One config for each size of run; the script picks one when it starts."""

    full: AnyConfig
    cpu: AnyConfig
    small: AnyConfig

    def __post_init__(self) -> None:
        kinds = {type(self.full), type(self.cpu), type(self.small)}
        require(len(kinds) == 1, f"profiles mix config types: {sorted(k.__name__ for k in kinds)}")

    def pick(self, profile: str) -> AnyConfig:
        """The config of a profile name (ValueError names the known ones)."""
        require(
            profile in PROFILE_NAMES,
            f"profile {profile!r} is not one of {', '.join(PROFILE_NAMES)}",
        )
        chosen: AnyConfig = getattr(self, profile)
        return chosen

    def with_profile(self, profile: str, config: AnyConfig) -> "Profiles":
        """The same profiles with one of them replaced."""
        self.pick(profile)
        return replace(self, **{profile: config})


@dataclass(frozen=True)
class Strategy:
    """What to train, where. One file each in kernels/strategies/."""

    name: str
    title: str  # shown in listings and as the kernel's title, 5 to 50 characters
    competition: str  # module name in kernels/competitions/
    pipeline: str  # module name in kernels/pipelines/
    profiles: Profiles
    accelerator: str = "cpu"  # cpu | gpu
    internet: bool = False  # in the full profile; the others need none
    datasets: tuple[str, ...] = ()  # further slugs to mount, besides the backbone's weights
    in_blend: bool = True
    hours: str = "unknown"  # measured on Kaggle, with the date; "unknown" until somebody did
    packages: tuple[
        str, ...
    ] = ()  # what the kernel imports beyond numpy, pandas, scikit-learn, cv2
    # Strategies whose finished run this one starts from, in the same profile: their kernels' outputs are
    # mounted, and a config names a file of them (weights="tf_efficientnet_b0_ssl_backbone.pth").
    needs: tuple[str, ...] = ()


def fits_type(value: Any, hint: Any) -> bool:
    """True when a plain value may stand where a field's annotation says ``hint``. An int passes as float."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits_type(value, option) for option in inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if inner[-1:] == (Ellipsis,):
            return all(fits_type(item, inner[0]) for item in value)
        return len(value) == len(inner) and all(map(fits_type, value, inner))
    if hint is float:
        return type(value) in (int, float)
    return value is None if hint is type(None) else type(value) is hint


def apply_overrides(config: Any, overrides: tuple[tuple[str, Any], ...]) -> Any:
    """Replace fields by dotted name: (("train.epochs", 3), ("image_size", 96)).

    Raises:
        ValueError: Naming the unknown field and the known ones, or the type a field takes.
    """
    for dotted, value in overrides:
        name, _, rest = dotted.partition(".")
        known = [field.name for field in fields(config)]
        require(
            name in known,
            f"{type(config).__name__} has no field {name!r}; it has {', '.join(known)}",
        )
        if rest:
            inner = getattr(config, name)
            require(is_dataclass(inner), f"{name} holds a plain value; {dotted!r} goes deeper")
            value = apply_overrides(inner, ((rest, value),))
        else:
            hint = get_type_hints(type(config))[name]
            wanted = getattr(hint, "__name__", None) if get_origin(hint) is None else str(hint)
            require(fits_type(value, hint), f"{dotted} is {value!r}; it takes {wanted}")
        config = replace(config, **{name: value})
    return config
