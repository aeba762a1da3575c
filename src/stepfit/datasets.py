"""Data: the MNIST digits, toy data made by seeded generators, and the course's four-array .npz files.

The generators are numpy's RandomState, whose stream numpy has frozen (NEP 19), and every toy value is rounded
to six decimals, so that the last bit of some machine's sine cannot make other data of the same seed.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stepfit.files import whole_file

Array = np.ndarray[Any, Any]

# SHA-256 of the pixels and of the digits, without the header of the idx format.
_MNIST_SHA256 = {
    "test": (
        "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    ),
    "train": (
        "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    ),
}
_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_SECONDS_TO_ANSWER = 20


class Split(NamedTuple):
    """Two-class data in two parts, in the order of arr_0 .. arr_3 of the course's files.

    Attributes
    ----------
    x_train, x_test : Tensor of shape (m, d), float64
        A row a point.
    y_train, y_test : Tensor of shape (m, 1), int64
        The class of each row, 0 or 1.
    """

    x_train: Tensor
    x_test: Tensor
    y_train: Tensor
    y_test: Tensor


def mnist(split: str = "test") -> tuple[Tensor, Tensor]:
    """Return the MNIST digits: 28 x 28 pixels, 0 (paper) to 255 (ink), and which digit each image shows.

    The 10,000 test images come with stepfit. The 60,000 training images are looked for in the folder that the
    environment variable STEPFIT_DATA names, then in the user's cache, and else downloaded into that cache.
    Either way the bytes are compared with the published ones.

    Parameters
    ----------
    split : {"test", "train"}
        Which part.

    Returns
    -------
    images : Tensor of shape (n, 784), uint8
        The pixels row by row; images[i].reshape(28, 28) is the picture.
    digits : Tensor of shape (n,), int64
        0 to 9.

    Raises
    ------
    FileNotFoundError
        The training images are not there and no mirror answers.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition",
    Proc. IEEE 86(11), 1998. https://doi.org/10.1109/5.726791

    Examples
    --------
    >>> images, digits = mnist()
    >>> images.shape, images.dtype, digits[:8].tolist()
    (torch.Size([10000, 784]), torch.uint8, [7, 2, 1, 0, 4, 1, 4, 9])
    """
    if split not in _MNIST_SHA256:
        raise ValueError(f"split is {split!r}; MNIST has a 'test' and a 'train' part")
    images, digits = _checked_mnist(split)
    # Copies: what a caller does to its tensor must not reach the next caller.
    return torch.from_numpy(images.copy()), torch.from_numpy(digits.astype(np.int64))


def mnist_train_folder() -> Path | None:
    """Tell which folder holds the MNIST training images, or None where they must be downloaded."""
    for folder in _mnist_folders():
        if _npz_path(folder).exists() or all(_idx_path(folder, name) for name in _IDX_FILES):
            return folder
    return None


def toy_data(seed: int = 0) -> Split:
    """Make two round clouds that overlap: a straight line is the right answer, and it cannot be always right.

    Parameters
    ----------
    seed : int
        The same seed gives the same bits.

    Returns
    -------
    Split
        600 points to train on and 400 to test on, (d = 2).

    Examples
    --------
    >>> x_train, x_test, y_train, y_test = toy_data()
    >>> x_train.shape, x_test.shape, y_train.shape, y_test.shape
    (torch.Size([600, 2]), torch.Size([400, 2]), torch.Size([600, 1]), torch.Size([400, 1]))
    """
    random, y = _random_and_classes(seed)
    centers = np.array([[-1.0, 0.0], [1.0, 0.5]])
    return _split(centers[y], 0.9, y, random)


def two_moons(seed: int = 0) -> Split:
    """Make two half circles that reach into each other: a line can follow them, and no line can part them.

    Parameters
    ----------
    seed : int
        The same seed gives the same bits.

    Returns
    -------
    Split
        600 points to train on and 400 to test on, (d = 2).

    References
    ----------
    The shape is that of scikit-learn's `make_moons`; the generator is our own.

    Examples
    --------
    >>> two_moons(seed=7).y_train.unique().tolist()
    [0, 1]
    """
    random, y = _random_and_classes(seed)
    angle = np.pi * random.random_sample(len(y))
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x = np.where(y[:, None] == 0, upper, [1.0, 0.5] - upper)
    return _split(x, 0.1, y, random)


def two_circles(seed: int = 0) -> Split:
    """Make a ring around a smaller ring: here a straight line is no better than a coin.

    Parameters
    ----------
    seed : int
        The same seed gives the same bits.

    Returns
    -------
    Split
        600 points to train on and 400 to test on, (d = 2).

    References
    ----------
    The shape is that of scikit-learn's `make_circles`; the generator is our own.

    Examples
    --------
    >>> data = two_circles()
    >>> radius = data.x_train.norm(dim=1)
    >>> bool(radius[data.y_train[:, 0] == 0].mean() > radius[data.y_train[:, 0] == 1].mean())
    True
    """
    random, y = _random_and_classes(seed)
    angle = 2 * np.pi * random.random_sample(len(y))
    radius = np.where(y == 0, 1.0, 0.45)
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return _split(x, 0.1, y, random)


def blobs(n: int = 1000, d: int = 2, k: int = 4, spread: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Make round clouds of points, for k-means.

    Parameters
    ----------
    n, d, k : int
        Points, features, clouds. Cloud j has every k-th point, so that all have equally many (or one more).
    spread : float
        Standard deviation of each cloud. The middles lie anywhere between -10 and 10, so some may overlap.
    seed : int
        The same seed gives the same bits.

    Returns
    -------
    x : Tensor of shape (n, d), float32
        The points, in no order.
    labels : Tensor of shape (n,), int64
        The cloud that each point was drawn from.

    Examples
    --------
    >>> x, labels = blobs(n=6, d=3, k=2)
    >>> x.shape, x.dtype, labels.bincount().tolist()
    (torch.Size([6, 3]), torch.float32, [3, 3])
    """
    for name, value in (("n", n), ("d", d), ("k", k)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    if not spread >= 0:
        raise ValueError(f"spread is {spread}; it must not be negative")
    random = np.random.RandomState(seed)
    middles = random.uniform(-10, 10, size=(k, d))
    labels = random.permutation(np.arange(n) % k)
    x = middles[labels] + spread * random.standard_normal((n, d))
    return torch.from_numpy(x.round(6).astype(np.float32)), torch.from_numpy(labels.astype(np.int64))


def write_toy_data(folder: str | os.PathLike[str]) -> None:
    """Write the course's files: toy_data.npz, toy_data_two_moon.npz and toy_data_two_circles.npz.

    Each holds arr_0 .. arr_3 = x_train, x_test, y_train, y_test, of shapes (600, 2), (400, 2), (600, 1),
    (400, 1).

    Parameters
    ----------
    folder : str or path
        Is made where it does not exist. A file is written whole or not at all.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_toy_data(folder)
    ...     load_split(Path(folder) / "toy_data.npz").x_train.shape
    torch.Size([600, 2])
    """
    data = {"toy_data": toy_data(), "toy_data_two_moon": two_moons(), "toy_data_two_circles": two_circles()}
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, split in data.items():
        with whole_file(Path(folder) / f"{name}.npz") as path, path.open("wb") as file:
            np.savez(file, *(part.numpy() for part in split))


def load_split(path: str | os.PathLike[str]) -> Split:
    """Read an .npz file with arr_0 .. arr_3 = x_train, x_test, y_train, y_test.

    Parameters
    ----------
    path : str or path
        x of shape (m, d), y of shape (m,) or (m, 1) with the values 0 and 1.

    Returns
    -------
    Split
        The four arrays, x as float64, y as int64 of shape (m, 1).

    Raises
    ------
    ValueError
        The file is none of this kind; the message says what it holds.

    Examples
    --------
    >>> load_split("results.txt")
    Traceback (most recent call last):
    ValueError: results.txt is not there
    """
    with open_npz(path) as file:
        arrays = dict(file)
    names = [f"arr_{i}" for i in range(4)]
    if any(name not in arrays for name in names):
        raise ValueError(
            f"{path} holds {', '.join(arrays) or 'nothing'}; arr_0 .. arr_3 = x_train, x_test, y_train, "
            "y_test are needed: write it by np.savez(path, x_train, x_test, y_train, y_test)"
        )
    x_train, x_test, y_train, y_test = (arrays[name] for name in names)
    for x, y, part in ((x_train, y_train, "train"), (x_test, y_test, "test")):
        _refuse_bad_part(x, y, f"{path}: x_{part}", f"y_{part}")
    if x_train.shape[1] != x_test.shape[1]:
        raise ValueError(
            f"{path}: x_train has {x_train.shape[1]} columns and x_test {x_test.shape[1]}; both need the same"
        )
    points = [torch.from_numpy(x.astype(np.float64)) for x in (x_train, x_test)]
    classes = [torch.from_numpy(y.astype(np.int64).reshape(-1, 1)) for y in (y_train, y_test)]
    return Split(*points, *classes)


@contextmanager
def open_npz(path: str | os.PathLike[str]) -> Iterator[Mapping[str, Array]]:
    """Open an .npz file of number arrays; each is read when it is asked for, none of them by pickle.

    Parameters
    ----------
    path : str or path
        As np.savez writes it.

    Yields
    ------
    Mapping from str to ndarray
        In the order of the file.

    Raises
    ------
    ValueError
        The file is not there, not an .npz or holds Python objects.

    Examples
    --------
    >>> with open_npz("nowhere.npz") as arrays:
    ...     pass
    Traceback (most recent call last):
    ValueError: nowhere.npz is not there
    """
    try:
        # Opened here, because numpy leaves a file that is not a zip open.
        with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            yield file
    except FileNotFoundError:
        raise ValueError(f"{path} is not there") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error):
        # numpy fails in its own way for each wrong file: a pickle or text, nothing, a lone .npy, a cut zip.
        raise ValueError(f"{path} is not a whole .npz file of number arrays; write it by numpy.savez") from None


