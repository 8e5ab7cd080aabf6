"""Files from the network: whole and verified, or not there at all."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pooch
from requests import exceptions as http  # what pooch downloads with, and lets through

from vaekit.errors import DataError

TIMEOUT = 30.0


def fetch(url: str, sha256: str, folder: Path, timeout: float = TIMEOUT) -> Path:
    """Path of the file at `url`, in `folder`: one that is there with the right SHA-256, else a fresh download.

    The file gets its name only once it is complete and verified.

    Args:
        url: Of the file.
        sha256: Of its content, in hexadecimal.
        folder: Where it is kept.
        timeout: In seconds, for each wait on the server.

    Raises:
        DataError: It cannot be had; the message names the URL, what was wrong, and how to go on without the network.
    """
    name = url.rsplit("/", 1)[-1]
    # Any: pooch's own downloader does not fit its own type for one. No stream: pooch would not close its socket.
    downloader: Any = pooch.HTTPDownloader(timeout=timeout, chunk_size=1 << 16, stream=False)
    try:
        with _quiet(pooch.get_logger()):
            pooch.retrieve(url, f"sha256:{sha256}", fname=name, path=folder, downloader=downloader)
    except http.HTTPError as error:
        raise _failed(url, folder, f"the server answered {str(error).split(' for url')[0]}") from None
    except http.Timeout:
        raise _failed(url, folder, f"the server sent nothing for {timeout:g} seconds") from None
    except http.ChunkedEncodingError:
        raise _failed(url, folder, "the connection broke before the whole file had come") from None
    except http.ConnectionError as error:
        what = "timed out" if "timed out" in str(error).lower() else "was refused, or the host is unknown"
        raise _failed(url, folder, f"the connection {what}") from None
    except http.RequestException as error:
        raise _failed(url, folder, str(error)) from None
    except ValueError:
        raise _failed(url, folder, f"its SHA-256 is not the known one, {sha256}") from None
    except OSError as error:
        raise _failed(url, folder, f"{folder} cannot be written ({error.strerror or error})") from None
    return folder / name


def _failed(url: str, folder: Path, why: str) -> DataError:
    return DataError(
        f"could not download {url}: {why}. "
        f"Put the file in $VAEKIT_DATA/{folder.name}/, or use `digits`, which needs no network."
    )


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
