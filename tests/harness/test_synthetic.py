"""Drawn competitions are whole, repeatable, without leaks, and neither trivial nor hopeless."""

import csv
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
cv2 = pytest.importorskip("cv2")

from harness.synthetic import (  # noqa: E402 - after the check that OpenCV is there
    POSITIVE_SHARE,
    SyntheticCompetition,
    draw_competition,
    draw_film,
)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def bytes_below(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> SyntheticCompetition:
    folder = tmp_path_factory.mktemp("drawn")
    return draw_competition(folder, seed=3, n_unlabelled=30, n_labelled=200, n_test=20, size=96)


def test_layout_adds_up(drawn: SyntheticCompetition) -> None:
    data = drawn.data_folder
    files = {"sample_submission.csv", "test", "train", "val", "val.csv"}
    assert {path.name for path in data.iterdir()} == files
    films = {
        name: {path.stem for path in (data / name).iterdir()} for name in ("train", "val", "test")
    }
    assert {name: len(ids) for name, ids in films.items()} == {"train": 30, "val": 200, "test": 20}
    assert len(set.union(*films.values())) == 250
    labels, sample = rows_of(data / "val.csv"), rows_of(data / "sample_submission.csv")
    assert [row["image_id"] for row in labels] == sorted(films["val"])
    assert [row["image_id"] for row in sample] == sorted(films["test"])
    assert {row["label"] for row in labels} == {"0", "1"}
    assert {row["label"] for row in sample} == {"0.5"}
    film = cv2.imread(str(next((data / "test").iterdir())), cv2.IMREAD_UNCHANGED)
    assert film.shape == (96, 96)
    assert film.dtype == np.uint8


def test_solution_covers_the_test_films_and_lies_outside_the_data(
    drawn: SyntheticCompetition,
) -> None:
    solution = rows_of(drawn.solution_csv)
    sample = rows_of(drawn.data_folder / "sample_submission.csv")
    assert [row["image_id"] for row in solution] == [row["image_id"] for row in sample]
    assert list(solution[0]) == list(sample[0])
    assert drawn.data_folder not in drawn.solution_csv.parents


def test_class_shares_are_those_of_the_real_films(drawn: SyntheticCompetition) -> None:
    for path in (drawn.data_folder / "val.csv", drawn.solution_csv):
        labels = [int(row["label"]) for row in rows_of(path)]
        assert abs(sum(labels) / len(labels) - POSITIVE_SHARE) <= 0.5 / len(labels) + 1e-9


def test_patients_have_several_films_but_one_split_and_one_label(
    drawn: SyntheticCompetition,
) -> None:
    splits: dict[int, set[str]] = {}
    for name in ("train", "val", "test"):
        for path in (drawn.data_folder / name).iterdir():
            splits.setdefault(drawn.patients[path.stem], set()).add(name)
    assert all(len(names) == 1 for names in splits.values())
    assert len(splits) < 0.8 * len(drawn.patients)
    labels: dict[int, set[str]] = {}
    for row in rows_of(drawn.data_folder / "val.csv"):
        labels.setdefault(drawn.patients[row["image_id"]], set()).add(row["label"])
    assert all(len(found) == 1 for found in labels.values())


def test_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    drawn = [
        draw_competition(tmp_path / name, seed, n_unlabelled=3, n_labelled=6, n_test=3, size=64)
        for name, seed in (("one", 1), ("again", 1), ("other", 2))
    ]
    one, again, other = (bytes_below(item.data_folder.parent) for item in drawn)
    assert len(one) == 3 + 6 + 3 + 3
    assert one == again
    assert not set(one.values()) & set(other.values())


def test_an_existing_competition_is_not_drawn_over(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    with pytest.raises(FileExistsError):
        draw_competition(tmp_path, slug="toy")


def test_opacities_lie_under_the_mask_and_change_nothing_outside_the_lungs() -> None:
    gains = []
    for seed in range(12):
        clear, nothing = draw_film(seed, False)
        ill, mask = draw_film(seed, True)
        assert not nothing.any()
        assert 0 < mask.mean() < 0.4
        change = ill.astype(float) - clear
        gains.append(change[mask].mean() - change[~mask].mean())
        assert np.abs(change[-12:]).max() <= 2  # the abdomen
        assert np.abs(change[:, :6]).max() <= 2  # beside the body
    assert min(gains) > 1  # faint ones among them
    assert np.median(gains) > 15


def test_films_of_one_patient_resemble_each_other_more_than_strangers() -> None:
    def thumb(seed: int, patient: int) -> Any:
        film, _ = draw_film(seed, False, patient=patient)
        return cv2.resize(film, (48, 48), interpolation=cv2.INTER_AREA).astype(float).ravel()

    pairs = [
        (thumb(10 * n, n), thumb(10 * n + 1, n), thumb(10 * n + 2, n + 100)) for n in range(12)
    ]
    same = [np.corrcoef(one, two)[0, 1] for one, two, _ in pairs]
    strangers = [np.corrcoef(one, three)[0, 1] for one, _, three in pairs]
    assert np.mean(same) > np.mean(strangers)


def test_task_is_neither_trivial_nor_hopeless_nor_told_by_file_sizes(
    drawn: SyntheticCompetition,
) -> None:
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = rows_of(drawn.data_folder / "val.csv")
    labels = np.array([int(row["label"]) for row in rows])
    patients = np.array([drawn.patients[row["image_id"]] for row in rows])
    paths = [drawn.data_folder / "val" / f"{row['image_id']}.jpg" for row in rows]
    films = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]

    def auc(features: list[list[float]]) -> float:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        guesses = cross_val_predict(
            model, features, labels, groups=patients, cv=GroupKFold(5), method="predict_proba"
        )
        return float(roc_auc_score(labels, guesses[:, 1]))

    blocks = [cv2.resize(film, (12, 12), interpolation=cv2.INTER_AREA).ravel() for film in films]
    outside = [[path.stat().st_size, film.mean()] for path, film in zip(paths, films, strict=True)]
    assert 0.72 < auc([block.tolist() for block in blocks]) < 0.96
    assert auc(outside) < 0.75


def test_too_small_a_film_is_refused() -> None:
    with pytest.raises(ValueError, match="size is 16"):
        draw_film(0, False, size=16)
