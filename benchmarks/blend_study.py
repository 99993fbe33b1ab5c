"""What blending methods do when the truth is known: noise, a twin, one strong member, few rows.

Members are drawn (logits = skill x label + noise, some of it shared), so that every blend can be
scored on 10,000 fresh rows. For each case and seed: what hill climbing on all rows picks and claims,
what the nested estimate says, what ``auto`` takes, with the default floor and without one, and what
each is worth on fresh rows. Prints a table and one JSON object.

    python benchmarks/blend_study.py [--seeds 200] [--case noise]
"""

# ruff: noqa: E402 (the path and the environment come first)

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TextIO

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from harness import methods, scoring
from harness.blending import blend_members
from harness.candidates import FitRows
from harness.members import Floats, MemberTable
from harness.methods import hill_climb
from kernels.config import Competition
from kernels.stats.auc import auc_score
from kernels.stats.folds import mean_fold_auc
from kernels.stats.spaces import from_space, to_space

COMPETITION = Competition(
    slug="study", title="Study", id_column="id", target_columns=("label",), metric="auc"
)
FRESH = 10_000
FOLDS = 5
GROUPED = False
scoring.RESAMPLES = 200  # enough for a standard error
methods.BAGS = 5  # instead of 20: what a bag costs counts 4,800 times


class Case:
    """Members by skill; ``shared`` is how much of the noise all of them share."""

    def __init__(
        self,
        text: str,
        n: int,
        skills: list[float],
        noise: int,
        twin: bool = False,
        shared: float = 0.5,
    ):
        self.text, self.n, self.skills, self.noise = text, n, skills, noise
        self.twin, self.shared = twin, shared

    @property
    def bad(self) -> list[int]:
        """Members without any skill."""
        return list(range(len(self.skills), len(self.skills) + self.noise))

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, Floats]:
        """Targets (n,) and members (M, n)."""
        truth = (rng.random(n) < 0.6).astype(np.int8)
        truth[: 2 * FOLDS] = np.repeat([0, 1], FOLDS)  # both classes in every fold
        common = rng.normal(size=n)
        rows = [
            skill * (2 * truth - 1)
            + np.sqrt(self.shared) * common
            + np.sqrt(1 - self.shared) * rng.normal(size=n)
            for skill in self.skills
        ]
        rows += [rng.normal(size=n) for _ in range(self.noise)]
        if self.twin:
            rows.append(rows[0] + 0.01 * rng.normal(size=n))
        return truth, 1 / (1 + np.exp(-np.array(rows)))


CASES = {
    "noise": Case("3 equal members and 12 of noise, n 300", 300, [0.8, 0.8, 0.8], 12),
    "twin": Case(
        "3 equal members and a copy of the first, n 300", 300, [0.8, 0.8, 0.8], 0, twin=True
    ),
    "dominant": Case("one strong member, 4 weak ones, n 300", 300, [1.5, 0.6, 0.6, 0.6, 0.6], 0),
    "tiny": Case("3 equal members and 6 of noise, n 40", 40, [0.8, 0.8, 0.8], 6),
}