def _random_and_classes(seed: int, n: int = 1000) -> tuple[np.random.RandomState, Array]:
    return np.random.RandomState(seed), np.arange(n) % 2


def _split(x: Array, noise: float, y: Array, random: np.random.RandomState) -> Split:
    x = (x + noise * random.standard_normal(x.shape)).round(6)
    order = random.permutation(len(x))
    points, classes = torch.from_numpy(x[order]), torch.from_numpy(y[order].astype(np.int64)).unsqueeze(1)
    return Split(points[:600], points[600:], classes[:600], classes[600:])


def _refuse_bad_part(x: Array, y: Array, x_name: str, y_name: str) -> None:
    if x.ndim != 2 or 0 in x.shape or x.dtype.kind not in "biuf":
        raise ValueError(f"{x_name} is {x.dtype} of shape {x.shape}; it must hold real numbers, (m, d), a row a point")
    if y.shape not in ((len(x),), (len(x), 1)):
        raise ValueError(f"{x_name} has {len(x)} rows and {y_name} the shape {y.shape}; ({len(x)}, 1) is needed")
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(f"{x_name} has {x[row, column]} at row {row}, column {column}; every value must be finite")
    wrong = ~np.isin(y, (0, 1))
    if wrong.any():
        raise ValueError(f"{x_name} comes with {y[wrong][0]} in {y_name}; the classes must be 0 and 1")


