"""A data set on the hub, through ``datasets`` and its cache."""

from __future__ import annotations

from taia.errors import DataError, DownloadError, first_line
from taia.offline import without_waiting
from taia.training.data.containers import RawRows, from_dataset
from taia.training.data.source import HubName


def read_hub(given: str) -> RawRows:
    """Download and read a data set; ``HF_HOME``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` count.

    Args:
        given: ``org/name[@revision][:[config/]split]``; the split is ``train`` if not given.

    Raises:
        DataError: If it is no path and no name, or the data set has no such configuration or
            split.
        DownloadError: If the hub has no such data set, or cannot be reached.
    """
    name = HubName.parse(given)
    if name is None:
        raise DataError(
            f"{given!r} does not exist.",
            "Give a file, a folder, or a hub name as org/name[@revision][:[config/]split].",
        )
    try:
        from datasets import load_dataset_builder
    except ImportError as error:
        raise DataError(
            f"{given!r} is no file here, and datasets is not installed.",
            "Check the path, or install taia[train] to use hub names.",
        ) from error
    try:
        with without_waiting():
            builder = load_dataset_builder(name.name, name.config, revision=name.revision)
            builder.download_and_prepare()
        splits = list(builder.info.splits or ())
        if name.split in splits:
            return from_dataset(builder.as_dataset(split=name.split), str(builder.hash))
    except ValueError as error:  # it asks for one of several configurations
        raise DataError(
            f"{given!r} cannot be read: {first_line(error)}.",
            "Name the configuration and split, as in org/name:main/train.",
        ) from error
    except Exception as error:  # the clients' errors have no common class
        raise DownloadError(
            f"{given!r} is no file here and could not be downloaded: {first_line(error)}.",
            "Check the spelling and the connection; for a private one set HF_TOKEN.",
        ) from error
    raise DataError(
        f"{given!r} has no split {name.split!r}, but {', '.join(map(str, splits)) or 'none'}.",
        "Name one, as in org/name:train.",
    )
