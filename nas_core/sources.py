"""Where datasets are and how they are decoded: digits, CIFAR-10 in three layouts, folders of class folders.

:func:`locate` finds a dataset and reads no more of it than it must; :func:`read` decodes it into arrays in canonical
order and keeps what took long to decode in a cache outside the repository.

Canonical order: the training images, then the test images, each part sorted by a digest of pixels and label. It does
not depend on the layout or on the order of files, so the same images have the same sha256 whoever packed them; and it
is as good as shuffled, so the first n images of a part are not all of one class.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DIGITS_TEST = 297
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
# The first bytes of the encoded images tell the original CIFAR-10 (lossless) from a lossy copy of it.
MAGIC = {"cifar10": b"\x89PNG\r\n\x1a\n", "cifar10-jpeg": b"\xff\xd8\xff"}
NAMES = ("digits", *MAGIC)
CACHE_FORMAT = 1  # part of the cache's key: raise it when the same files would decode to other arrays
TORCHVISION_BATCHES = ([f"data_batch_{number}" for number in range(1, 6)], ["test_batch"])


class DataError(ValueError):
    """A dataset that is unknown, missing, broken or not what was recorded; one sentence that says what to do."""


class Arrays(NamedTuple):
    """A decoded dataset: pixels uint8 ``[N, C, H, W]`` and labels int64 ``[N]``, twice; the classes' names."""

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """Where a dataset is: its name, its layout ("digits", "torchvision", "parquet", "folder") and its folder."""

    name: str
    layout: str
    folder: Path | None = None

    @property
    def directory(self) -> Path:
        """The folder of a dataset that lies in one."""
        return self.folder  # type: ignore[return-value]  # only digits, which scikit-learn brings, have none


class _Entry(NamedTuple):
    encoded: bytes | None
    label: int | None
    where: str


# ------------------------------------------------------------------------------------------------------------ finding


def roots() -> list[Path]:
    """The folders that are searched, in order: ``$NAS_CORE_DATA``, then ``data`` and ``../shared/data`` beside the
    repository and beside the working directory. Those that do not exist are left out, except that a wrong
    NAS_CORE_DATA is an error."""
    chosen = os.environ.get("NAS_CORE_DATA")
    if chosen and not Path(chosen).expanduser().is_dir():
        raise DataError(
            f"NAS_CORE_DATA is {chosen!r}, which is not a folder: set it to the folder that holds the datasets, or "
            "unset it."
        )
    folders = [Path(chosen).expanduser()] if chosen else []
    for base in (REPOSITORY, Path.cwd()):
        folders += [base / "data", base.parent / "shared" / "data"]
    return list(dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir()))


def locate(name: str) -> Source:
    """Where the dataset is. ``name`` is "digits", "cifar10", "cifar10-jpeg" or a folder of class folders, given as a
    path or as its name inside one of the :func:`roots`. Raises :class:`DataError` for an unknown name and for data
    that is not there."""
    source = find(name)
    if source is not None:
        return source
    if name in MAGIC:
        download = ", or call load('cifar10', download=True)" if name == "cifar10" else ""
        raise DataError(
            f"{name} is not on this machine: set NAS_CORE_DATA to the folder that holds it, as torchvision's "
            "cifar-10-batches-py, as train*.parquet and test*.parquet, or as class folders in train/ and "
            f"test/{download}."
        )
    raise DataError(
        f"The dataset {name!r} is unknown: give {', '.join(NAMES)} or the path of a folder with one subfolder a class."
    )


def find(name: str) -> Source | None:
    """As :func:`locate`, but None where there is nothing of this name."""
    if name == "digits":
        return Source("digits", "digits")
    if name in MAGIC:
        candidates = (_cifar_at(folder) for root in roots() for folder in _two_levels(root))
        return next((source for source in candidates if source and source.name == name), None)
    folders = (base / os.path.expanduser(name) for base in (Path.cwd(), REPOSITORY, *roots()))
    return next((Source(name, "folder", folder) for folder in folders if name and os.path.isdir(folder)), None)


def _two_levels(root: Path) -> Iterator[Path]:
    yield root
    for child in _subfolders(root):
        yield child
        yield from _subfolders(child)


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(
            Path(entry.path) for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")
        )
    except (FileNotFoundError, PermissionError):  # somebody else's folder among the data is no reason to stop
        return []


