"""What is left of a run is read from its own epoch lines, and never guessed where they do not tell."""

import pytest

from harness.eta import EpochClock, spoken

LINE = "seed 0 fold {fold} epoch {epoch}/4 | loss 0.5 | val AUC 0.9 | lr 1.0e-03 | {seconds} s"


def test_epochs_and_folds_that_are_left_count():
    clock = EpochClock(models=3)
    assert clock.left(LINE.format(fold=0, epoch=1, seconds="10.0")) == pytest.approx(110)
    assert clock.left(LINE.format(fold=0, epoch=4, seconds="10.0")) == pytest.approx(80)
    assert clock.left(LINE.format(fold=2, epoch=1, seconds="10.0")) == pytest.approx(70)
    assert "about 0 s left" in EpochClock(1).annotate(LINE.format(fold=0, epoch=4, seconds="3"))


def test_the_last_epochs_decide_since_the_first_warms_up():
    clock = EpochClock(models=1)
    clock.left(LINE.format(fold=0, epoch=1, seconds="500"))
    for _ in range(5):
        left = clock.left(LINE.format(fold=0, epoch=2, seconds="10"))
    assert left == pytest.approx(20)


@pytest.mark.parametrize(
    "line", ["device cpu", "simsiam epoch 1 loss 0.1 seconds 17", "epoch 3/x", "", "epoch 3/4 without time"]
)  # fmt: skip
def test_other_lines_stay_as_they_are(line):
    assert EpochClock(2).annotate(line) == line


def test_a_run_of_unknown_length_promises_nothing():
    line = LINE.format(fold=0, epoch=1, seconds="10")
    assert EpochClock(None).annotate(line) == line


def test_times_are_spoken_in_the_unit_that_fits():
    assert [spoken(40), spoken(720), spoken(3600 * 3.5)] == ["40 s", "12 min", "3.5 h"]
