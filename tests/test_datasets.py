"""Data: the digits byte for byte, toy data bit for bit, and clear words for what is missing or wrong."""

import gzip
import hashlib

import numpy as np
import pytest
import torch

from stepfit import datasets, linear_regression, record


def bits(split):
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in split)).hexdigest()


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine with an empty cache, no STEPFIT_DATA and no network."""
    monkeypatch.delenv("STEPFIT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "_MIRRORS", ((tmp_path / "no mirror").as_uri() + "/",))
    datasets._checked_mnist.cache_clear()
    yield tmp_path
    datasets._checked_mnist.cache_clear()


@pytest.fixture
def small_train(nowhere, monkeypatch):
    """Two images and digits that pass for MNIST's training part, as idx files."""
    images = np.arange(2 * 784, dtype=np.uint8)
    digits = np.array([5, 0], dtype=np.uint8)
    sums = tuple(hashlib.sha256(array.tobytes()).hexdigest() for array in (images, digits))
    monkeypatch.setitem(datasets._MNIST_SHA256, "train", sums)
    raw = (
        b"\0\0\x08\x03" + np.array([2, 28, 28], ">i4").tobytes() + images.tobytes(),
        b"\0\0\x08\x01" + np.array([2], ">i4").tobytes() + digits.tobytes(),
    )
    return dict(zip(datasets._IDX_FILES, raw))


def write_idx(folder, files, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in files.items():
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(raw) if suffix else raw)


def test_the_test_digits_are_the_published_ones():
    images, digits = datasets.mnist()
    assert images.shape == (10000, 784)
    assert (images.dtype, digits.dtype) == (torch.uint8, torch.int64)
    # Facts of the published set, so that a wrong checksum in the code would not hide a wrong file.
    assert digits.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert images.double().mean().item() == pytest.approx(33.791224, abs=1e-6)


def test_a_callers_change_does_not_reach_the_next_caller():
    images, digits = datasets.mnist()
    images.zero_()
    digits.zero_()
    again, again_digits = datasets.mnist()
    assert again.any()
    assert again_digits.any()


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="split is 'valid'; MNIST has a 'test' and a 'train' part"):
        datasets.mnist("valid")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_training_digits_come_from_the_named_folder(small_train, monkeypatch, nowhere, suffix):
    write_idx(nowhere / "mine", small_train, suffix)
    monkeypatch.setenv("STEPFIT_DATA", str(nowhere / "mine"))
    images, digits = datasets.mnist("train")
    assert images.shape == (2, 784)
    assert images[1, 3] == (784 + 3) % 256
    assert digits.tolist() == [5, 0]


def test_training_digits_come_from_the_cache_as_npz(small_train, nowhere):
    assert datasets.mnist_train_folder() is None
    cache = nowhere / "cache" / "stepfit"
    cache.mkdir(parents=True)
    images = np.arange(2 * 784, dtype=np.uint8).reshape(2, 28, 28)
    np.savez(cache / "mnist_train.npz", images=images, labels=np.array([5, 0], dtype=np.uint8))
    assert datasets.mnist("train")[1].tolist() == [5, 0]
    assert datasets.mnist_train_folder() == cache


def test_training_digits_are_downloaded_once(small_train, nowhere, monkeypatch):
    write_idx(nowhere / "mirror", small_train, ".gz")
    gone = (nowhere / "gone").as_uri() + "/"
    monkeypatch.setattr(datasets, "_MIRRORS", (gone, (nowhere / "mirror").as_uri() + "/"))
    assert datasets.mnist("train")[1].tolist() == [5, 0]
    assert sorted(path.name for path in (nowhere / "cache" / "stepfit").iterdir()) == sorted(
        f"{name}.gz" for name in small_train
    )
    datasets._checked_mnist.cache_clear()
    monkeypatch.setattr(datasets, "_MIRRORS", (gone,))
    assert datasets.mnist("train")[1].tolist() == [5, 0]


def test_a_mirror_with_other_bytes_leaves_nothing_behind(small_train, nowhere, monkeypatch):
    small_train[datasets._IDX_FILES[0]] = small_train[datasets._IDX_FILES[0]][:-1] + b"!"
    write_idx(nowhere / "mirror", small_train, ".gz")
    monkeypatch.setattr(datasets, "_MIRRORS", ((nowhere / "mirror").as_uri() + "/",))
    with pytest.raises(FileNotFoundError, match="SHA-256 differs"):
        datasets.mnist("train")
    assert not list((nowhere / "cache" / "stepfit").iterdir())


def test_without_a_network_the_message_says_what_to_put_where(nowhere):
    with pytest.raises(FileNotFoundError) as error:
        datasets.mnist("train")
    said = str(error.value)
    assert "train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz" in said
    assert str(nowhere / "cache" / "stepfit") in said
    assert "STEPFIT_DATA" in said
    assert "\n" not in said


def test_a_damaged_file_is_named(small_train, nowhere, monkeypatch):
    write_idx(nowhere / "mine", small_train, ".gz")
    path = nowhere / "mine" / f"{datasets._IDX_FILES[0]}.gz"
    path.write_bytes(path.read_bytes()[:-20])
    monkeypatch.setenv("STEPFIT_DATA", str(nowhere / "mine"))
    with pytest.raises(ValueError, match=r"images-idx3-ubyte.gz is not a whole .gz file .*remove it"):
        datasets.mnist("train")


@pytest.mark.parametrize("make", [datasets.toy_data, datasets.two_moons, datasets.two_circles])
def test_toy_data_has_the_shapes_of_the_course(make):
    split = make()
    assert [tuple(part.shape) for part in split] == [(600, 2), (400, 2), (600, 1), (400, 1)]
    assert [part.dtype for part in split] == [torch.float64] * 2 + [torch.int64] * 2
    assert torch.cat([split.y_train, split.y_test]).sum() == 500
    # Shuffled: neither part has its classes one after the other or by turns.
    turns = (split.y_train[1:] != split.y_train[:-1]).double().mean()
    assert 0.4 < turns < 0.6
    assert bits(make(0)) == bits(split) != bits(make(1))