def _cifar_at(folder: Path) -> Source | None:
    """CIFAR-10 if this very folder is one of its layouts."""
    if (folder / "data_batch_1").is_file():
        return Source("cifar10", "torchvision", folder)
    if all(_parquet_files(folder)):
        # A pair of some other dataset (no img.bytes, no label) is passed over; a broken pair raises.
        first = _first_of_parquet(_parquet_files(folder)[0][0])
        return _named_by_bytes(first, "parquet", folder)
    if all(tuple(child.name for child in _subfolders(folder / part)) == CIFAR10_CLASSES for part in ("train", "test")):
        images = _images_in(folder / "train" / CIFAR10_CLASSES[0])
        return _named_by_bytes(images[0].read_bytes() if images else None, "folder", folder)
    return None


def _named_by_bytes(encoded: bytes | None, layout: str, folder: Path) -> Source | None:
    for name, magic in MAGIC.items():
        if encoded and encoded.startswith(magic):
            return Source(name, layout, folder)
    return None


def _parquet_files(folder: Path) -> tuple[list[Path], list[Path]]:
    return sorted(folder.glob("train*.parquet")), sorted(folder.glob("test*.parquet"))


def _first_of_parquet(path: Path) -> bytes | None:
    """The first encoded image; None where the columns are not CIFAR-10's or there are no rows."""
    with _open_parquet(path) as file:
        names = {file.schema.column(index).path for index in range(len(file.schema))}
        if not {"img.bytes", "label"} <= names:
            return None
        batch = next(file.iter_batches(batch_size=1, columns=["img.bytes"]), None)
        return _bytes_of(batch.to_pylist()[0]["img"]) if batch else None


def _bytes_of(image: dict[str, bytes | None] | None) -> bytes | None:
    return (image or {}).get("bytes")


@contextlib.contextmanager
def _open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} is not a readable parquet file, perhaps cut short: copy it again or remove it."
        ) from error


def _class_names(folder: Path) -> tuple[str, ...]:
    """The names of the subfolders that hold images, sorted; () if there is no such folder."""
    return tuple(child.name for child in _subfolders(folder) if _images_in(child))


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    names = (name for name in os.listdir(folder) if name.lower().endswith(IMAGE_SUFFIXES))
    return [folder / name for name in sorted(names) if not name.startswith(".")]


# ----------------------------------------------------------------------------------------------------------- decoding


def decode(source: Source) -> Arrays:
    """Reads all of the dataset in the order of its files. Raises :class:`DataError` naming the file that is broken."""
    readers = {"digits": _digits, "torchvision": _torchvision, "parquet": _parquet, "folder": _folder}
    return readers[source.layout](source)


def _digits(source: Source) -> Arrays:
    """scikit-learn's digits ``[1797, 1, 8, 8]``; grey values 0–16 become 0–255; the last 297 are the test images."""
    from sklearn.datasets import load_digits  # here, because it takes a second to import

    raw = load_digits()
    images = np.rint(raw.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = raw.target.astype(np.int64)
    names = tuple(str(name) for name in raw.target_names)
    return Arrays(images[:-DIGITS_TEST], labels[:-DIGITS_TEST], images[-DIGITS_TEST:], labels[-DIGITS_TEST:], names)


def _torchvision(source: Source) -> Arrays:
    parts = [[_unpickle(source.directory / name) for name in names] for names in TORCHVISION_BATCHES]
    images = [np.concatenate([batch[0] for batch in part]) for part in parts]
    labels = [np.concatenate([batch[1] for batch in part]) for part in parts]
    return Arrays(images[0], labels[0], images[1], labels[1], CIFAR10_CLASSES)


class _ArraysOnly(pickle.Unpickler):
    """Refuses everything but numpy arrays: a pickle from elsewhere could otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a CIFAR-10 batch")


def _unpickle(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One batch file of torchvision's layout: pixels ``[n, 3, 32, 32]`` and labels ``[n]``."""
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="latin1").load()
        images = np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
        labels = np.asarray(batch["labels"], dtype=np.int64).reshape(len(images))
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is missing: CIFAR-10 in torchvision's layout has data_batch_1 to 5 and test_batch."
        ) from error
    except Exception as error:  # a broken pickle raises almost anything
        raise DataError(
            f"{path} is not a readable batch of CIFAR-10, perhaps cut short: unpack the archive again."
        ) from error
    if len(labels) and not 0 <= labels.min() <= labels.max() < 10:
        raise DataError(f"{path} has labels outside 0–9, which CIFAR-10 has not: unpack the archive again.")
    return images, labels


def _parquet(source: Source) -> Arrays:
    parts = [_parquet_entries(paths) for paths in _parquet_files(source.directory)]
    return _assemble(source, parts, CIFAR10_CLASSES)


