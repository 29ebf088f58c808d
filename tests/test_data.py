"""data.py and sources.py: finding, decoding, caching, preparing and batching small datasets that the tests write."""

import dataclasses
import errno
import hashlib
import io
import json
import os
import pickle
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torchvision.transforms.functional as transforms
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nas_core import data, sources
from nas_core.data import DataConfig, DataError

TRAIN, TEST = 20, 7
DIGITS_SHA256 = "04c43d48c69742b0a09b4e6aa32ace7b4c1673fe87d4b07ae81e39dd2c7b1974"
CIFAR10_JPEG_SHA256 = "2c6fbdff9736495474490fda4d13aa97aac44e9bb618140579beaf885d16be70"


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A machine without datasets: nothing beside the repository or the working directory, a cache of the test's own."""
    home = tmp_path / "house" / "repository"
    home.mkdir(parents=True)
    monkeypatch.setattr(sources, "REPOSITORY", home)
    monkeypatch.chdir(home)
    monkeypatch.delenv("NAS_CORE_DATA", raising=False)
    monkeypatch.setenv("NAS_CORE_CACHE", str(tmp_path / "cache"))
    return home


@pytest.fixture
def store(empty, tmp_path, monkeypatch):
    """An empty NAS_CORE_DATA."""
    folder = tmp_path / "datasets"
    folder.mkdir()
    monkeypatch.setenv("NAS_CORE_DATA", str(folder))
    return folder


