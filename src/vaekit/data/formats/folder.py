"""The files of a folder, whose subfolders, if it has any, are classes."""

from pathlib import Path

from vaekit.data.columns import unicode
from vaekit.errors import DataError

_LITTER = ("thumbs.db", "desktop.ini")


def files_of(path: Path, what: str) -> tuple[list[Path], list[Path]]:
    """The files in the order of their names, subfolder by subfolder, and the subfolders.

    Args:
        path: Of the folder.
        what: A file is, in a word, for errors.

    Raises:
        DataError: There are both files and subfolders, or a subfolder is empty or holds another.
    """
    here = _entries(path)
    folders = [entry for entry in here if entry.is_dir()]
    if not folders:
        return here, []
    if len(folders) < len(here):
        odd = next(entry for entry in here if not entry.is_dir())
        raise DataError(
            f"{path} holds both subfolders, which are classes, and files, such as {odd.name!r}, which have no class: "
            "move the files into subfolders, or elsewhere."
        )
    files = []
    for folder in folders:
        inside = _entries(folder)
        deeper = next((entry for entry in inside if entry.is_dir()), None)
        if deeper is not None:
            raise DataError(f"{folder} holds the folder {deeper.name!r}; classes hold files only: move it elsewhere.")
        if not inside:
            raise DataError(f"{folder} is a class without a {what}: remove it, or put some in.")
        files += inside
    return files, folders


def skipped(bad: list[Path], files: list[Path], what: str) -> str:
    """Which files were left out, for the protocol."""
    names = ", ".join(unicode(file.name) for file in bad[:5]) + (", ..." if len(bad) > 5 else "")
    return f"{len(bad)} of {len(files)} files skipped as not whole {what}s ({names})"


def refused(file: Path, error: Exception, what: str) -> DataError:
    """What is said of a file that is not what it should be."""
    return DataError(
        f"{file} {error}: repair or remove it, or leave out every file that is no whole {what} with "
        "DataSpec.bad_files=skip."
    )


def _entries(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.name[0] != "." and entry.name.lower() not in _LITTER)
