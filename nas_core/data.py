"""Datasets as tensors on the device: what a search trains θ on, what it holds out for α, and what is left for testing.

``prepare`` turns a :class:`DataConfig` and a seed into :class:`Splits`; ``batches`` walks through one split,
augmenting whole batches on the device. Everything random is drawn on the CPU from generators that :func:`stream`
derives from the seed, so the same seed gives the same bits on every device.

Shapes: N images, B images of a batch, C channels, H × W pixels.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_core import sources
from nas_core.sources import DataError, locate

__all__ = ["DataConfig", "DataError", "Dataset", "Split", "Splits", "auto", "batches", "crop_flip"]
__all__ += ["load", "locate", "prepare", "resolve", "stream"]

AUGMENTATIONS = ("none", "crop", "crop-flip")
# The usual constants of CIFAR-10, which the paper's code normalises with; other data is normalised with its own.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class DataConfig:
    """Which images a search sees. Raises :class:`~nas_core.sources.DataError` for a value of the wrong type or
    outside its range.

    ``dataset``      "digits", "cifar10", "cifar10-jpeg" or a folder of class folders
    ``sha256``       of the decoded dataset, in hex; checked on loading unless None
    ``images``       how many training images, drawn by the seed; None takes all
    ``size``         side in pixels after resizing; None keeps the images as they are
    ``label_noise``  share of the training labels (θ's and α's part alike) replaced by another class, drawn by the seed
    ``held_out``     share of the training images set aside for α; 0 sets none aside
    ``augment``      "none", "crop" (random crop with a padding of size // 8) or "crop-flip" (and a horizontal flip)
    """

    dataset: str = "digits"
    sha256: str | None = None
    images: int | None = None
    size: int | None = None
    label_noise: float = 0.0
    held_out: float = 0.5
    augment: str = "none"

    def __post_init__(self) -> None:
        if not isinstance(self.dataset, str) or not self.dataset:
            raise DataError(
                f"dataset is {self.dataset!r}: give {', '.join(sources.NAMES)} or the path of a folder of class "
                "folders."
            )
        if self.sha256 is not None and not _is_sha256(self.sha256):
            raise DataError(
                f"sha256 is {self.sha256!r}: give 64 lower-case hexadecimal digits, or None to take the data as it is."
            )
        for name, least in (("images", 1), ("size", 1)):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < least):
                raise DataError(
                    f"{name} is {value!r}: give a whole number of at least {least}, or None for all there is."
                )
        self._set_share("label_noise", "from 0 to 1", lambda value: 0 <= value <= 1)
        self._set_share("held_out", "of at least 0 and below 1", lambda value: 0 <= value < 1)
        if self.augment not in AUGMENTATIONS:
            raise DataError(f"augment is {self.augment!r}: give one of {', '.join(AUGMENTATIONS)}.")

    def _set_share(self, name: str, bounds: str, allowed: Callable[[float], bool]) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not allowed(value):
            raise DataError(f"{name} is {value!r}: give a number {bounds}.")
        # 0 and 0.0 must be the same configuration, also where it is written down as JSON.
        object.__setattr__(self, name, float(value))


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set(string.hexdigits.lower())


@dataclass(frozen=True, eq=False)
class Dataset:
    """All of a dataset as it was decoded: pixels uint8 ``[N, C, H, W]``, labels int64 ``[N]``, on the CPU, in the
    canonical order of :mod:`nas_core.sources`; ``sha256`` covers pixels, labels and shapes. The test part may be
    empty."""

    name: str
    sha256: str
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Split:
    """Normalised images ``[N, C, H, W]`` (channels last in memory) and labels int64 ``[N]``, on the device. ``black``
    ``[C]`` is what a black pixel became: crops are padded with it, as if they had been cut before normalising."""

    images: Tensor
    labels: Tensor
    black: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Splits:
    """``train`` for θ, ``held_out`` for α (None if nothing is set aside), ``test`` (None if the dataset has no test
    images); the numbers of ``classes`` and ``channels``; ``size``, the side in pixels."""

    train: Split
    held_out: Split | None
    test: Split | None
    classes: int
    channels: int
    size: int


# ------------------------------------------------------------------------------------------------------------ loading


def load(name: str, *, download: bool = False) -> Dataset:
    """Finds and decodes a dataset. Only with ``download`` is a missing "cifar10" fetched (170 MB); it needs a network.

    Raises :class:`~nas_core.sources.DataError` if the name is unknown, or the data missing or broken.
    """
    source = sources.find(name)
    if source is None and download and name == "cifar10":
        source = sources.download()
    arrays, sha256 = sources.read(source or locate(name))
    tensors: list[Any] = [torch.from_numpy(array) for array in arrays[:-1]]
    return Dataset(name, sha256, *tensors, arrays.classes)  # type: ignore[call-arg]  # mypy cannot count a list


def auto() -> str:
    """The best dataset on this machine: "cifar10", else "cifar10-jpeg", else "digits". Never downloads."""
    return next(name for name in ("cifar10", "cifar10-jpeg", "digits") if sources.find(name))


def resolve(config: DataConfig) -> DataConfig:
    """The configuration with the dataset's sha256 filled in. One that has it is returned as it is, without looking
    for the data, so that results recorded elsewhere can be read where the data is not."""
    return config if config.sha256 else replace(config, sha256=load(config.dataset).sha256)


# ---------------------------------------------------------------------------------------------------------- preparing


def stream(seed: int, name: str) -> torch.Generator:
    """A CPU generator for one purpose. Streams of other names or seeds are independent of it, so that one more draw
    here changes nothing there."""
    if type(seed) is not int:
        raise DataError(f"The seed is {seed!r}: give a whole number.")
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def prepare(
    config: DataConfig, seed: int, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Splits:
    """Loads, draws the subset, flips labels, sets the held-out part aside, resizes, normalises and moves to the device.

    Subset, label noise and split have a random stream each: changing one share leaves the other draws as they were.
    The subset is a plain draw, without balancing classes. Resizing averages areas when it shrinks and is bilinear
    when it enlarges. CIFAR-10 is normalised with its usual constants, other data with the mean and deviation of its
    own training images.

    Raises :class:`~nas_core.sources.DataError` as :func:`load`, and where the dataset is another than the
    configuration's sha256 says or has too few images for it.
    """
    if dtype not in (torch.float32, torch.float64):
        raise DataError(
            f"dtype is {dtype}: give torch.float32 or torch.float64, since costs are never measured in half precision."
        )
    dataset = _load_checked(config)
    chosen = _subset(config, len(dataset.labels), seed)
    labels = _with_noise(dataset.labels[chosen], len(dataset.classes), config.label_noise, seed)
    train, held_out = _set_aside(config, len(chosen), seed)
    size = config.size or dataset.images.shape[-1]
    mean, std = _normalisation(dataset)

    def split(images: Tensor, labels: Tensor) -> Split:
        scaled = _resized(images.to(dtype).div_(255), size)
        scaled = scaled.sub_(mean.to(dtype).view(-1, 1, 1)).div_(std.to(dtype).view(-1, 1, 1))
        scaled = scaled.contiguous(memory_format=torch.channels_last)
        return Split(scaled.to(device), labels.to(device), (-mean / std).to(dtype).to(device))

    return Splits(
        train=split(dataset.images[chosen[train]], labels[train]),
        held_out=split(dataset.images[chosen[held_out]], labels[held_out]) if len(held_out) else None,
        test=split(dataset.test_images, dataset.test_labels) if len(dataset.test_labels) else None,
        classes=len(dataset.classes),
        channels=dataset.images.shape[1],
        size=size,
    )


def _load_checked(config: DataConfig) -> Dataset:
    dataset = load(config.dataset)
    if config.sha256 not in (None, dataset.sha256):
        raise DataError(
            f"{config.dataset} on this machine has the sha256 {dataset.sha256} but the configuration asks for "
            f"{config.sha256}: use the data it was recorded with, or leave sha256 out to take this one."
        )
    if config.images is not None and config.images > len(dataset.labels):
        raise DataError(
            f"images is {config.images}, but {config.dataset} has {len(dataset.labels)} training images: give at "
            "most that, or None."
        )
    height, width = dataset.images.shape[-2:]
    if config.size is None and height != width:
        raise DataError(
            f"The images of {config.dataset} have {height}×{width} pixels and must be square: give a size to resize "
            "them to."
        )
    return dataset


def _subset(config: DataConfig, available: int, seed: int) -> Tensor:
    if config.images is None:
        return torch.arange(available)
    return torch.randperm(available, generator=stream(seed, "data.subset"))[: config.images]


def _with_noise(labels: Tensor, classes: int, share: float, seed: int) -> Tensor:
    """A copy in which exactly round(share · N) labels are another class, each other class equally likely."""
    generator = stream(seed, "data.label_noise")
    flipped = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    shift = torch.randint(1, classes, (len(flipped),), generator=generator)
    labels = labels.clone()
    labels[flipped] = (labels[flipped] + shift) % classes
    return labels


def _set_aside(config: DataConfig, images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Positions of the training and of the held-out images among the chosen ones: round(held_out · N) are held out."""
    held_out = round(config.held_out * images)
    if held_out == images or (held_out == 0 and config.held_out > 0):
        raise DataError(
            f"held_out = {config.held_out} of {images} training images leaves one part empty: take more images, or "
            "held_out = 0."
        )
    order = torch.randperm(images, generator=stream(seed, "data.held_out"))
    return order[held_out:], order[:held_out]


def _resized(images: Tensor, size: int) -> Tensor:
    if tuple(images.shape[-2:]) == (size, size):
        return images
    if size <= min(images.shape[-2:]):
        return F.interpolate(images, (size, size), mode="area")
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)