def pictures(count, seed, size=32):
    """uint8 [count, 3, size, size] and labels that name every class."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    return images, np.arange(count) % 10


def encode(image, format):
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, format)
    return buffer.getvalue()


def write_parquet(folder, format="PNG", train=TRAIN, test=TEST, names=("train.parquet", "test.parquet"), size=32):
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, seed in zip(names, (train, test), (1, 2), strict=True):
        images, labels = pictures(count, seed, size)
        rows = [{"bytes": encode(image, format), "path": f"{index}"} for index, image in enumerate(images)]
        pq.write_table(pa.table({"img": rows, "label": labels}), folder / name)


def write_torchvision(folder, protocol=4):
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = pictures(TRAIN, 1)
    parts = {f"data_batch_{number + 1}": slice(4 * number, 4 * number + 4) for number in range(5)}
    for name, part in parts.items():
        _write_batch(folder / name, images[part], labels[part], protocol)
    _write_batch(folder / "test_batch", *pictures(TEST, 2), protocol)


def _write_batch(path, images, labels, protocol):
    batch = {"data": images.reshape(len(images), -1), "labels": labels.tolist()}
    path.write_bytes(pickle.dumps(batch, protocol=protocol))


def write_class_folders(folder, images, labels, classes=sources.CIFAR10_CLASSES, format="PNG"):
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / classes[label] / f"{index:04}.{format.lower()}").write_bytes(encode(image, format))


def write_cifar_folders(folder):
    write_class_folders(folder / "train", *pictures(TRAIN, 1))
    write_class_folders(folder / "test", *pictures(TEST, 2))


def multiset(images, labels):
    """The images with their labels, in no order."""
    return sorted((np.asarray(image).tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


def one_sentence(error):
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text and ". " not in text, text
    return text


# ------------------------------------------------------------------------------------------------------------- digits


def test_digits_are_sklearns_with_the_last_297_for_testing(empty):
    from sklearn.datasets import load_digits

    raw = load_digits()
    dataset = data.load("digits")
    assert dataset.images.shape == (1500, 1, 8, 8) and dataset.test_images.shape == (297, 1, 8, 8)
    assert dataset.images.dtype == torch.uint8 and dataset.labels.dtype == torch.int64
    assert dataset.classes == tuple("0123456789")
    back = np.rint(dataset.test_images.numpy()[:, 0] * (16 / 255))
    assert multiset(back, dataset.test_labels) == multiset(raw.images[-297:], raw.target[-297:])
    assert int(dataset.images.max()) == 255


def test_the_sha256_of_digits_stays_what_it_is(empty):
    assert data.load("digits").sha256 == data.load("digits").sha256 == DIGITS_SHA256


def test_the_sha256_is_what_it_is_said_to_be(empty):
    dataset = data.load("digits")
    total = hashlib.sha256()
    for tensor in (dataset.images, dataset.labels, dataset.test_images, dataset.test_labels):
        total.update(str(tuple(tensor.shape)).encode())
        total.update(bytes(tensor.contiguous().view(torch.uint8).flatten().tolist()))
    assert total.hexdigest() == dataset.sha256


def test_the_sha256_sees_pixels_labels_and_shapes():
    images, labels = pictures(4, 0, 8)
    arrays = sources.Arrays(images, labels, images[:0], labels[:0], ("a",) * 10)
    brighter, reshaped, other = images.copy(), images.reshape(4, 3, 4, 16), labels.copy()
    brighter[2, 1, 3, 3] ^= 1
    other[3] = 9
    variants = [
        arrays,
        arrays._replace(images=brighter),
        arrays._replace(images=reshaped),
        arrays._replace(labels=other),
    ]
    variants.append(sources.Arrays(images[:3], labels[:3], images[3:], labels[3:], arrays.classes))
    assert len({sources.digest(variant) for variant in variants}) == len(variants)


# ------------------------------------------------------------------------------------------------------------ layouts


@pytest.mark.parametrize(
    "write",
    [
        lambda store: write_torchvision(store / "cifar-10-batches-py"),
        lambda store: write_torchvision(store),
        lambda store: write_parquet(store / "hub" / "plain_text"),
        lambda store: write_parquet(store, names=("train-00000-of-00001.parquet", "test-00000-of-00001.parquet")),
        lambda store: write_cifar_folders(store / "images"),
    ],
    ids=["torchvision", "torchvision itself", "parquet", "parquet itself", "class folders"],
)
def test_cifar10_is_the_same_dataset_in_every_layout(store, write):
    write(store)
    assert data.auto() == "cifar10"
    dataset = data.load("cifar10")
    images, labels = pictures(TRAIN, 1)
    assert multiset(dataset.images, dataset.labels) == multiset(images, labels)
    assert multiset(dataset.test_images, dataset.test_labels) == multiset(*pictures(TEST, 2))
    assert dataset.name == "cifar10" and dataset.classes == sources.CIFAR10_CLASSES
    arrays = sources.Arrays(images, labels, *pictures(TEST, 2), sources.CIFAR10_CLASSES)
    assert dataset.sha256 == sources.digest(sources.canonical(arrays))


def test_jpeg_is_never_called_cifar10(store):
    write_parquet(store / "pair", "JPEG")
    assert data.auto() == "cifar10-jpeg"
    dataset = data.load("cifar10-jpeg")
    assert len(dataset.labels) == TRAIN and dataset.name == "cifar10-jpeg"
    decoded = np.asarray(Image.open(io.BytesIO(encode(pictures(TRAIN, 1)[0][0], "JPEG")))).transpose(2, 0, 1)
    assert any(np.array_equal(decoded, image) for image in dataset.images)
    with pytest.raises(DataError, match="cifar10 is not on this machine"):
        data.load("cifar10")


def test_the_original_is_preferred_wherever_it_is(store, empty):
    write_parquet(store / "pair", "JPEG")
    write_torchvision(empty.parent / "shared" / "data" / "cifar-10-batches-py")
    assert data.auto() == "cifar10"
    assert data.locate("cifar10").layout == "torchvision"


@pytest.mark.parametrize("place", ["data", "../shared/data"])
def test_the_repository_and_the_working_directory_are_searched(empty, tmp_path, monkeypatch, place):
    assert data.auto() == "digits"
    monkeypatch.chdir(tmp_path)
    write_parquet((empty / place / "pair").resolve())
    assert data.auto() == "cifar10"
    monkeypatch.setattr(sources, "REPOSITORY", tmp_path / "elsewhere" / "repository")
    assert data.auto() == "digits"
    monkeypatch.chdir(empty)
    assert data.auto() == "cifar10"


def test_shards_are_read_together(store):
    write_parquet(store, names=("train-00000-of-00002.parquet", "test-00000-of-00001.parquet"))
    one = data.load("cifar10").sha256
    table = pq.read_table(store / "train-00000-of-00002.parquet")
    pq.write_table(table.slice(13), store / "train-00001-of-00002.parquet")
    pq.write_table(table.slice(0, 13), store / "train-00000-of-00002.parquet")
    assert data.load("cifar10").sha256 == one


def test_parquet_files_of_another_dataset_are_passed_over(store):
    for name in ("train.parquet", "test.parquet"):
        pq.write_table(pa.table({"image": [b"x"], "label": [0]}), store / name)
    assert data.auto() == "digits"


class Trap:
    """Makes a folder when it is unpickled carelessly."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_old_batches_load_without_a_warning_and_run_no_code(store):
    folder = store / "cifar-10-batches-py"
    write_torchvision(folder, protocol=3)
    for path in folder.iterdir():  # as numpy 1 wrote them, and CIFAR-10 is published
        path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(data.load("cifar10").labels) == TRAIN
    (folder / "data_batch_2").write_bytes(pickle.dumps({"data": Trap(str(store / "sprung")), "labels": []}))
    with pytest.raises(DataError, match="data_batch_2 is not a readable batch"):
        data.load("cifar10")
    assert not (store / "sprung").exists()


# ------------------------------------------------------------------------------------------------------ image folders


def test_class_folders_with_train_and_test(store):
    classes = ("ant", "bee", "cow")
    images, labels = pictures(12, 3, size=10)
    write_class_folders(store / "zoo" / "train", images[:9], labels[:9] % 3, classes)
    write_class_folders(store / "zoo" / "test", images[9:11], labels[9:11] % 3, classes)
    (store / "zoo" / "train" / "empty").mkdir()
    (store / "zoo" / "train" / "ant" / "Thumbs.db").write_bytes(b"no image")
    dataset = data.load(str(store / "zoo"))
    assert dataset.classes == classes
    assert multiset(dataset.images, dataset.labels) == multiset(images[:9], labels[:9] % 3)
    assert multiset(dataset.test_images, dataset.test_labels) == multiset(images[9:11], labels[9:11] % 3)
    assert data.load("zoo").sha256 == dataset.sha256  # by its name in NAS_CORE_DATA, which is the same everywhere


