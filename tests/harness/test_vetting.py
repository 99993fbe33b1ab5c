"""Secrets, competition data and names that would not survive are refused by name, before anything is sent."""

import zipfile

import pytest

from harness.errors import ConfigError
from harness.package import build_dataset
from harness.vetting import RULES_VERSION, Vetting

HEX32 = "0123456789abcdef" * 2


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "datasets" / "my-dataset"
    place.mkdir(parents=True)
    (place / "fine.txt").write_text("fine")
    return place


def build(folder):
    return build_dataset(folder, folder.name, "My dataset", "other", "About.")


@pytest.mark.parametrize(
    "name",
    [
        "kaggle.json", "access_token", ".env", ".env.local", "prod.env", "id_rsa", "id_ed25519", "server.pem",
        "tls.key", "deep/er/kaggle.json", "KAGGLE.JSON", ".netrc", "my-service-account-1.json",
    ],
)  # fmt: skip
def test_secrets_are_refused_by_name(folder, name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("anything")
    with pytest.raises(ConfigError, match="looks like a secret") as refusal:
        build(folder)
    assert str(folder / name) in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"username":"me","key":"' + HEX32 + '"}', "Kaggle key"),
        ("token = 'KGAT_" + "a1" * 12 + "'", "Kaggle token"),
        ("-----BEGIN " + "RSA PRIVATE KEY-----\nabc", "private key"),
        ("-----BEGIN " + "PRIVATE KEY-----\nabc", "private key"),
        ("login(token='hf_" + "a" * 34 + "')", "Hugging Face"),
        ("ghp_" + "A1b2" * 9, "GitHub"),
        ("aws = AKIA" + "ABCDEFGHIJKLMNOP", "AWS"),
    ],
)
def test_secrets_are_refused_by_what_they_look_like(folder, text, what):
    (folder / "notes.py").write_text("x = 1\n" * 50 + text + "\n")
    with pytest.raises(ConfigError, match=what):
        build(folder)


def test_a_secret_at_the_end_of_a_large_file_is_seen(folder):
    (folder / "big.log").write_bytes(b"x\n" * 2_000_000 + b"KGAT_" + b"a1" * 12)
    with pytest.raises(ConfigError, match="Kaggle token"):
        build(folder)


@pytest.mark.parametrize(
    "text",
    [
        "key = 'short'", "Put your KGAT_ token into kaggle.json.", "hf_hub_download(repo)", "-----BEGIN CERTIFICATE-----",
        "key: the sha256 of the file",
    ],
)  # fmt: skip
def test_talking_about_secrets_is_no_secret(folder, text):
    (folder / "notes.md").write_text(text)
    assert len(build(folder).files) == 2


@pytest.mark.parametrize("name", ["0417.png", "train/a.JPG", "scan.dcm", "v.nii.gz", "sample_submission.csv"])  # fmt: skip
def test_competition_data_is_refused_by_name(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"anything")
    with pytest.raises(ConfigError, match="never packaged") as refusal:
        build(folder)
    assert str(folder / name) in str(refusal.value)


@pytest.mark.parametrize("start", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", bytes(128) + b"DICM"])
def test_images_under_other_names_are_refused(folder, start):
    (folder / "cache.bin").write_bytes(start + bytes(100))
    with pytest.raises(ConfigError, match="image by its content"):
        build(folder)


def test_a_zip_under_another_name_is_looked_into(folder):
    with zipfile.ZipFile(folder / "state.pt", "w") as archive:
        archive.writestr("films/0417.png", b"x")
    with pytest.raises(ConfigError, match=r"0417\.png"):
        build(folder)


@pytest.mark.parametrize("name", ["a@b.txt", "with space.txt", "-option", "ümlaut.txt", "x" * 210])
def test_names_that_the_service_does_not_keep_are_refused(folder, name):
    (folder / name).write_text("x")
    with pytest.raises(ConfigError, match="does not keep the name"):
        build(folder)


@pytest.mark.parametrize("name", ["data.zip", "src.tar.gz"])
def test_archives_are_refused_because_the_service_unpacks_them(folder, name):
    (folder / name).write_text("x")
    with pytest.raises(ConfigError, match="unpacks archives"):
        build(folder)


def test_names_that_differ_in_case_only_are_refused(folder):
    (folder / "Fine.txt").write_text("x")
    with pytest.raises(ConfigError, match="differ in case only"):
        build(folder)


def test_ignored_files_are_left_out_without_a_word(folder, tmp_path):
    (folder / "0417.png").write_text("x")
    (folder / ".env").write_text("x")
    (folder / "keep.log").write_text("x")
    (folder / "other.log").write_text("x")
    (tmp_path / ".kaggleignore").write_text("*.png\n.env\n*.log\n")
    (folder / ".kaggleignore").write_text("!keep.log\n")
    made = build_dataset(folder, folder.name, "My dataset", "other", "About.", workspace=tmp_path)
    assert [file.path for file in made.files] == ["fine.txt", "keep.log"]


def test_an_ignore_file_of_another_encoding_is_read_all_the_same(folder):
    (folder / ".kaggleignore").write_bytes("gr\u00fc\u00dfe.txt\nnotes.txt\n".encode("latin-1"))
    (folder / "notes.txt").write_text("x")
    assert [file.path for file in build(folder).files] == ["fine.txt"]


@pytest.mark.parametrize("name", [".netrc", "films/001.png", "sample_submission.csv"])
def test_a_link_is_judged_by_what_it_leads_to(folder, tmp_path, name):
    target = tmp_path / name
    target.parent.mkdir(exist_ok=True)
    target.write_text("machine x login y")
    (folder / "harmless.txt").symlink_to(target)
    with pytest.raises(ConfigError, match=r"harmless\.txt ->"):
        build(folder)


def test_a_name_with_a_line_end_is_told_in_one_line(folder):
    (folder / "one\ntwo.txt").write_text("x")
    with pytest.raises(ConfigError, match="does not keep the name") as refusal:
        build(folder)
    assert "\n" not in str(refusal.value)


def test_a_changed_ignore_file_changes_the_rules(folder):
    before = Vetting(folder).rules
    (folder / ".kaggleignore").write_text("*.tmp\n")
    assert Vetting(folder).rules != before
    assert RULES_VERSION


def test_a_certificate_inside_a_wheel_is_no_secret(folder):
    with zipfile.ZipFile(folder / "certs-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("certs/cacert.pem", b"x")
    assert len(build(folder).files) == 2
