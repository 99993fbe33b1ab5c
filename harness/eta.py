"""How long a kernel will still take, from the epoch lines of its own log. Pure."""

import re
from dataclasses import dataclass, field

# seed 0 fold 2 epoch 7/60 | loss 0.1234 | val AUC 0.9876 | lr 1.0e-04 | 12.3 s
EPOCH_LINE = re.compile(
    r"(?:seed (?P<seed>\d+) fold (?P<fold>\d+)\W+)?epoch (?P<epoch>\d+)/(?P<epochs>\d+)\b.*?"
    r"\b(?P<seconds>\d+(?:\.\d+)?) s\b"
)


@dataclass
class EpochClock:
    """Reads log lines as they come. Models are trained one after the other, each for the same epochs."""

    models: int | None = None  # (seed, fold) pairs that the run trains; None: not known
    _seen: list[tuple[str, str]] = field(default_factory=list)
    _times: list[float] = field(default_factory=list)

    def left(self, line: str) -> float | None:
        """Seconds that are left after this line; None when the line or the run tells nothing.

        The mean of the last epochs counts: the first one of a run also warms up caches. Early stopping
        and the report at the end are not foreseen.
        """
        match = EPOCH_LINE.search(line)
        if match is None:
            return None
        model = (match["seed"] or "", match["fold"] or "")
        if model not in self._seen:
            self._seen.append(model)
        self._times = [*self._times[-4:], float(match["seconds"])]
        epochs = int(match["epochs"])
        if self.models is None:
            return None
        rest = epochs - int(match["epoch"]) + max(0, self.models - len(self._seen)) * epochs
        return rest * sum(self._times) / len(self._times)

    def annotate(self, line: str) -> str:
        """The line, with what is left behind it where that is known."""
        seconds = self.left(line)
        return line if seconds is None else f"{line} | about {spoken(seconds)} left"


def spoken(seconds: float) -> str:
    """40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