@cache  # read and checked once in a process
def _checked_mnist(split: str) -> tuple[Array, Array]:
    if split == "test":
        return _npz(Path(__file__).parent / "data" / "mnist" / "mnist_test.npz", split)
    folder = mnist_train_folder() or _download()
    if _npz_path(folder).exists():
        return _npz(_npz_path(folder), split)
    images, digits = (_idx(folder, index) for index in range(2))
    return images, digits


def _npz(path: Path, split: str) -> tuple[Array, Array]:
    with open_npz(path) as file:
        arrays = dict(file)
    if not {"images", "labels"} <= arrays.keys():
        raise ValueError(f"{path} holds {', '.join(arrays)}; MNIST needs the arrays images and labels")
    images, digits = (
        _checked(arrays[name], _MNIST_SHA256[split][i], path) for i, name in enumerate(("images", "labels"))
    )
    return images.reshape(-1, 784), digits


def _idx(folder: Path, index: int) -> Array:
    """Read the images (index 0) or the digits (1); the format: http://yann.lecun.com/exdb/mnist/."""
    path = _idx_path(folder, _IDX_FILES[index])
    assert path is not None  # the folder was chosen because it has it
    return _idx_body(path.read_bytes(), index, path)


def _idx_body(raw: bytes, index: int, path: Path | str) -> Array:
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is not a whole .gz file ({error}): remove it and try again") from error
    body = np.frombuffer(raw, np.uint8, offset=min(len(raw), (16, 8)[index]))
    body = _checked(body, _MNIST_SHA256["train"][index], path)
    return body.reshape(-1, 784) if index == 0 else body


def _checked(array: Array, sha256: str, path: Path | str) -> Array:
    if hashlib.sha256(array.tobytes()).hexdigest() != sha256:
        raise ValueError(f"{path} is not MNIST as it was published (its SHA-256 differs): remove it and try again")
    return array


def _download() -> Path:
    """Fetch both training files into the cache, each put in place only when it is whole and right."""
    folder = _cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(_IDX_FILES):
        if _idx_path(folder, name) is None:
            with whole_file(folder / f"{name}.gz") as path:
                path.write_bytes(_fetch(f"{name}.gz", index))
    return folder


def _fetch(name: str, index: int) -> bytes:
    failures = []
    for mirror in _MIRRORS:
        try:
            with urllib.request.urlopen(mirror + name, timeout=_SECONDS_TO_ANSWER) as answer:
                raw: bytes = answer.read()
            _idx_body(raw, index, mirror + name)
            return raw
        except (OSError, http.client.HTTPException, ValueError) as error:
            failures.append(f"{mirror + name}: {error}")
    raise FileNotFoundError(
        f"MNIST's training part is not on this machine and could not be downloaded ({'; '.join(failures)}); "
        f"put {' and '.join(f'{name}.gz' for name in _IDX_FILES)} into {_cache_folder()} "
        "or into a folder that the environment variable STEPFIT_DATA names"
    )


def _mnist_folders() -> list[Path]:
    named = os.environ.get("STEPFIT_DATA")
    return [*([Path(named)] if named else []), _cache_folder()]


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stepfit"


def _npz_path(folder: Path) -> Path:
    return folder / "mnist_train.npz"


def _idx_path(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.exists()), None)
