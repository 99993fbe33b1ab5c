"""README.md of a run: the model card, from results.json's own values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kernels.contract import CARD_FILE, MODEL_FILE, OPTIMISTIC_NOTE, RESULTS_FILE

CARD_METRICS = (
    ("auc_mean_fold", "AUC, mean over folds"),
    ("auc", "AUC"),
    ("average_precision", "average precision"),
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("specificity", "specificity"),
    ("f1", "F1"),
    ("mcc", "MCC"),
    ("brier", "Brier score"),
    ("log_loss", "log loss"),
    ("ece", "calibration error"),
)
SPLIT_TITLES = {"out_of_fold": "out of fold", "test": "labelled test"}

INTENDED_USE = """Research on image classification and on honest validation. **Not for clinical use**: this is no medical
device, it was not validated on patients, and it must not inform a diagnosis or a treatment."""

LIMITS = """- Measured on films like those it was trained on. On films of other hospitals, ages or machines
  classifiers like this one have fallen to chance; nothing here says how this one would do.
- Public chest films carry shortcuts (size, sharpness, text marks) that tell the label without a lung. Heat maps
  show where a score comes from, not that the reason is a sound one.
- Labels have errors; groups of films that belong together are known only where names or near-copies tell.
- Probabilities follow the share of positives and the imbalance correction of this training."""


def write_card(results: Mapping[str, Any], folder: Path) -> None:
    """Write README.md beside the files it names."""
    (folder / CARD_FILE).write_text(card_text(results, folder), encoding="utf-8")


def card_text(results: Mapping[str, Any], folder: Path) -> str:
    """The card in Markdown; only files that are in the folder are named."""
    parts = [
        f"# {results.get('strategy') or 'Classifier'}: {results['title']}",
        f"## Intended use\n\n{INTENDED_USE}",
        f"## Data\n\n{data_text(results)}",
        *(
            target_text(name, section, several=len(results["targets"]) > 1)
            for name, section in results["targets"].items()
        ),
        macro_text(results),
        f"## Model\n\n{model_text(results)}",
        f"## Files\n\n{files_text(folder)}",
        f"## Limits\n\n{limits_text(results)}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def limits_text(results: Mapping[str, Any]) -> str:
    """What every such model cannot do, after what makes this one's numbers look better than they are."""
    note = results.get(OPTIMISTIC_NOTE)
    return f"- Its numbers are optimistic: {note}.\n{LIMITS}" if note else LIMITS


def data_text(results: Mapping[str, Any]) -> str:
    """Films of each class."""
    lines = ["| set | target | negative | positive |", "| --- | --- | ---: | ---: |"]
    for split, targets in results["class_distribution"].items():
        for name, counts in targets.items():
            lines.append(f"| {split} | {name} | {counts['negative']:,} | {counts['positive']:,} |")
    found = (results.get("groups") or {}).get("finding")
    known = f"\n\nGroups that folds keep together: {found}." if found else ""
    return f"Competition `{results['competition']}`.\n\n" + "\n".join(lines) + known


def target_text(name: str, section: Mapping[str, Any], several: bool) -> str:
    """Metrics of one target, a column for each set of films, and how decisions were made."""
    splits = [split for split in SPLIT_TITLES if split in section]
    titles = [f"{SPLIT_TITLES[split]}, n {section[split]['n']:,}" for split in splits]
    lines = ["| metric | " + " | ".join(titles) + " |", "| --- |" + " --- |" * len(splits)]
    for metric, title in CARD_METRICS:
        shown = [interval_text(section[split]["metrics"].get(metric)) for split in splits]
        lines.append(f"| {title} | " + " | ".join(shown) + " |")
    majority = [f"{section[split]['majority_accuracy']:.3f}" for split in splits]
    lines.append("| always the larger class | " + " | ".join(majority) + " |")
    threshold = section["threshold"]
    text = (
        f"Estimate and 95 % interval. Threshold {threshold['value']:.4f} ({threshold['criterion']}), chosen "
        f"on {threshold['chosen_on']}; {threshold['rule']}."
    )
    models = section.get("test", {}).get("models", [])
    aucs = [model["auc"] for model in models if model["auc"] is not None]
    if aucs:
        text += (
            f" The test column is the mean of {len(models)} models; one by itself has AUC "
            f"{min(aucs):.3f} to {max(aucs):.3f}."
        )
    heading = f"## Metrics of {name}" if several else "## Metrics"
    return f"{heading}\n\n" + "\n".join(lines) + f"\n\n{text}"


def macro_text(results: Mapping[str, Any]) -> str:
    """Means over targets, when there are several."""
    lines = []
    for split, means in results.get("macro", {}).items():
        shown = [f"{key} {value:.3f}" for key, value in means.items() if value is not None]
        lines.append(f"- {SPLIT_TITLES[split]}: " + ", ".join(shown))
    return "## Mean over targets\n\n" + "\n".join(lines) if lines else ""


def interval_text(found: Mapping[str, Any] | None) -> str:
    """0.912 [0.880, 0.940], or a dash."""
    if found is None or found["estimate"] is None:
        return "-"
    return f"{found['estimate']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def model_text(results: Mapping[str, Any]) -> str:
    """What was trained, how, and how long it took; everything else is in results.json."""
    values = results.get("hyperparameters", {})
    shown = {
        "profile": results.get("profile"),
        "backbone": values.get("backbone"),
        "weights": results.get("weights_from"),
        "image size": values.get("image_size"),
        "folds": (values.get("folds") or {}).get("count"),
        "seeds": (values.get("folds") or {}).get("seeds"),
        "epochs": (values.get("train") or {}).get("epochs"),
        "device": results.get("device"),
        "seconds": results.get("seconds"),
    }
    lines = [f"- {key}: {value}" for key, value in shown.items() if value is not None]
    return "\n".join([*lines, f"- all settings: `hyperparameters` in `{RESULTS_FILE}`"])


def files_text(folder: Path) -> str:
    """What is in the folder, and how to load the network."""
    about = {
        RESULTS_FILE: "every number above, with its method",
        "cm.png": "confusion matrix",
        "roc.png": "ROC curve",
        "pr.png": "precision and recall",
        "calibration.png": "predicted against observed frequency",
        "gradcam": "heat maps: p_*, n_* typical films of each class, fn_*, fp_* the worst errors, each by "
        "the network that never saw the film",
        MODEL_FILE: "one of the networks: weights, config and results, plain values only",
    }
    # results.json is written just before this file; a dry text must name it all the same.
    there = [name for name in about if name == RESULTS_FILE or (folder / name).exists()]
    text = "\n".join(f"- `{name}`: {about[name]}" for name in there)
    if (folder / MODEL_FILE).is_file():
        text += (
            f"\n\n```python\nsaved = torch.load({MODEL_FILE!r}, weights_only=True)\n"
            "saved['model_state_dict'], saved['config'], json.loads(saved['results'])\n```"
        )
    return text
