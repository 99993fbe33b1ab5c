"""Leaderboard: our place, the medal zone, and how far validation and leaderboard go together."""

import contextlib
from dataclasses import dataclass

from harness.commands.blend_and_submit import refresh
from harness.commands.members import choose_competition
from harness.commands.validation import label_of, public_noise_of
from harness.members import higher_is_better
from harness.records import Submission
from harness.remote import CompetitionInfo, Standing
from harness.standings import (
    Agreement,
    Point,
    PublicNoise,
    agreement,
    medal_places,
    medal_zone,
    place_of,
)
from harness.workbench import Workbench


@dataclass(frozen=True)
class Leaderboard:
    """The top, our place, our submissions, and what they tell together."""

    competition: str
    info: CompetitionInfo
    top: tuple[Standing, ...]
    teams: int
    our_rank: int | None
    rank_source: str  # the service | our best score | ""
    zone: str | None  # None where no medals are awarded or we have no place
    last_places: dict[str, int]  # of each medal; empty where none are awarded
    submissions: tuple[Submission, ...]
    points: tuple[Point, ...]
    agreement: Agreement
    noise: PublicNoise | None


def leaderboard(bench: Workbench, slug: str | None, top: int = 10) -> Leaderboard:
    """Ask the service for the standings and for every submission of ours that has no score yet."""
    runs = bench.ledger.runs(bench.settings.remote)
    competition = choose_competition(bench, slug, runs)
    info = bench.remote.competition_info(competition.slug)
    standings = bench.remote.leaderboard(competition.slug)
    submissions = []
    for item in bench.ledger.submissions(bench.settings.remote, competition.slug):
        unknown = not item.private_score if info.closed else not item.public_score
        if item.ref is not None and item.status != "ERROR" and unknown:
            item, _ = refresh(bench, item)
        submissions.append(item)
    up = higher_is_better(competition)
    teams = max(info.team_count, len(standings))
    rank, source = _our_rank(info, standings, submissions, bench.remote.owner, up)
    medals = competition.awards_medals
    last = [item for item in submissions if item.public_score]
    points = tuple(
        Point(
            label_of(item),
            item.cv_score,
            float(item.public_score or 0),
            float(item.private_score) if item.private_score else None,
        )
        for item in last
        if item.cv_score is not None
    )
    return Leaderboard(
        competition.slug,
        info,
        tuple(standings[:top]),
        teams,
        rank,
        source,
        medal_zone(rank, teams) if medals and rank is not None else None,
        medal_places(teams) if medals else {},
        tuple(submissions),
        points,
        agreement(points),
        public_noise_of(bench, competition, last[-1]) if last else None,
    )


def _our_rank(
    info: CompetitionInfo,
    standings: list[Standing],
    submissions: list[Submission],
    owner: str,
    greater_is_better: bool,
) -> tuple[int | None, str]:
    """Our place as the service says, else by our team's line, else where our best score would stand."""
    if info.our_rank is not None:
        return info.our_rank, "the service"
    for line in standings:
        if line.team.lower() == owner.lower():
            return line.rank, "the service"
    ours = [float(item.public_score) for item in submissions if item.public_score]
    others = []
    for line in standings:
        with contextlib.suppress(ValueError):
            others.append(float(line.score))
    if not ours or not others:
        return None, ""
    best = max(ours) if greater_is_better else min(ours)
    return place_of(best, others, greater_is_better), "our best score"