def _parquet_entries(paths: Sequence[Path]) -> Iterator[_Entry]:
    for path in paths:
        with _open_parquet(path) as file:
            rows = file.read(columns=["img.bytes", "label"]).to_pylist()
        for number, row in enumerate(rows):
            yield _Entry(_bytes_of(row["img"]), row["label"], f"Image {number} of {path}")


def _folder(source: Source) -> Arrays:
    """Classes are the sorted names of the subfolders. Without train/, every sixth file of a class is a test image."""
    folder = source.directory
    has_train = (folder / "train").is_dir()
    classes = _class_names(folder / "train" if has_train else folder)
    if len(classes) < 2:
        raise DataError(
            f"{folder} has {len(classes)} class folders with PNG or JPEG images, and at least 2 are needed: give a "
            "folder with one subfolder a class, or with such subfolders in train/ and test/."
        )
    strangers = sorted(set(_class_names(folder / "test")) - set(classes)) if has_train else []
    if strangers:
        raise DataError(f"{folder / 'test'} has classes that train/ has not ({', '.join(strangers)}): remove them.")
    if has_train:
        files = [[_images_in(folder / part / name) for name in classes] for part in ("train", "test")]
    else:
        files = [[_every_sixth(_images_in(folder / name), test) for name in classes] for test in (False, True)]
    return _assemble(source, [_folder_entries(part) for part in files], classes)


def _every_sixth(files: list[Path], test: bool) -> list[Path]:
    return [file for index, file in enumerate(files) if (index % 6 == 5) == test]


def _folder_entries(files_of_classes: Sequence[Sequence[Path]]) -> Iterator[_Entry]:
    for label, files in enumerate(files_of_classes):
        for file in files:
            try:
                yield _Entry(file.read_bytes(), label, str(file))
            except OSError as error:
                raise DataError(f"{file} cannot be read: copy it again or remove it.") from error


def _assemble(source: Source, parts: Sequence[Iterable[_Entry]], classes: tuple[str, ...]) -> Arrays:
    """Decodes the training and the test entries, together, so that both get the same number of channels."""
    pixels, labels, lengths = [], [], []
    for part in parts:
        for entry in part:
            _check(entry, MAGIC.get(source.name, b""), len(classes))
            pixels.append(_pixels(entry))
            labels.append(entry.label)
        lengths.append(len(pixels))
    if not lengths[0]:
        raise DataError(f"{source.folder} has no training images: copy the dataset again.")
    images, targets = _stack(pixels, source), np.array(labels, dtype=np.int64)
    train = lengths[0]
    return Arrays(images[:train], targets[:train], images[train:], targets[train:], classes)


def _check(entry: _Entry, magic: bytes, classes: int) -> None:
    if not isinstance(entry.encoded, bytes) or not entry.encoded.startswith(magic):
        raise DataError(f"{entry.where} is missing or not encoded like the first one: copy the dataset again.")
    if not isinstance(entry.label, int) or not 0 <= entry.label < classes:
        raise DataError(
            f"{entry.where} has the label {entry.label!r}: labels are whole numbers from 0 to {classes - 1}."
        )