def test_class_folders_without_a_split_give_every_sixth_to_the_test(store):
    images, _ = pictures(26, 4, size=8)
    labels = np.array([0] * 13 + [1] * 13)
    write_class_folders(store / "pets", images, labels, ("cat", "dog"))
    dataset = data.load("pets")
    tests = [5, 11, 18, 24]  # the 6th and 12th of either class
    assert multiset(dataset.test_images, dataset.test_labels) == multiset(images[tests], labels[tests])
    assert len(dataset.labels) == 22


def test_without_test_images_there_is_no_test_split(store):
    images, labels = pictures(8, 5, size=8)
    write_class_folders(store / "pets" / "train", images, labels % 2, ("cat", "dog"))
    assert data.prepare(DataConfig("pets"), 0).test is None


def test_grey_images_have_one_channel_and_mixed_ones_three(store):
    grey = np.random.default_rng(0).integers(0, 256, (6, 9, 9), dtype=np.uint8)
    for index, image in enumerate(grey):
        folder = store / "grey" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")
    assert data.load("grey").images.shape == (6, 1, 9, 9)
    write_class_folders(store / "grey", pictures(1, 6, size=9)[0], [0], ("a",))
    mixed = data.load("grey").images
    assert mixed.shape == (7, 3, 9, 9)
    assert sum(bool((image == image[:1]).all()) for image in mixed) == 6


def test_normalisation_is_that_of_the_folders_own_training_images(store):
    images, labels = pictures(24, 7, size=8)
    images[:, 1] //= 3
    images[:, 2] = 77  # without contrast
    write_class_folders(store / "pets" / "train", images, labels % 2, ("cat", "dog"))
    splits = data.prepare(DataConfig("pets", held_out=0), 0, dtype=torch.float64)
    assert torch.allclose(splits.train.images.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-12)
    std = splits.train.images.std((0, 2, 3), correction=0)
    assert torch.allclose(std, torch.tensor([1.0, 1.0, 0.0]).double(), atol=1e-12)


# ------------------------------------------------------------------------------------------------- errors of loading


def break_nothing(store):
    pass


def break_train(store):
    write_parquet(store / "pair")
    path = store / "pair" / "train.parquet"
    path.write_bytes(path.read_bytes()[:-100])


def break_test(store):
    write_parquet(store / "pair")
    path = store / "pair" / "test.parquet"
    path.write_bytes(path.read_bytes()[:200])


def break_image(store):
    write_parquet(store)
    images, labels = pictures(TRAIN, 1)
    encoded = [encode(image, "PNG") for image in images]
    encoded[3] = encoded[3][:300]
    pq.write_table(pa.table({"img": [{"bytes": one} for one in encoded], "label": labels}), store / "train.parquet")


def break_label(store):
    write_parquet(store)
    table = pq.read_table(store / "test.parquet")
    pq.write_table(table.set_column(1, "label", pa.array([10] * TEST)), store / "test.parquet")


def break_format(store):
    write_parquet(store, "JPEG", names=("train-1.parquet", "test-1.parquet"))
    write_parquet(store, "PNG", names=("train-2.parquet", "test-2.parquet"))


def break_size(store):
    write_parquet(store, size=28)


def break_batch(store):
    write_torchvision(store)
    (store / "data_batch_3").unlink()


def cut_batch(store):
    write_torchvision(store)
    (store / "test_batch").write_bytes((store / "test_batch").read_bytes()[:500])


def one_class(store):
    write_class_folders(store / "cifar10", *pictures(1, 0), ("alone",))


@pytest.mark.parametrize(
    "prepare, name, words",
    [
        (break_nothing, "cifar10", "cifar10 is not on this machine: set NAS_CORE_DATA .* download=True"),
        (break_nothing, "cifar10-jpeg", "cifar10-jpeg is not on this machine: set NAS_CORE_DATA"),
        (break_nothing, "cifar100", "'cifar100' is unknown: give digits, cifar10, cifar10-jpeg or the path"),
        (break_nothing, "", "'' is unknown"),
        (break_nothing, "a" * 5000, "is unknown"),
        (break_train, "cifar10", "train.parquet is not a readable parquet file"),
        (break_test, "cifar10", "test.parquet is not a readable parquet file"),
        (break_image, "cifar10", "Image 3 of .*train.parquet is not a readable image"),
        (break_label, "cifar10", "Image 0 of .*test.parquet has the label 10"),
        (break_format, "cifar10-jpeg", "Image 0 of .*train-2.parquet is missing or not encoded like the first"),
        (break_size, "cifar10", "28×28 pixels, and CIFAR-10 has 32×32"),
        (break_batch, "cifar10", "data_batch_3 is missing"),
        (cut_batch, "cifar10", "test_batch is not a readable batch"),
        (one_class, "cifar10/", "has 1 class folders"),
    ],
)
def test_what_is_missing_or_broken_gives_one_sentence(store, prepare, name, words):
    prepare(store)
    with pytest.raises(DataError, match=words) as error:
        data.load(name)
    one_sentence(error)


