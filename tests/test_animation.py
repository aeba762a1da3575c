"""GIF and MP4: the right frames for the right time, the same bytes each time, whole files or none, little memory."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from stepfit import animate, linear_regression, lloyd, logistic_regression, record
from stepfit.viewers.animation import _Screen
from stepfit.viewers.figures import picture_of
from stepfit.viewers.picture import Picture

X = np.random.default_rng(0).normal(size=(60, 2))
Y = (X @ [1, 2] > 0.3).astype(int)


def plane(max_steps=3):
    return record(lloyd(X, 3, seed=0, max_steps=max_steps)), X


def wall():
    x = np.random.default_rng(0).normal(size=(30, 9))
    return record(lloyd(x, 3, seed=0, max_steps=3)), x


def line(max_steps=5):
    return record(logistic_regression(X, Y, seed=0, max_steps=max_steps)), X, Y


def read(path):
    """Each frame of a GIF as (its pixels, its milliseconds)."""
    frames = []
    with Image.open(path) as image:
        for i in range(image.n_frames):
            image.seek(i)
            frames.append((np.asarray(image.convert("RGB")), image.info["duration"]))
    return frames


def test_kmeans_shows_the_start_and_both_halves_of_each_step_but_the_last_update(tmp_path):
    run, x = plane(max_steps=3)
    assert picture_of(run, x).frames() == [
        (0, "start"), (0, "assign"), (0, "update"), (1, "assign"), (1, "update"), (2, "assign"),
    ]  # fmt: skip
    frames = read(animate(run, x, tmp_path / "k.gif"))
    assert [milliseconds for _, milliseconds in frames] == [500] * 5 + [3000]
    assert frames[0][0].shape == (700, 1200, 3)
    for (before, _), (after, _) in pairwise(frames):
        assert (before != after).any()


def test_descent_shows_each_step_for_a_tenth_of_a_second(tmp_path):
    frames = read(animate(*line()[:2], tmp_path / "d.gif", Y))
    assert [milliseconds for _, milliseconds in frames] == [100] * 4 + [3000]
    for (before, _), (after, _) in pairwise(frames):
        assert (before != after).any()


def test_of_a_long_run_sixty_steps_are_shown_evenly_with_the_first_and_the_last():
    positions = [position for position, _ in picture_of(*line(max_steps=100)).frames()]
    assert (len(positions), positions[0], positions[-1]) == (60, 0, 99)
    assert set(np.diff(positions)) == {1, 2}


@pytest.mark.parametrize("case", [plane, wall, line])
def test_a_frame_is_the_whole_figure_of_its_step(case, tmp_path):
    """Drawing the unmoved parts once changes no pixel, and the palette of the GIF hardly any."""
    fast, plain = _Screen(picture_of(*case())), picture_of(*case())
    canvas = FigureCanvasAgg(plain.figure)
    run, x, *y = case()
    frames = read(animate(run, x, tmp_path / "k.gif", *y))
    for (position, stage), (shown, _) in zip(plain.frames(), frames):
        plain.show(position, stage)
        canvas.draw()
        expected = np.asarray(canvas.buffer_rgba())[..., :3]
        np.testing.assert_array_equal(fast.draw(position, stage), expected)
        apart = abs(shown.astype(int) - expected).max(-1)
        assert np.quantile(apart, 0.99) <= 8
        assert (shown[expected.min(-1) == 255] == 255).all()  # white stays white


@pytest.mark.parametrize("loop", [False, True])
def test_it_plays_once_or_for_ever(loop, tmp_path):
    with Image.open(animate(*plane(max_steps=2), tmp_path / "k.gif", loop=loop)) as image:
        assert image.info.get("loop") == (0 if loop else None)


def test_a_run_of_one_step_has_frames(tmp_path):
    assert len(read(animate(*plane(max_steps=1), tmp_path / "k.gif"))) == 2
    assert len(read(animate(*line(max_steps=1)[:2], tmp_path / "d.gif", Y))) == 1


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_the_same_run_gives_the_same_bytes(suffix, tmp_path):
    first = animate(*plane(max_steps=2), tmp_path / f"first{suffix}")
    second = animate(*plane(max_steps=2), tmp_path / f"second{suffix}")
    assert first.read_bytes() == second.read_bytes()


def test_a_video_shows_the_same_frames(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    run, x = plane(max_steps=2)
    video = animate(run, x, tmp_path / "k.MP4")
    decoded = subprocess.run(
        [ffmpeg, "-i", video, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True
    )
    assert b"yuv420p" in decoded.stderr
    assert b" 10 fps" in decoded.stderr
    shown = np.frombuffer(decoded.stdout, np.uint8).reshape(-1, 700, 1200, 3)
    assert len(shown) == 3 * 5 + 30
    screen = _Screen(picture_of(run, x))
    for frame, at in zip(picture_of(run, x).frames(), (2, 7, 12, 44)):
        assert abs(screen.draw(*frame).astype(int) - shown[at]).mean() < 3


@pytest.mark.parametrize("script", ["exit 3", "cat > /dev/null; echo no room >&2; exit 3"])
def test_what_ffmpeg_says_is_passed_on(script, tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(pytest.importorskip("imageio_ffmpeg"), "get_ffmpeg_exe", lambda: program)
    with pytest.raises(OSError, match=r"ffmpeg could not write .mp4: (no room)?$"):
        animate(*plane(max_steps=2), tmp_path / "k.mp4")
    assert list(tmp_path.iterdir()) == [program]


def test_a_video_without_ffmpeg_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match="needs imageio-ffmpeg: pip install imageio-ffmpeg;"):
        animate(*plane(max_steps=2), tmp_path / "k.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_a_file_is_written_whole_or_not_at_all(suffix, tmp_path, monkeypatch):
    path = tmp_path / f"k{suffix}"
    path.write_bytes(b"what was there")
    show = Picture.say

    def interrupted(self, step, *words):
        if step.index == 1:
            raise KeyboardInterrupt
        show(self, step, *words)

    monkeypatch.setattr(Picture, "say", interrupted)
    with pytest.raises(KeyboardInterrupt):
        animate(*plane(max_steps=3), path)
    assert path.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda run: animate(run, X, "k.avi"), ValueError, r"'k.avi' does not say .* ends in .gif or .mp4"),
        (lambda run: animate(run, X, "k"), ValueError, r"'k' does not say"),
        (lambda run: animate(run, X, "k.mp4", loop=True), ValueError, r"its player does; use loop=True with .gif"),
        (lambda run: animate(run[0], X, "k.gif"), TypeError, r"a KMeansStep cannot be animated; keep the run first"),
        (lambda run: animate(run, X[:9], "k.gif"), ValueError, r"x has shape \(9, 2\), but the run was made from"),
    ],
)
def test_what_cannot_be_animated_is_refused(call, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words):
        call(plane(max_steps=2)[0])
    assert not list(tmp_path.iterdir())


def test_a_run_that_diverged_can_be_animated(tmp_path):
    run = record(linear_regression(X, Y, lr=1e200))
    assert len(read(animate(run, X, tmp_path / "d.gif", Y))) == len(run)


def test_forty_frames_take_little_memory(tmp_path):
    program = """
import resource, sys, numpy, stepfit
from stepfit import datasets
images, digits = (part[:1000] for part in datasets.mnist())
run = stepfit.record(stepfit.lloyd(images, 10, seed=0, max_steps=20))
stepfit.animate(stepfit.record(stepfit.lloyd(images, 10, seed=0, max_steps=1)), images, sys.argv[1], digits)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
stepfit.animate(run, images, sys.argv[1], digits)
print(len(run), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "k.gif"], capture_output=True, text=True, check=True
    )
    steps, kilobytes = map(int, done.stdout.split())
    assert steps == 20
    assert kilobytes < 100_000
