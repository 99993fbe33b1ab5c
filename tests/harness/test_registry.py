"""What a competition's file may say."""

from types import SimpleNamespace

import pytest

from harness import registry
from harness.errors import ConfigError
from kernels.config import Competition


def test_a_metric_that_nobody_knows_is_refused_with_the_known_ones(tmp_path, monkeypatch):
    folder = tmp_path / "kernels" / "competitions"
    folder.mkdir(parents=True)
    (folder / "films.py").write_text("")
    made = Competition("films", "Films", "id", ("label",), metric="f2")
    monkeypatch.setattr(
        registry.importlib, "import_module", lambda name: SimpleNamespace(COMPETITION=made)
    )
    with pytest.raises(ConfigError, match=r"films.py: unknown metric 'f2'; known: auc, macro_auc"):
        registry.load_competition(tmp_path, "films")