def test_images_of_two_sizes_and_strange_test_classes_are_refused(store):
    write_class_folders(store / "a", pictures(2, 0, size=8)[0], [0, 1], ("x", "y"))
    write_class_folders(store / "a", pictures(2, 0, size=9)[0], [0, 1], ("z", "y"))
    with pytest.raises(DataError, match="8×8 and 9×9 pixels: resize"):
        data.load("a")
    write_class_folders(store / "b" / "train", pictures(2, 0, size=8)[0], [0, 1], ("x", "y"))
    write_class_folders(store / "b" / "test", pictures(2, 0, size=8)[0], [0, 1], ("x", "odd"))
    with pytest.raises(DataError, match=r"classes that train/ has not \(odd\)"):
        data.load("b")


def test_a_wrong_nas_core_data_is_not_ignored(empty, monkeypatch):
    monkeypatch.setenv("NAS_CORE_DATA", "nowhere")
    with pytest.raises(DataError, match="NAS_CORE_DATA is 'nowhere', which is not a folder") as error:
        data.auto()
    one_sentence(error)


def test_only_download_downloads(store, monkeypatch):
    import torchvision.datasets

    asked = []

    def fetch(root, train, download):
        asked.append(root)
        write_torchvision(store / "cifar-10-batches-py")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fetch)
    with pytest.raises(DataError):
        data.load("cifar10")
    with pytest.raises(DataError):
        data.load("cifar10-jpeg", download=True)
    assert asked == []
    assert len(data.load("cifar10", download=True).labels) == TRAIN
    data.load("cifar10", download=True)
    assert asked == [str(store)]


def test_a_failed_download_says_why(empty, monkeypatch):
    import torchvision.datasets

    def fetch(root, train, download):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fetch)
    with pytest.raises(DataError, match=r"could not be downloaded to .*data \(no route to host\)") as error:
        data.load("cifar10", download=True)
    one_sentence(error)


# -------------------------------------------------------------------------------------------------------------- cache


@pytest.fixture
def cached(store, tmp_path, monkeypatch):
    """A pair that has been decoded once; (its folder, the cache file, a list that grows with every decoding)."""
    write_parquet(store / "pair")
    data.load("cifar10")
    decodings, decode = [], sources.decode
    monkeypatch.setattr(sources, "decode", lambda source: decodings.append(source) or decode(source))
    (file,) = (tmp_path / "cache").iterdir()
    return store / "pair", file, decodings


def test_the_cache_is_used_and_gives_the_same(cached):
    again = data.load("cifar10")
    fresh = sources.canonical(sources.decode(data.locate("cifar10")))
    assert len(cached[2]) == 1  # by the line above, not by load
    assert again.sha256 == sources.digest(fresh)
    assert np.array_equal(again.images, fresh.images) and np.array_equal(again.test_labels, fresh.test_labels)
    assert again.classes == fresh.classes


@pytest.mark.parametrize("damage", ["cut", "emptied", "one bit", "foreign", "another array"])
def test_a_corrupt_cache_is_rebuilt(cached, damage):
    _, file, decodings = cached
    sha256, whole = data.load("cifar10").sha256, file.read_bytes()
    if damage == "one bit":
        middle = whole.index(b"images.npy") + 5000  # among the pixels of the first array
        file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    elif damage == "another array":
        np.savez(file, images=np.zeros(3))
    else:
        file.write_bytes({"cut": whole[:-4000], "emptied": b"", "foreign": b"hello" * 100}[damage])
    assert data.load("cifar10").sha256 == sha256
    assert len(decodings) == 1
    data.load("cifar10")
    assert len(decodings) == 1
    assert list(file.parent.iterdir()) == [file]


def test_changed_files_are_decoded_again(cached):
    folder, file, decodings = cached
    before = data.load("cifar10").sha256
    write_parquet(folder, train=TRAIN + 1)
    after = data.load("cifar10")
    assert after.sha256 != before and len(after.labels) == TRAIN + 1 and len(decodings) == 1
    os.utime(folder / "test.parquet", ns=(1, 1))
    assert data.load("cifar10").sha256 == after.sha256 and len(decodings) == 2
    assert list(file.parent.iterdir()) == [file]  # the old one is replaced, not left behind


def test_no_room_gives_one_sentence_and_leaves_nothing(store, tmp_path, monkeypatch):
    write_parquet(store)

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(DataError, match="has no room left, and cifar10-.* needs about 1 MB") as error:
        data.load("cifar10")
    one_sentence(error)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_gives_one_sentence(store, tmp_path, monkeypatch):
    write_parquet(store)
    (tmp_path / "cache").write_text("a file where a folder belongs")
    with pytest.raises(DataError, match="cannot be written to.* set NAS_CORE_CACHE") as error:
        data.load("cifar10")
    one_sentence(error)


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NAS_CORE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert sources.cache_folder() == tmp_path / ".cache" / "nas_core"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert sources.cache_folder() == tmp_path / "xdg" / "nas_core"
    monkeypatch.setenv("NAS_CORE_CACHE", str(tmp_path / "own"))
    assert sources.cache_folder() == tmp_path / "own"