def _normalisation(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Mean and deviation ``[C]`` of pixels scaled to 0…1, float64; from a histogram, so exact whatever the threads."""
    if dataset.name in sources.MAGIC:
        return torch.tensor(CIFAR10_MEAN, dtype=torch.float64), torch.tensor(CIFAR10_STD, dtype=torch.float64)
    counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in dataset.images.unbind(1)])
    share = counts.double() / counts.sum(1, keepdim=True)
    value = torch.arange(256, dtype=torch.float64) / 255
    mean = (share * value).sum(1)
    std = (share * (value - mean[:, None]) ** 2).sum(1).sqrt()
    return mean, torch.where(std > 0, std, 1.0)  # a channel without contrast carries nothing to scale


# ------------------------------------------------------------------------------------------------------------ batches


def batches(
    split: Split,
    batch_size: int,
    generator: torch.Generator | None,
    *,
    shuffle: bool = True,
    drop_last: bool = False,
    augment: str = "none",
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the split: images ``[B, C, H, W]`` (channels last) and labels ``[B]``, on its device.

    All that is random (the order; for each image its crop and flip) is drawn from the CPU generator by this call,
    before the first batch: what is drawn depends neither on the device nor on how many batches are taken. Without
    ``shuffle`` and ``augment`` nothing is drawn, the generator may be None, and the images are views of the split,
    not to be written to.

    The last batch may be short, or is left out with ``drop_last``. A last batch of a single image is always left out
    (unless ``batch_size`` is 1), because batch statistics need two. Raises :class:`~nas_core.sources.DataError`
    for a wrong argument, and where no batch would be left.
    """
    _check_batches(len(split), batch_size, generator, shuffle, drop_last, augment)
    count, device = len(split), split.images.device
    order = torch.randperm(count, generator=generator) if shuffle else None
    moves = _draw_moves(count, split.images.shape[-1], augment, generator)
    # Once for the whole pass, so that no batch waits for a copy to the device.
    order = None if order is None else order.to(device)
    moves = None if moves is None else moves.to(device)
    stops = range(batch_size, count + 1, batch_size)
    bounds = [(stop - batch_size, stop) for stop in stops]
    if not drop_last and count % batch_size > 1:
        bounds.append((count - count % batch_size, count))
    return _walk(split, order, moves, bounds)


def _check_batches(count: int, batch_size: Any, generator: Any, shuffle: Any, drop_last: Any, augment: Any) -> None:
    if type(batch_size) is not int or batch_size < 1:
        raise DataError(f"batch_size is {batch_size!r}: give a whole number of at least 1.")
    if augment not in AUGMENTATIONS:
        raise DataError(f"augment is {augment!r}: give one of {', '.join(AUGMENTATIONS)}.")
    if (shuffle or augment != "none") and (generator is None or generator.device.type != "cpu"):
        raise DataError(
            "Order and augmentation are drawn on the CPU: give a torch.Generator of the CPU, as stream(seed, name) is."
        )
    if count < (batch_size if drop_last else min(batch_size, 2)):
        raise DataError(
            f"No batch of {batch_size} can be made of {count} images: take more images or a smaller batch_size."
        )


def _draw_moves(count: int, size: int, augment: str, generator: torch.Generator | None) -> Tensor | None:
    """int64 ``[N, 3]``: rows down and columns right from the padded image's corner (0 … 2 · padding); flip or not."""
    if augment == "none":
        return None
    offsets = torch.randint(2 * _padding(size) + 1, (count, 2), generator=generator)
    flips = torch.zeros(count, 1, dtype=torch.int64)
    if augment == "crop-flip":
        flips.random_(2, generator=generator)
    return torch.cat([offsets, flips], dim=1)


def _walk(
    split: Split, order: Tensor | None, moves: Any, bounds: Iterable[tuple[int, int]]
) -> Iterator[tuple[Tensor, Tensor]]:
    for start, stop in bounds:
        if order is None:
            images, labels = split.images[start:stop], split.labels[start:stop]
        else:
            chosen = order[start:stop]
            images, labels = split.images[chosen], split.labels[chosen]
        if moves is not None:
            images = crop_flip(images, split.black, moves[start:stop])
        yield images.contiguous(memory_format=torch.channels_last), labels


def _padding(size: int) -> int:
    return max(1, size // 8)


def crop_flip(images: Tensor, black: Tensor, moves: Tensor) -> Tensor:
    """Pads with ``black`` ``[C]`` by size // 8 (at least 1), cuts the original size out and mirrors left to right.

    ``images`` ``[B, C, H, W]``; ``moves`` int64 ``[B, 3]``, an image's own (rows down, columns right, flip 0 or 1).
    Returns new images of the same shape, channels last: torchvision's Pad, crop and hflip for each image, in one
    gather.
    """
    count, _, height, width = images.shape
    padding = _padding(width)
    canvas = black.expand(count, height + 2 * padding, width + 2 * padding, -1).clone()  # [B, H', W', C]
    canvas[:, padding : padding + height, padding : padding + width] = images.permute(0, 2, 3, 1)
    down, right, flip = moves.unsqueeze(-1).unbind(1)  # each [B, 1]
    column = torch.arange(width, device=images.device)
    columns = right + torch.where(flip.bool(), width - 1 - column, column)  # [B, W]
    rows = down + torch.arange(height, device=images.device)  # [B, H]
    image = torch.arange(count, device=images.device)[:, None, None]
    return canvas[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
