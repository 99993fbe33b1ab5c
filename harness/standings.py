"""After the submission: medal zones, the public part's noise, CV against leaderboard, the final two. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.scoring import Z_95, Gain

MEDALS = ("gold", "silver", "bronze")


def medal_places(teams: int) -> dict[str, int]:
    """The last place of each medal by number of teams; 0 when there is none.

    Source: kaggle.com/progression, "Competition medals". With few teams, shares are rounded down but
    the first place always wins gold.
    """
    if teams <= 0:
        return dict.fromkeys(MEDALS, 0)
    if teams < 100:
        gold, silver, bronze = max(1, teams // 10), teams // 5, teams * 2 // 5
    elif teams < 250:
        gold, silver, bronze = 10, teams // 5, teams * 2 // 5
    elif teams < 1000:
        gold, silver, bronze = 10 + teams // 500, 50, 100
    else:
        gold, silver, bronze = 10 + teams // 500, teams // 20, teams // 10
    silver = max(silver, gold)
    return {"gold": gold, "silver": silver, "bronze": max(bronze, silver)}


def medal_zone(rank: int, teams: int) -> str:
    """gold, silver, bronze or none."""
    places = medal_places(teams)
    return next((medal for medal in MEDALS if rank <= places[medal]), "none")


def place_of(score: float, scores: Sequence[float], greater_is_better: bool) -> int:
    """The place a score would take among others: ahead of equals stand those who came first."""
    sign = 1 if greater_is_better else -1
    return 1 + sum(sign * other >= sign * score for other in scores)


@dataclass(frozen=True)
class PublicNoise:
    """Whether a public gain is more than the luck of which rows are public."""

    gain: float
    half_width: float | None  # of a 95 % interval; None when the public part's size is unknown
    within: bool | None
    text: str


def public_noise(
    gain: float,
    standard_error: float | None,
    n_validation: int,
    public_rows: int | None,
    paired: bool,
) -> PublicNoise:
    """Compare a public gain with the spread that rows of the public part alone would give.

    Args:
        gain: Public score less the one before, positive is better.
        standard_error: Of the difference on the n_validation labelled rows, paired; or of one score,
            then two independent ones are assumed, which is an upper bound for similar blends.
        public_rows: From the competition file; None when unknown.
    """
    if public_rows is None:
        return PublicNoise(
            gain,
            None,
            None,
            f"the last gain is {gain:+.4f}; whether that is noise is unknown: the competition file "
            "gives no public_rows",
        )
    if standard_error is None or math.isnan(standard_error) or n_validation < 1:
        return PublicNoise(
            gain,
            None,
            None,
            f"the last gain is {gain:+.4f}; whether that is noise is unknown: no out-of-fold "
            "predictions of both submissions",
        )
    error = standard_error * math.sqrt(n_validation / public_rows)
    if not paired:
        error *= math.sqrt(2)
    reach = Z_95 * error
    within = abs(gain) <= reach
    verdict = "within its noise" if within else "more than its noise"
    how = "from the paired difference out-of-fold" if paired else "at most, for unrelated files"
    return PublicNoise(
        gain,
        reach,
        within,
        f"the last gain is {gain:+.4f}; {public_rows} public rows scatter by +-{reach:.4f} "
        f"({how}): {verdict}",
    )


@dataclass(frozen=True)
class Point:
    """A submission with both scores."""

    label: str
    cv: float
    public: float
    private: float | None = None


@dataclass(frozen=True)
class Agreement:
    """How validation and leaderboard go together."""

    n: int
    pearson: float | None
    spearman: float | None
    mean_gap: float | None  # public less CV
    text: str


def agreement(points: Sequence[Point]) -> Agreement:
    """Correlation of CV and public scores; None below three points or without any spread."""
    if len(points) < 3:
        gap = float(np.mean([p.public - p.cv for p in points])) if points else None
        return Agreement(
            len(points), None, None, gap, f"{len(points)} scored submissions: a correlation needs 3"
        )
    cv, public = np.array([p.cv for p in points]), np.array([p.public for p in points])
    gap = float((public - cv).mean())
    if np.ptp(cv) == 0 or np.ptp(public) == 0:
        return Agreement(len(points), None, None, gap, "all scores are equal: no correlation")
    from kernels.stats.ranks import spearman_correlation

    pearson = float(np.corrcoef(cv, public)[0, 1])
    spearman = spearman_correlation(cv, public)
    reach = ""
    if len(points) > 3 and abs(pearson) < 1:
        # Fisher's z: few points leave nearly everything open, which the interval shows.
        centre, error = math.atanh(pearson), Z_95 / math.sqrt(len(points) - 3)
        reach = f" [{math.tanh(centre - error):.2f}, {math.tanh(centre + error):.2f}]"
    text = (
        f"CV and public score of {len(points)} submissions: Pearson {pearson:.2f}{reach}, Spearman "
        f"{spearman:.2f}, public is {gap:+.4f} from CV on average"
    )
    return Agreement(len(points), pearson, spearman, gap, text)


def scatter(points: Sequence[Point], width: int = 48, height: int = 12) -> list[str]:
    """CV (across) against public score (up) in characters; a digit counts points that coincide."""
    if not points:
        return []
    cv, public = [p.cv for p in points], [p.public for p in points]
    cells: dict[tuple[int, int], int] = {}
    for x, y in zip(cv, public, strict=True):
        column = round((x - min(cv)) / ((max(cv) - min(cv)) or 1.0) * (width - 1))
        row = round((max(public) - y) / ((max(public) - min(public)) or 1.0) * (height - 1))
        cells[(row, column)] = cells.get((row, column), 0) + 1
    lines = []
    for row in range(height):
        marks = "".join(_mark(cells.get((row, column), 0)) for column in range(width)).rstrip()
        label = {0: f"{max(public):.4f}", height - 1: f"{min(public):.4f}"}.get(row, "")
        lines.append(f"{label:>8} |{marks}".rstrip())
    lines.append(" " * 9 + "+" + "-" * width)
    left, right = f"{min(cv):.4f}", f"{max(cv):.4f}"
    lines.append(" " * 10 + left + "CV".center(width - len(left) - len(right)) + right)
    return lines


def _mark(count: int) -> str:
    return " " if count == 0 else "o" if count == 1 else str(min(count, 9))


@dataclass(frozen=True)
class Candidate:
    """A submission that may be one of the final two."""

    label: str
    cv: float
    gain_to_best: Gain | None  # against the best candidate, None when they cannot be paired
    similarity: float | None  # Spearman of test predictions to the best candidate


@dataclass(frozen=True)
class Choice:
    """One of the final two, with the reason."""

    label: str
    reason: str


def final_two(candidates: Sequence[Candidate]) -> list[Choice]:
    """The best by nested CV, and the most different one that is not significantly worse.

    Args:
        candidates: The best by CV first.
    """
    if not candidates:
        return []
    best = candidates[0]
    choices = [Choice(best.label, f"best nested CV, {best.cv:.4f}")]
    open_ones = [
        item
        for item in candidates[1:]
        if item.similarity is not None
        and item.gain_to_best is not None
        and item.gain_to_best.high >= 0
    ]
    if open_ones:
        # A submission that orders the test alike is no second chance: least similar first.
        pick = min(open_ones, key=lambda item: (item.similarity or 0.0, -item.cv))
        assert pick.gain_to_best is not None
        choices.append(
            Choice(
                pick.label,
                f"the most different of those not significantly worse: Spearman {pick.similarity:.4f} "
                f"to the first, CV {pick.cv:.4f}, {pick.gain_to_best.text()} against it",
            )
        )
    return choices