# ------------------------------------------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    "field, values",
    [
        ("dataset", [None, "", 3, True, ["digits"]]),
        ("sha256", ["", "abc", "A" * 64, "g" * 64, 12, True]),
        ("images", [0, -1, 2.0, "100", True, [5]]),
        ("size", [0, -8, 8.0, "16", False, (8, 8)]),
        ("label_noise", [-0.1, 1.1, float("nan"), float("inf"), "0.4", True, None, [0.1]]),
        ("held_out", [-0.1, 1.0, 1, float("nan"), "0.5", False, None, [0.5]]),
        ("augment", ["flip", "", None, True, 0, ["crop"]]),
    ],
)
def test_every_wrong_field_gives_one_sentence(field, values):
    for value in values:
        with pytest.raises(DataError, match=f"^{field} is .*: give") as error:
            DataConfig(**{field: value})
        one_sentence(error)
        assert repr(value) in str(error.value)


def test_a_configuration_is_plain_and_one_value_has_one_spelling():
    config = DataConfig(images=100, size=16, label_noise=1, held_out=0, augment="crop")
    text = json.dumps(dataclasses.asdict(config))
    assert text == json.dumps(dataclasses.asdict(dataclasses.replace(config, label_noise=1.0, held_out=0.0)))
    assert DataConfig(**json.loads(text)) == config


def test_resolve_fills_the_sha256_and_needs_no_data_where_it_is_given(empty):
    assert data.resolve(DataConfig()) == DataConfig(sha256=DIGITS_SHA256)
    elsewhere = DataConfig("cifar10", sha256="0" * 64)
    assert data.resolve(elsewhere) is elsewhere


def test_another_sha256_is_refused(empty):
    data.prepare(DataConfig(sha256=DIGITS_SHA256), 0)
    with pytest.raises(DataError, match=f"has the sha256 {DIGITS_SHA256} but the configuration asks for 0000") as error:
        data.prepare(DataConfig(sha256="0" * 64), 0)
    one_sentence(error)


def test_what_the_dataset_cannot_give_is_refused(store):
    with pytest.raises(DataError, match="images is 1501, but digits has 1500 training images") as error:
        data.prepare(DataConfig(images=1501), 0)
    one_sentence(error)
    for config in (DataConfig(images=3, held_out=0.9), DataConfig(images=3, held_out=0.1), DataConfig(images=1)):
        with pytest.raises(DataError, match="leaves one part empty") as error:
            data.prepare(config, 0)
        one_sentence(error)
    for dtype in (torch.float16, torch.bfloat16, torch.int64):
        with pytest.raises(DataError, match="give torch.float32 or torch.float64"):
            data.prepare(DataConfig(), 0, dtype=dtype)
    for seed in ("1", 1.0, True, None):
        with pytest.raises(DataError, match="give a whole number"):
            data.prepare(DataConfig(), seed)
    for name in "ab":
        (store / "wide" / name).mkdir(parents=True)
        Image.new("RGB", (12, 8)).save(store / "wide" / name / "1.png")
    with pytest.raises(DataError, match="8×12 pixels and must be square: give a size") as error:
        data.prepare(DataConfig("wide"), 0)
    one_sentence(error)
    assert data.prepare(DataConfig("wide", size=6), 0).train.images.shape == (1, 3, 6, 6)


# ---------------------------------------------------------------------------------------------------------- preparing


def tensors(splits):
    return [tensor for split in (splits.train, splits.held_out, splits.test) for tensor in (split.images, split.labels)]


def identical(one, other):
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


def ids(split):
    """An image is known by its bytes; digits holds no image twice."""
    return [image.numpy().tobytes() for image in split.images]


def test_the_same_seed_gives_the_same_bits_and_another_does_not(empty):
    config = DataConfig(images=200, label_noise=0.3, size=6)
    first = data.prepare(config, 7)
    torch.rand(5)  # the global generator has no part in it
    assert identical(first, data.prepare(config, 7))
    other = data.prepare(config, 8)
    assert set(ids(first.train)) != set(ids(other.train))
    assert torch.equal(first.test.images, other.test.images)


def test_the_bits_do_not_depend_on_the_number_of_threads(empty):
    config, threads = DataConfig(label_noise=0.3, size=5), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = data.prepare(config, 3)
        torch.set_num_threads(4)
        assert identical(one, data.prepare(config, 3))
    finally:
        torch.set_num_threads(threads)