def study(case: Case, seed: int) -> dict[str, float]:
    """One drawn case."""
    rng = np.random.default_rng([seed, case.n])
    truth, members = case.draw(case.n, rng)
    fresh_truth, fresh = case.draw(FRESH, rng)
    folds = np.arange(case.n) % FOLDS
    order = np.argsort(folds, kind="stable")
    names = tuple(f"m{i}" for i in range(len(members)))
    zeros = np.zeros(case.n, dtype=int)
    table = MemberTable(
        names, frozenset(), "auc", order.astype(str), zeros, folds[order], order, GROUPED,
        truth[order][:, None], members[:, order][:, :, None], np.empty(0),
    )  # fmt: skip

    def worth(weights: dict[str, float], space: str, intercept: float = 0.0) -> float:
        whole = np.zeros(FRESH)
        total = np.full(FRESH, intercept)
        for index, name in enumerate(names):
            if weights.get(name):
                total += weights[name] * to_space(fresh[index], space, whole, whole)
        return auc_score(fresh_truth, from_space(total, space))

    ranks = np.stack(
        [to_space(m, "rank", table.seeds, table.folds) for m in table.predictions[:, :, 0]]
    )
    climb = hill_climb(FitRows("auc", table.targets, ranks[:, :, None], tuple(table.cells)))
    share = climb.counts / climb.counts.sum()
    found = {
        "climb_picks_noise": float(share[case.bad].sum() > 0),
        "climb_noise_weight": float(share[case.bad].sum()),
        "climb_claims": climb.score,
        "climb_true": worth(dict(zip(names, share, strict=True)), "rank"),
    }
    best = max(
        range(len(names)),
        key=lambda i: mean_fold_auc(
            table.targets[:, 0], table.predictions[i, :, 0], zeros, table.folds
        ),
    )
    found["best_member_true"] = auc_score(fresh_truth, fresh[best])
    for label, floor in (("auto", None), ("auto_no_floor", 0.0)):
        blend = blend_members(table, COMPETITION, "auto", floor, every_method=True)
        weights = dict(blend.recipe.weights)
        bad = [names[i] for i in case.bad]
        total = sum(weights.values())
        noise = sum(weights.get(name, 0.0) for name in bad) / total
        found[f"{label}_noise_weight"] = noise
        found[f"{label}_picks_noise"] = float(noise > 0)
        found[f"{label}_claims"] = blend.score.mean_fold
        found[f"{label}_true"] = worth(weights, blend.recipe.space, blend.recipe.intercept)
        found[f"{label}_is_{blend.method}"] = 1.0
        if floor is not None:
            continue
    results = {item.method.name: item for item in blend.results}  # without a floor
    bagged = results["hill-climb"]
    found["nested_climb_claims"] = bagged.score.mean_fold
    found["nested_climb_true"] = worth(
        dict(zip((m.run_id for m in blend.members), bagged.fitted.weights, strict=True)), "rank"
    )
    found["rank_mean_true"] = worth(dict.fromkeys(names, 1 / len(names)), "rank")
    return found


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means over seeds of everything that was found."""
    keys = sorted({key for row in rows for key in row})
    return {key: round(float(np.mean([row.get(key, 0.0) for row in rows])), 4) for key in keys}


def describe(name: str, r: dict[str, float], seeds: int, out: TextIO) -> None:
    """One case in five lines."""
    methods = {key[8:]: value for key, value in r.items() if key.startswith("auto_is_")}
    print(f"{name}: {CASES[name].text}, {seeds} seeds", file=out)
    print(
        f"  hill climbing on all rows: picks noise in {r['climb_picks_noise']:.0%} of seeds, weight "
        f"{r['climb_noise_weight']:.3f}; claims {r['climb_claims']:.4f}, is worth "
        f"{r['climb_true']:.4f} ({r['climb_claims'] - r['climb_true']:+.4f})",
        file=out,
    )
    print(
        f"  hill climbing, bagged, nested: claims {r['nested_climb_claims']:.4f}, is worth "
        f"{r['nested_climb_true']:.4f} ({r['nested_climb_claims'] - r['nested_climb_true']:+.4f})",
        file=out,
    )
    for label in ("auto", "auto_no_floor"):
        print(
            f"  {label}: noise in {r[f'{label}_picks_noise']:.0%}, weight "
            f"{r[f'{label}_noise_weight']:.3f}; claims {r[f'{label}_claims']:.4f}, is worth "
            f"{r[f'{label}_true']:.4f} ({r[f'{label}_claims'] - r[f'{label}_true']:+.4f})",
            file=out,
        )
    taken = ", ".join(f"{k} {v:.0%}" for k, v in sorted(methods.items(), key=lambda item: -item[1]))
    print(
        f"  auto takes {taken}; best member is worth {r['best_member_true']:.4f}, equal ranks of all "
        f"{r['rank_mean_true']:.4f}",
        file=out,
        flush=True,
    )


def main() -> int:
    """Run the cases and print what they show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--case", choices=sorted(CASES), action="append")
    chosen = parser.parse_args()
    report: dict[str, dict[str, float]] = {}
    for name in chosen.case or CASES:
        started = time.perf_counter()
        rows: list[dict[str, float]] = []
        for seed in range(chosen.seeds):
            rows.append(study(CASES[name], seed))
            if (seed + 1) % 20 == 0 and seed + 1 < chosen.seeds:
                print(
                    f"after {seed + 1} seeds, {time.perf_counter() - started:.0f} s",
                    file=sys.stderr,
                )
                describe(name, summary(rows), seed + 1, sys.stderr)
        report[name] = summary(rows)
        describe(name, report[name], chosen.seeds, sys.stdout)
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