def _pixels(entry: _Entry) -> np.ndarray:
    """uint8 ``[H, W]`` for a grey image, ``[H, W, 3]`` for any other."""
    try:
        with Image.open(io.BytesIO(entry.encoded or b"")) as image:
            return np.asarray(image if image.mode == "L" else image.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise almost anything on broken bytes
        raise DataError(f"{entry.where} is not a readable image: copy it again or remove it.") from error


def _stack(pixels: Sequence[np.ndarray], source: Source) -> np.ndarray:
    sizes = sorted({image.shape[:2] for image in pixels})
    if source.name in MAGIC and sizes != [(32, 32)]:
        raise DataError(
            f"{source.folder} holds images of {_sides(sizes)} pixels, and CIFAR-10 has 32×32: it is another dataset."
        )
    if len(sizes) > 1:
        raise DataError(f"{source.folder} holds images of {_sides(sizes)} pixels: resize them all to one size first.")
    if any(image.ndim == 3 for image in pixels):
        pixels = [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in pixels]
    else:
        pixels = [image[..., None] for image in pixels]
    return np.ascontiguousarray(np.stack(pixels).transpose(0, 3, 1, 2))


def _sides(sizes: Sequence[tuple[int, int]]) -> str:
    shown = [f"{height}×{width}" for height, width in sizes[:3]]
    return " and ".join(shown) + (f" and {len(sizes) - 3} other sizes of" if len(sizes) > 3 else "")


def canonical(arrays: Arrays) -> Arrays:
    """The same dataset in canonical order (see the module's docstring)."""
    train = _order(arrays.images, arrays.labels)
    test = _order(arrays.test_images, arrays.test_labels)
    return Arrays(
        arrays.images[train], arrays.labels[train], arrays.test_images[test], arrays.test_labels[test], arrays.classes
    )


def _order(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    keys = [
        hashlib.sha256(image.tobytes() + int(label).to_bytes(8, "little")).digest()
        for image, label in zip(images, labels, strict=True)
    ]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def digest(arrays: Arrays) -> str:
    """sha256, in hex, of shapes, pixels (uint8) and labels (int64, little-endian), training part first."""
    total = hashlib.sha256()
    for array in (arrays.images, arrays.labels.astype("<i8"), arrays.test_images, arrays.test_labels.astype("<i8")):
        total.update(repr(array.shape).encode())
        total.update(np.ascontiguousarray(array).data if array.size else b"")
    return total.hexdigest()


# ------------------------------------------------------------------------------------------------- cache and download


def read(source: Source) -> tuple[Arrays, str]:
    """The dataset in canonical order and its sha256, from the cache where it was decoded before.

    The cache is valid while the names, sizes and modification times of the dataset's files stay what they were; a
    cache that is broken or out of date is written anew. Raises :class:`DataError` as :func:`decode`, and where the
    cache cannot be written.
    """
    if source.layout == "digits":
        return _decoded(source)
    slot = hashlib.sha256(str(source.directory.resolve()).encode()).hexdigest()[:12]
    path, key = cache_folder() / f"{Path(source.name).name}-{slot}.npz", _key(source)
    found = _read_cache(path, key)
    if found is None:
        found = _decoded(source)
        _write_cache(path, key, *found)
    return found


def cache_folder() -> Path:
    """``$NAS_CORE_CACHE``, else ``$XDG_CACHE_HOME/nas_core``, else ``~/.cache/nas_core``."""
    if os.environ.get("NAS_CORE_CACHE"):
        return Path(os.environ["NAS_CORE_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "nas_core"


def _decoded(source: Source) -> tuple[Arrays, str]:
    arrays = canonical(decode(source))
    return arrays, digest(arrays)


def _key(source: Source) -> str:
    lines = [f"{CACHE_FORMAT} {source.name} {source.layout}"]
    for path in sorted(_files(source)):
        status = path.stat()
        lines.append(f"{path.relative_to(source.directory)} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _files(source: Source) -> Iterator[Path]:
    if source.layout == "torchvision":
        names = [name for part in TORCHVISION_BATCHES for name in part]
        return (source.directory / name for name in names if (source.directory / name).is_file())
    if source.layout == "parquet":
        return (path for part in _parquet_files(source.directory) for path in part)
    return (path for folder in _two_levels(source.directory) for path in _images_in(folder))


def _read_cache(path: Path, key: str) -> tuple[Arrays, str] | None:
    try:
        with np.load(path, allow_pickle=False) as archive:  # the zip format checks a CRC of every array as it is read
            if str(archive["key"]) != key:
                return None
            images, labels, test_images, test_labels = (archive[name] for name in Arrays._fields[:-1])
            classes = tuple(archive["classes"].tolist())
            return Arrays(images, labels, test_images, test_labels, classes), str(archive["sha256"])
    except Exception:  # whatever is wrong with a cache, the cure is to decode again
        return None


def _write_cache(path: Path, key: str, arrays: Arrays, sha256: str) -> None:
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=".tmp", delete=False) as file:
            temporary = Path(file.name)
            np.savez(file, key=np.array(key), sha256=np.array(sha256), **arrays._asdict())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        trouble = "has no room left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "cannot be written to"
        size = max(1, round(arrays.images.nbytes / 1e6 + arrays.test_images.nbytes / 1e6))
        raise DataError(
            f"The cache folder {path.parent} {trouble}, and {path.name} needs about {size} MB there: make room, "
            "or set NAS_CORE_CACHE to another folder."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def download() -> Source:
    """Fetches CIFAR-10 (170 MB) with torchvision, into ``$NAS_CORE_DATA`` or else ``data`` beside the repository."""
    from torchvision.datasets import CIFAR10  # here, because only a download needs it

    target = Path(os.environ.get("NAS_CORE_DATA") or REPOSITORY / "data").expanduser()
    try:
        target.mkdir(parents=True, exist_ok=True)
        CIFAR10(str(target), train=True, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"CIFAR-10 could not be downloaded to {target} ({error}): check the network and the room on the disk, or "
            "set NAS_CORE_DATA to a folder that holds it."
        ) from error
    return locate("cifar10")