def test_streams_are_repeatable_and_apart():
    draws = {
        (seed, name): torch.randint(2**62, (4,), generator=data.stream(seed, name)).tolist()
        for seed in (0, 1, -1, 10**30)
        for name in ("a", "b", "")
    }
    assert len({tuple(draw) for draw in draws.values()}) == len(draws)
    assert torch.randint(2**62, (4,), generator=data.stream(1, "a")).tolist() == draws[1, "a"]
    assert data.stream(0, "a").device.type == "cpu"


@settings(deadline=None, max_examples=25)
@given(images=st.integers(4, 1500), held_out=st.floats(0, 0.99), seed=st.integers(0, 2**40))
def test_train_and_held_out_are_disjoint_and_of_the_right_size(images, held_out, seed):
    count = round(held_out * images)
    config = DataConfig(images=images, held_out=held_out)
    if count == images or (count == 0 and held_out > 0):
        with pytest.raises(DataError, match="leaves one part empty"):
            data.prepare(config, seed)
        return
    splits = data.prepare(config, seed)
    assert len(splits.train) == images - count
    assert (splits.held_out is None) == (held_out == 0)
    known = ids(splits.train) + (ids(splits.held_out) if splits.held_out else [])
    assert len(known) == images == len(set(known))
    assert len(splits.test) == 297 and not set(known) & set(ids(splits.test))
    assert (splits.classes, splits.channels, splits.size) == (10, 1, 8)


def labels_by_image(splits):
    pairs = zip(ids(splits.train), splits.train.labels.tolist(), strict=True)
    return dict(pairs) | dict(zip(ids(splits.held_out), splits.held_out.labels.tolist(), strict=True))


@settings(deadline=None, max_examples=15)
@given(share=st.floats(0, 1), images=st.integers(4, 1500), seed=st.integers(0, 1000))
def test_label_noise_flips_exactly_its_share_to_another_class(share, images, seed):
    clean = data.prepare(DataConfig(images=images), seed)
    noisy = data.prepare(DataConfig(images=images, label_noise=share), seed)
    # The same images in the same order: the noise has a stream of its own.
    assert torch.equal(clean.train.images, noisy.train.images)
    assert torch.equal(clean.held_out.images, noisy.held_out.images)
    assert torch.equal(clean.test.labels, noisy.test.labels)
    before, after = labels_by_image(clean), labels_by_image(noisy)
    assert sum(before[key] != after[key] for key in before) == round(share * images)
    assert set(after.values()) <= set(range(10))


def test_noise_reaches_every_other_class_alike_in_both_parts(empty):
    clean = data.prepare(DataConfig(held_out=0.5), 1)
    noisy = data.prepare(DataConfig(held_out=0.5, label_noise=1.0), 1)
    for before, after in ((clean.train, noisy.train), (clean.held_out, noisy.held_out)):
        shift = torch.bincount((after.labels - before.labels) % 10, minlength=10)
        assert shift[0] == 0
        chi2 = ((shift[1:] - 750 / 9) ** 2 / (750 / 9)).sum()
        assert chi2 < 26.1, shift  # the 99.9 % quantile with 8 degrees of freedom


def test_subset_split_and_noise_each_follow_the_seed(empty):
    def differ(config, of):
        return of(data.prepare(config, 1)) != of(data.prepare(config, 2))

    assert differ(DataConfig(images=300, held_out=0), lambda splits: set(ids(splits.train)))
    assert differ(DataConfig(), lambda splits: set(ids(splits.held_out)))
    truth = labels_by_image(data.prepare(DataConfig(), 0))
    assert differ(
        DataConfig(label_noise=0.5),
        lambda splits: {key for key, label in labels_by_image(splits).items() if label != truth[key]},
    )
    # Independent draws: of 300 of 1500 images, about 60 are in both subsets (standard deviation 6).
    one, other = (set(ids(data.prepare(DataConfig(images=300, held_out=0), seed).train)) for seed in (1, 2))
    assert 30 < len(one & other) < 90


def test_images_keep_their_labels(empty):
    dataset = data.load("digits")
    truth = {image.numpy().tobytes(): int(label) for image, label in zip(dataset.images, dataset.labels, strict=True)}
    splits = data.prepare(DataConfig(images=400), 2, dtype=torch.float64)
    mean, std = dataset.images.double().mean() / 255, (dataset.images.double() / 255).std(correction=0)
    for split in (splits.train, splits.held_out):
        pixels = ((split.images * std + mean) * 255).round().to(torch.uint8)
        for image, label in zip(pixels, split.labels, strict=True):
            assert truth[image.contiguous().numpy().tobytes()] == label


def test_cifar_is_normalised_with_its_constants_and_channels_last(store):
    write_parquet(store)
    dataset = data.load("cifar10")
    splits = data.prepare(DataConfig("cifar10", held_out=0), 0)
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2470, 0.2435, 0.2616])
    expected = (dataset.test_images.float() / 255 - mean[:, None, None]) / std[:, None, None]
    assert torch.allclose(splits.test.images, expected, atol=1e-6)
    assert torch.allclose(splits.train.black, -mean / std)
    for split in (splits.train, splits.test):
        assert split.images.dtype == torch.float32 and split.labels.dtype == torch.int64
        assert split.images.is_contiguous(memory_format=torch.channels_last)


