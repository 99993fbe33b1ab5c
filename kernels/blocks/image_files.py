"""Which files of a folder are images, and whose: shared by every reader of a competition's tables."""

from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


def list_images(folder: Path) -> list[Path]:
    """The images directly in a folder, sorted, so that order never depends on the disk.

    Hidden files (a Mac leaves ``._x.jpeg``) are none. What else lies there is counted by the self-test.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: Two images differ only in their suffix: one id, two images.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} does not exist; the competition's data is not where it should be"
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            if path.stem in found:
                raise ValueError(
                    f"{folder.name}/ holds two images of id {path.stem!r}: {found[path.stem].name} and "
                    f"{path.name}. Keep one."
                )
            found[path.stem] = path
    return list(found.values())


def index_images(folder: Path) -> dict[str, str]:
    """Paths by id, the file's name without its suffix; see list_images."""
    return {path.stem: str(path) for path in list_images(folder)}


def find_images(ids: list[str], folder: Path, listing: str) -> list[str]:
    """The path of each id's image; an id may carry the file's suffix.

    Args:
        listing: The table that names the ids, for the message.

    Raises:
        FileNotFoundError: An image has no file; names the first and counts them.
    """
    files = index_images(folder)
    paths = [files.get(str(name)) or files.get(Path(str(name)).stem) for name in ids]
    lost = [name for name, path in zip(ids, paths, strict=True) if path is None]
    if lost:
        raise FileNotFoundError(
            f"{len(lost)} of {len(ids)} images listed in {listing} are not in {folder.name}/ "
            f"(first: {lost[0]})"
        )
    return [path for path in paths if path is not None]
