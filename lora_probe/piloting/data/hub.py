"""Rows of a dataset id, from the hub or from its cache, through the `datasets` library."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lora_probe.piloting.data.hub_errors import dataset_error
from lora_probe.piloting.data.quiet import quiet_datasets
from lora_probe.piloting.data.rows import Rows, class_names, without_media
from lora_probe.piloting.errors import DatasetUnavailable
from lora_probe.source.environment import offline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.piloting.data.examples import DataOptions

__all__ = ["read_dataset"]

_LARGEST_DOWNLOAD = 2**30
"""Bytes: larger datasets are streamed, so that a pilot's few rows cost no such download, nor a full disk."""
_BUGS = (AssertionError, AttributeError, ImportError, NameError, TypeError)
"""Errors that no dataset or network is to blame for; they keep their traceback."""
_SLICE = re.compile(r"[\[+]")


def read_dataset(dataset: str, options: DataOptions) -> Rows:
    """Return the first `options.max_examples` rows of one split of a dataset id.

    A dataset of ordinary size is kept in the cache of the `datasets` library, which serves it without a
    network, too; a larger one is streamed. Scripts of a dataset are never run: the library has no means to.

    Raises:
        DatasetUnavailable: not there, gated, unreachable, or of another configuration or split.

    """
    with quiet_datasets():
        try:
            return _read(dataset, options)
        except (DatasetUnavailable, *_BUGS):
            raise
        except Exception as error:  # a bad network or dataset raises what half a dozen libraries have
            raise dataset_error(error, dataset=dataset, options=options) from error


def _read(dataset: str, options: DataOptions) -> Rows:
    from datasets import load_dataset_builder

    sizes = _examine(dataset, options)
    builder = load_dataset_builder(dataset, name=options.name, revision=options.revision, token=options.token)
    split = _split(dataset, options.split, builder)
    streaming = _SLICE.search(split) is None and _bytes(builder, sizes) > _LARGEST_DOWNLOAD
    if streaming:
        found = builder.as_streaming_dataset(split=split)
    else:
        builder.download_and_prepare()
        found = builder.as_dataset(split=split)
    found = without_media(found)
    rows: list[Mapping[str, Any]] = []
    for row in found:
        if len(rows) == options.max_examples:
            break
        rows.append(row)
    more = len(rows) == options.max_examples and (streaming or len(found) > len(rows))
    places = tuple(f"{dataset}, row {count}" for count in range(1, len(rows) + 1))
    return Rows(rows=tuple(rows), places=places, more=more, class_names=class_names(found.features))


def _split(dataset: str, asked: str | None, builder: Any) -> str:
    """Return the split to read: the one asked for, ``train``, or the only one."""
    there = [str(split) for split in builder.info.splits or builder.config.data_files or ()]
    if asked is not None:
        if there and not {_SLICE.split(part)[0].strip() for part in asked.split("+")} <= set(there):
            problem = f"it has no split {asked!r}"
            raise DatasetUnavailable(
                dataset=dataset, problem=problem, advice=f"name one of {', '.join(there)} with --data-split"
            )
        return asked
    if "train" in there or not there:
        return "train"
    if len(there) == 1:
        return there[0]
    problem = "it has several splits and none is called train"
    raise DatasetUnavailable(
        dataset=dataset, problem=problem, advice=f"name one of {', '.join(there)} with --data-split"
    )


def _examine(dataset: str, options: DataOptions) -> dict[str, int]:
    """Return the sizes of the dataset's files on the hub, in bytes by path; none where no hub answers.

    Asked beforehand because the library hides why it was refused: errors of huggingface_hub say it.
    """
    if offline():
        return {}
    from huggingface_hub import HfApi, errors

    api = HfApi()
    try:
        api.auth_check(dataset, repo_type="dataset", token=options.token)
        info = api.dataset_info(dataset, revision=options.revision, files_metadata=True, token=options.token)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise
    except _BUGS:
        raise
    except Exception:  # noqa: BLE001 - no hub, or one in trouble: the library's cache may still serve
        return {}
    return {file.rfilename: file.size or 0 for file in info.siblings or ()}


def _bytes(builder: Any, sizes: Mapping[str, int]) -> int:
    """Return the size of the files that the dataset is built from."""
    urls = (url for urls in (builder.config.data_files or {}).values() for url in urls)
    # hf://datasets/OWNER/NAME@COMMIT/PATH
    return sum(sizes.get(url.partition("@")[2].partition("/")[2], 0) for url in set(urls))