def test_shrinking_averages_areas_and_enlarging_keeps_flat_images_flat(store):
    write_parquet(store)
    whole = data.prepare(DataConfig("cifar10"), 0, dtype=torch.float64).test.images
    half = data.prepare(DataConfig("cifar10", size=16), 0, dtype=torch.float64).test.images
    blocks = whole.reshape(TEST, 3, 16, 2, 16, 2).mean((3, 5))
    assert torch.allclose(half, blocks, atol=1e-12)
    images = np.full((4, 3, 8, 8), 100, dtype=np.uint8) * np.arange(1, 3, dtype=np.uint8).repeat(2)[:, None, None, None]
    write_class_folders(store / "flat" / "train", images, [0, 1, 0, 1], ("a", "b"))
    large = data.prepare(DataConfig("flat", size=20, held_out=0), 0).train.images
    assert large.shape == (4, 3, 20, 20)
    assert torch.allclose(large, large[:, :, :1, :1].expand_as(large), atol=1e-6)
    assert sorted(large[:, 0, 0, 0].round().tolist()) == [-1, -1, 1, 1]


# ------------------------------------------------------------------------------------------------------------ batches


def toy(count, size=8, channels=3, dtype=torch.float32):
    """A split whose labels are the images' numbers."""
    images = torch.rand((count, channels, size, size), generator=torch.Generator().manual_seed(5), dtype=dtype)
    images = images.contiguous(memory_format=torch.channels_last)
    return data.Split(images, torch.arange(count), torch.arange(channels).to(dtype) - 9)


