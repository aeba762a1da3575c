"""animate(): a recording as a moving picture, GIF by pillow or MP4 by ffmpeg, one frame in memory at a time."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.typing import NDArray
from PIL import Image

from stepfit.files import whole_file
from stepfit.recording import Recording
from stepfit.viewers.figures import picture_of
from stepfit.viewers.picture import Picture

HOLD = 3.0  # seconds that the last frame stays
FPS = 10  # of a video; a frame that stays longer is repeated


def animate(run: Recording[Any], x: Any, path: str | os.PathLike[str], y: Any = None, *, loop: bool = False) -> Path:
    """Write a recording as a moving picture.

    k-means shows the two halves of a step apart, two frames a second; gradient descent ten frames a second. Of a long
    run at most 60 steps are shown, evenly chosen. The last frame stays for three seconds.

    Parameters
    ----------
    run : Recording
        From `record`.
    x, y : array-like
        As for `figure`.
    path : path
        A name that ends in .gif, or in .mp4 (which needs `pip install imageio-ffmpeg`).
    loop : bool, default False
        Begin again at the end. For a GIF only: a video loops when its player says so.

    Returns
    -------
    Path
        The file, written whole or not at all. The same run gives the same bytes.

    Raises
    ------
    TypeError, ValueError, ImportError
        What came, and what would be right.

    Examples
    --------
    >>> import stepfit, tempfile
    >>> x = [[0.0, 0.0], [0.0, 1.0], [5.0, 0.0], [5.0, 1.0]]
    >>> run = stepfit.record(stepfit.lloyd(x, 2, seed=0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(stepfit.animate(run, x, f"{folder}/k_means.gif").name)
    k_means.gif
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".gif", ".mp4"):
        raise ValueError(f"{path.name!r} does not say what to write; a moving picture ends in .gif or .mp4")
    if not isinstance(run, Recording):
        raise TypeError(f"a {type(run).__name__} cannot be animated; keep the run first: record(lloyd(...))")
    if suffix == ".mp4" and loop:
        raise ValueError("a video cannot say that it loops, its player does; use loop=True with .gif")
    picture = picture_of(run, x, y)
    with whole_file(path) as temporary:
        if suffix == ".gif":
            _write_gif(picture, temporary, loop)
        else:
            _write_mp4(picture, temporary)
    return path


class _Screen:
    """Draw frames of a picture, each (height, width, 3); papers, ticks and their numbers are drawn only once."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.figure = picture.figure
        self.canvas = cast(Any, FigureCanvasAgg(self.figure))  # its methods have no types
        self.renderer = self.canvas.get_renderer()
        framed = [axes for axes in self.figure.axes if axes.axison]
        papers = [self.figure.patch, *(axes.patch for axes in framed)]
        rulers = [ruler for axes in framed for ruler in (axes.xaxis, axes.yaxis)]
        self.figure.draw_without_rendering()  # finds out where the ticks are
        for artist in (*papers, *rulers):
            artist.draw(self.renderer)
        self.background = self.canvas.copy_from_bbox(self.figure.bbox)
        for paper in papers:
            paper.set_visible(False)
        for ruler in rulers:
            ruler.set_animated(True)  # figure.draw leaves these out

    def draw(self, position: int, stage: str) -> NDArray[np.uint8]:
        self.picture.show(position, stage)
        self.canvas.restore_region(self.background)
        self.figure.draw(self.renderer)
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()


def _write_gif(picture: Picture, path: Path, loop: bool) -> None:
    screen, frames = _Screen(picture), picture.frames()
    # One palette for all frames, from three of them: what does not move keeps its color, and takes no room in the file.
    palette, nearest = _palette(np.stack([screen.draw(*frames[i]) for i in (0, len(frames) // 2, -1)]))

    def images() -> Iterator[Image.Image]:
        for frame in frames:
            image = Image.fromarray(nearest[_cells(screen.draw(*frame))])
            image.putpalette(palette.tobytes())
            yield image

    times = [round(1000 * picture.seconds)] * (len(frames) - 1) + [round(1000 * HOLD)]
    every = images()
    endless: dict[str, Any] = {"loop": 0} if loop else {}
    next(every).save(path, save_all=True, append_images=every, duration=times, disposal=1, **endless)


def _palette(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Choose up to 255 colors (m, 3), and for each of 32 x 32 x 32 cells of colors the nearest of them.

    A cell stands for its most frequent color, so that plain areas keep theirs exactly: white stays white.
    """
    packed, counts = np.unique(pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32), return_counts=True)
    packed = packed[np.argsort(-counts, kind="stable")]
    colors = np.stack([packed >> 16, packed >> 8, packed], axis=1).astype(np.uint8)  # the most frequent first
    cells, first = np.unique(_cells(colors), return_index=True)
    chosen = np.sort(first)[:255]  # GIF has room for 256, pillow wants one for what is left as it was
    every = np.stack(np.unravel_index(np.arange(32**3), (32, 32, 32)), axis=1).astype(np.float32) * 8 + 4
    every[cells] = colors[first]
    palette = colors[chosen].astype(np.float32)
    distances = every @ (-2 * palette.T)  # squared distance less that of the cell, which is the same for all
    distances += (palette**2).sum(1)
    return colors[chosen], distances.argmin(1).astype(np.uint8)


def _cells(colors: NDArray[np.uint8]) -> NDArray[np.uint16]:
    red, green, blue = np.moveaxis(colors.astype(np.uint16) >> 3, -1, 0)
    cells: NDArray[np.uint16] = red << 10 | green << 5 | blue
    return cells


def _write_mp4(picture: Picture, path: Path) -> None:
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError as error:
        raise ImportError("an .mp4 needs imageio-ffmpeg: pip install imageio-ffmpeg; a .gif works without") from error
    screen, frames = _Screen(picture), picture.frames()
    width, height = (int(pixels) for pixels in picture.figure.bbox.size)
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(FPS), "-i", "-"]
    # yuv420p plays everywhere; one thread, so that the number of cores does not change the bytes.
    target = ["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-threads", "1", "-fflags", "+bitexact", path]
    command = [get_ffmpeg_exe(), "-loglevel", "error", *source, *target]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as ffmpeg:
        try:
            stream = cast(IO[bytes], ffmpeg.stdin)
            with suppress(BrokenPipeError):  # it has stopped, and says why
                for frame in frames:
                    pixels = screen.draw(*frame).tobytes()
                    for _ in range(round(FPS * (HOLD if frame is frames[-1] else picture.seconds))):
                        stream.write(pixels)
            _, words = ffmpeg.communicate()
        except BaseException:
            ffmpeg.kill()
            ffmpeg.wait()  # nothing writes any more when the unfinished file goes
            raise
    if ffmpeg.returncode:
        raise OSError(f"ffmpeg could not write {path.suffix}: {words.decode(errors='replace').strip()}")
