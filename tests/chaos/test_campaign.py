"""Whatever happens to a command, the same command again ends where it was meant to: a short campaign.

The whole one: make chaos SEEDS=1000, and python -m tests.chaos.campaign --points.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.chaos.campaign import REGRESSIONS, draw_schedule
from tests.chaos.injection import KINDS

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 20
SECONDS = 60.0  # no further seed is begun after these: on a busy machine fewer are played


def campaign(*options: str) -> dict:
    """Run the campaign in a process of its own: it forks, and imports a world's kernels."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.campaign", "--json", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.stdout, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_nothing_is_lost_and_nothing_is_done_twice():
    said = campaign(
        "--regressions", "--seeds", str(SEEDS), "--first", "1000", "--limit", str(SECONDS)
    )
    assert said["failed"] == []
    assert said["schedules"] >= len(REGRESSIONS)
    assert said["kills"] > 0
    assert said["faults_hit"] > 0


def test_a_seed_always_draws_the_same_schedule_and_the_seeds_draw_every_trouble():
    drawn = [draw_schedule(seed) for seed in range(300)]
    assert drawn == [draw_schedule(seed) for seed in range(300)]
    kinds = {item.injection.kind for item in drawn if item.injection is not None}
    assert kinds == set(KINDS) - {"count"}
    assert any(item.twin for item in drawn)
    assert any(item.serve and item.server for item in drawn)
    assert any(item.late_signal for item in drawn)
    assert {fault[0] for item in drawn for fault in item.faults} == {
        "error", "slow", "drop", "lost_ack", "cut", "corrupt", "answer", "patch",
    }  # fmt: skip


def test_the_campaign_notices_what_it_is_there_to_notice(tmp_path):
    # A program that pushes blindly: the check must say so, or it proves nothing.
    probe = (
        "import sys; from pathlib import Path\n"
        "from tests.chaos import campaign\n"
        "from tests.chaos.injection import Injection\n"
        "with campaign.campaign_in(Path(sys.argv[1])) as made:\n"
        "    import harness.commands.push as push\n"
        "    push.settle_intent = lambda bench, run: bench.ledger.update_run(run.run_id, state='REJECTED')\n"
        "    lost = campaign.Schedule(1, 'push', faults=(('lost_ack', '*SaveKernel', {}, 1, 0),))\n"
        "    print(made.play(lost).violations)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, str(tmp_path / "world")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "2 kernel versions for 1 intent" in done.stdout, done.stderr[-2000:]