@settings(deadline=None)
@given(count=st.integers(1, 40), batch_size=st.integers(1, 45), drop_last=st.booleans(), shuffle=st.booleans())
def test_a_pass_takes_every_image_once(count, batch_size, drop_last, shuffle):
    split, generator = toy(count), data.stream(0, "order")
    if count < (batch_size if drop_last else min(batch_size, 2)):
        with pytest.raises(DataError, match="No batch"):
            data.batches(split, batch_size, generator, shuffle=shuffle, drop_last=drop_last)
        return
    taken = list(data.batches(split, batch_size, generator, shuffle=shuffle, drop_last=drop_last))
    sizes = [len(labels) for _, labels in taken]
    rest = count % batch_size
    last = [rest] if rest > 1 and not drop_last else []
    assert sizes == [batch_size] * (count // batch_size) + last
    labels = torch.cat([labels for _, labels in taken])
    assert len(set(labels.tolist())) == len(labels)
    assert torch.equal(torch.cat([images for images, _ in taken]), split.images[labels])
    if not shuffle:
        assert labels.tolist() == list(range(len(labels)))


def test_shuffling_shuffles_and_repeats_with_the_generator():
    def order(seed):
        return torch.cat([labels for _, labels in data.batches(toy(100), 10, data.stream(seed, "order"))]).tolist()

    assert order(0) == order(0) != order(1)
    assert order(0) != sorted(order(0))
    generator = data.stream(0, "order")
    first, second = (torch.cat([y for _, y in data.batches(toy(100), 10, generator)]).tolist() for _ in range(2))
    assert first == order(0) != second


def test_batches_are_channels_last_and_need_no_generator_where_nothing_is_drawn():
    for augment in data.AUGMENTATIONS:
        for images, _ in data.batches(toy(10), 4, data.stream(0, "x"), augment=augment):
            assert images.is_contiguous(memory_format=torch.channels_last) and images.shape[1:] == (3, 8, 8)
    assert [len(labels) for _, labels in data.batches(toy(10), 4, None, shuffle=False)] == [4, 4, 2]


def slowly(image, black, move, padding):
    """The reference for one image: pad each channel with its black, crop, flip, with torchvision."""
    channels = [
        transforms.pad(channel[None], [padding], fill=float(value)) for channel, value in zip(image, black, strict=True)
    ]
    size = image.shape[-1]
    down, right, flip = (int(value) for value in move)
    image = transforms.crop(torch.cat(channels), down, right, size, size)
    return transforms.hflip(image) if flip else image


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_augmentation_equals_one_image_after_another(draw):
    size = draw.draw(st.sampled_from([3, 8, 16, 20, 32]))
    padding = max(1, size // 8)
    split = toy(draw.draw(st.integers(1, 6)), size=size, channels=draw.draw(st.sampled_from([1, 3])))
    shift = st.integers(0, 2 * padding)
    moves = torch.tensor([draw.draw(st.tuples(shift, shift, st.integers(0, 1))) for _ in range(len(split))])
    expected = [slowly(image, split.black, move, padding) for image, move in zip(split.images, moves, strict=True)]
    assert torch.equal(data.crop_flip(split.images, split.black, moves), torch.stack(expected))


@pytest.mark.parametrize("size, padding", [(8, 1), (16, 2), (32, 4)])
@pytest.mark.parametrize("augment, flips", [("crop", [0]), ("crop-flip", [0, 1])])
def test_every_move_occurs_about_equally_often_and_no_other(size, padding, augment, flips):
    split = toy(1, size=size)
    moves = [
        (down, right, flip) for down in range(2 * padding + 1) for right in range(2 * padding + 1) for flip in flips
    ]
    known = {slowly(split.images[0], split.black, move, padding).numpy().tobytes(): move for move in moves}
    many = data.Split(split.images.expand(20 * len(moves), -1, -1, -1), torch.arange(20 * len(moves)), split.black)
    count = dict.fromkeys(moves, 0)
    for images, _ in data.batches(many, 64, data.stream(3, "augment"), augment=augment):
        for image in images:
            count[known[image.contiguous().numpy().tobytes()]] += 1
    chi2 = sum((seen - 20) ** 2 / 20 for seen in count.values())
    freedom = len(moves) - 1
    assert chi2 < freedom + 4 * (2 * freedom) ** 0.5


def test_padding_is_the_black_of_before_normalising(store):
    """Cropping normalised images gives what torchvision's crop before normalising gives."""
    write_parquet(store)
    dataset, splits = data.load("cifar10"), data.prepare(DataConfig("cifar10"), 0)
    moves = torch.tensor([[0, 8, 0], [8, 0, 1], [4, 4, 0], [3, 6, 1], [0, 0, 0], [8, 8, 1], [1, 2, 1]])
    mean, std = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
    for index, (down, right, flip) in enumerate(moves.tolist()):
        image = transforms.crop(transforms.pad(dataset.test_images[index].float() / 255, [4]), down, right, 32, 32)
        image = transforms.normalize(transforms.hflip(image) if flip else image, mean, std)
        ours = data.crop_flip(splits.test.images, splits.test.black, moves)[index]
        assert torch.allclose(ours, image, atol=1e-5)


def drawn(split, augment, batch_size, take):
    generator = data.stream(9, "x")
    passing = data.batches(split, batch_size, generator, augment=augment)
    for _ in range(take):
        next(passing)
    return generator.get_state()


@pytest.mark.parametrize("augment", data.AUGMENTATIONS)
def test_what_is_drawn_depends_on_neither_device_nor_use(augment):
    split = toy(24)
    state = drawn(split, augment, 4, take=6)
    # "meta" is a device without memory: whatever were drawn there would leave the CPU's generator behind.
    elsewhere = data.Split(split.images.to("meta"), split.labels.to("meta"), split.black.to("meta"))
    assert torch.equal(drawn(elsewhere, augment, 4, take=6), state)
    assert torch.equal(drawn(split, augment, 12, take=0), state)
    assert torch.equal(drawn(toy(24, dtype=torch.float64), augment, 4, take=1), state)
    assert not torch.equal(data.stream(9, "x").get_state(), state)


def test_an_images_crop_does_not_depend_on_the_batch_size():
    one, other = (
        torch.cat([images for images, _ in data.batches(toy(30), size, data.stream(0, "x"), augment="crop-flip")])
        for size in (5, 15)
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": "4"}, "batch_size is '4'"),
        ({"batch_size": True}, "batch_size is True"),
        ({"batch_size": 2.0}, "batch_size is 2.0"),
        ({"augment": "flip"}, "augment is 'flip'"),
        ({"generator": None}, "drawn on the CPU"),
        ({"generator": None, "shuffle": False, "augment": "crop"}, "drawn on the CPU"),
        ({"batch_size": 11, "drop_last": True}, "No batch of 11 can be made of 10 images"),
    ],
)
def test_wrong_arguments_are_refused_at_once(wrong, words):
    arguments = {"batch_size": 4, "generator": data.stream(0, "x")} | wrong
    with pytest.raises(DataError, match=words) as error:
        data.batches(toy(10), **arguments)
    one_sentence(error)


# ------------------------------------------------------------------------------------------------- where there is data


def test_the_real_cifar10_where_it_is_found(tmp_path, monkeypatch):
    name = data.auto()
    if name == "digits":
        pytest.skip("CIFAR-10 is not on this machine")
    monkeypatch.setenv("NAS_CORE_CACHE", str(tmp_path))
    dataset = data.load(name)
    assert dataset.images.shape == (50000, 3, 32, 32) and dataset.test_images.shape == (10000, 3, 32, 32)
    assert torch.bincount(dataset.labels).tolist() == [5000] * 10
    assert torch.bincount(dataset.test_labels).tolist() == [1000] * 10
    mean = dataset.images.double().mean((0, 2, 3)) / 255
    assert torch.allclose(mean, torch.tensor(data.CIFAR10_MEAN).double(), atol=2e-4)
    if name == "cifar10-jpeg":
        assert dataset.sha256 == CIFAR10_JPEG_SHA256
    # In canonical order the first images are of all classes.
    assert torch.bincount(dataset.test_labels[:1000], minlength=10).min() > 60
    assert data.load(name).sha256 == dataset.sha256
    splits = data.prepare(DataConfig(name, images=2000, size=16), 0)
    assert splits.train.images.shape == (1000, 3, 16, 16) and len(splits.held_out) == 1000
    assert abs(float(splits.train.images.mean())) < 0.1