def test_toy_data_keeps_its_bits():
    """The numbers in the lesson come from these bits; a change here changes them all."""
    made = [bits(make()) for make in (datasets.toy_data, datasets.two_moons, datasets.two_circles)]
    assert made == [
        "9b868a9527a3bcb5a1700f51175411d58519be2e89749a7ad58ba065ed94053b",
        "755c8e1d295b0447e3984915d13df5f02485a20471b7aa716cd581d0756f9e46",
        "f80a91cc5b16fdf430f2eb7e9dbfc2d1ea281caa1f54f0a3f8ef7fdedfe05832",
    ]
    x, labels = datasets.blobs()
    assert bits((x, labels)) == "96c0f59c9006e7e503b70583b249a79adc756cf087b5e6912ebbcbf1f1911e57"


def test_a_circle_has_the_radius_it_says():
    split = datasets.two_circles()
    x, y = torch.cat([split.x_train, split.x_test]), torch.cat([split.y_train, split.y_test])[:, 0]
    assert x[y == 0].norm(dim=1).mean() == pytest.approx(1.0, abs=0.02)
    assert x[y == 1].norm(dim=1).mean() == pytest.approx(0.45, abs=0.02)


def test_two_moons_teach_what_the_lesson_says():
    """The threshold matters, and there is a learning rate above which linear regression diverges."""
    x_train, x_test, y_train, y_test = datasets.two_moons()
    last = record(linear_regression(x_train, y_train, lr=0.1, max_steps=100, test=(x_test, y_test))).last
    output = x_test @ last.params["weight"].T.double() + last.params["bias"].double()
    at_half, at_zero = (((output > threshold) == y_test).double().mean() for threshold in (0.5, 0))
    assert at_half == pytest.approx(0.88, abs=0.02)
    assert at_zero < at_half - 0.2
    assert last.lr_limit == pytest.approx(0.6, abs=0.1)


def test_blobs_lie_around_their_middles():
    x, labels = datasets.blobs(n=4000, d=3, k=4, spread=0.5, seed=3)
    assert (x.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert labels.bincount().tolist() == [1000] * 4
    for cluster in range(4):
        assert x[labels == cluster].std(dim=0).numpy() == pytest.approx([0.5] * 3, abs=0.05)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"n": 0}, "n is 0"), ({"d": 0}, "d is 0"), ({"k": -1}, "k is -1"), ({"spread": -1.0}, "spread is -1.0")],
)
def test_blobs_refuses(wrong, message):
    with pytest.raises(ValueError, match=message):
        datasets.blobs(**wrong)


def test_the_courses_files_are_written_and_read(tmp_path):
    folder = tmp_path / "not" / "yet"
    datasets.write_toy_data(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "toy_data.npz",
        "toy_data_two_circles.npz",
        "toy_data_two_moon.npz",
    ]
    with np.load(folder / "toy_data_two_moon.npz") as file:
        assert file.files == ["arr_0", "arr_1", "arr_2", "arr_3"]
        assert [file[name].shape for name in file.files] == [(600, 2), (400, 2), (600, 1), (400, 1)]
    assert bits(datasets.load_split(folder / "toy_data_two_moon.npz")) == bits(datasets.two_moons())


def test_answers_of_one_axis_and_other_dtypes_are_taken(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, np.ones((3, 2), "float32"), np.ones((2, 2), "uint8"), np.array([0.0, 1.0, 1.0]), [True, False])
    split = datasets.load_split(path)
    assert [part.dtype for part in split] == [torch.float64] * 2 + [torch.int64] * 2
    assert split.y_train.tolist() == [[0], [1], [1]]
    assert split.y_test.tolist() == [[1], [0]]


X, Y = np.zeros((3, 2)), np.array([0, 1, 1])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((X, X, Y), "holds arr_0, arr_1, arr_2; arr_0 .. arr_3 = x_train, x_test, y_train, y_test are needed"),
        ((X[:, 0], X, Y, Y), r"x_train is float64 of shape \(3,\)"),
        ((X, X.astype(str), Y, Y), r"x_test is <U32 of shape \(3, 2\)"),
        ((X, X, Y[:2], Y), r"x_train has 3 rows and y_train the shape \(2,\); \(3, 1\) is needed"),
        ((X, X[:, :1], Y, Y), "x_train has 2 columns and x_test 1"),
        ((X, X, Y, Y + 1), "x_test comes with 2 in y_test; the classes must be 0 and 1"),
        ((X, X + np.nan, Y, Y), "x_test has nan at row 0, column 0"),
        ((X[:0], X, Y[:0], Y), r"x_train is float64 of shape \(0, 2\)"),
    ],
)
def test_wrong_arrays_are_refused_by_name(tmp_path, arrays, message):
    np.savez(tmp_path / "data.npz", *arrays)
    with pytest.raises(ValueError, match=message):
        datasets.load_split(tmp_path / "data.npz")


def test_files_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(tmp_path / "whole.npz", X, X, Y, Y)
    np.save(tmp_path / "lone.npy", X)
    whole = (tmp_path / "whole.npz").read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], (tmp_path / "lone.npy").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"data.npz is not a whole .npz file of number arrays"):
            datasets.load_split(path)
    np.savez(path, X, X, Y, np.array([{}, 1, 2], dtype=object))
    with pytest.raises(ValueError, match=r"data.npz is not a whole .npz file of number arrays"):
        datasets.load_split(path)
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        datasets.load_split(tmp_path)
