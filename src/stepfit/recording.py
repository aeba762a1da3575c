"""record() and Recording: a sequence of steps that can be kept, scrubbed, saved, loaded and replayed."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, overload
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from stepfit.clustering.choose import ChoiceStep
from stepfit.clustering.lloyd import KMeansStep
from stepfit.clustering.mini_batch import MiniBatchStep
from stepfit.descent.engine import DescentStep
from stepfit.files import whole_file
from stepfit.steps import Step, Stop

S = TypeVar("S", bound=Step)

_STEPS: dict[str, type[Step]] = {step.__name__: step for step in (KMeansStep, MiniBatchStep, DescentStep, ChoiceStep)}
# What numpy, zip, JSON and the steps raise for a file that something else wrote, or a part of one.
_DAMAGED = (
    LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError, EOFError, BadZipFile, zlib.error,
)  # fmt: skip
_SAME_BITS = {1: torch.uint8, 2: torch.int16}  # by bytes: how types that numpy lacks, such as bfloat16, are kept


class Recording(Sequence[S], Generic[S]):
    """The steps of one run that were kept, in order: index it, loop over it, save it.

    Attributes
    ----------
    settings : dict
        What made the run, the seed among it.
    stop : Stop
        Why the run ended.
    """

    def __init__(self, steps: Iterable[S], settings: Mapping[str, Any], stop: Stop) -> None:
        self._steps = tuple(steps)
        self.settings = dict(settings)
        self.stop = stop

    @property
    def last(self) -> S:
        """The last step: the answer of the run."""
        return self._steps[-1]

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, i: int) -> S: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[S]: ...
    def __getitem__(self, i: int | slice) -> S | Sequence[S]:
        return self._steps[i]

    def __repr__(self) -> str:
        return f"<Recording of {len(self)} steps, loss {self[0].loss:.6g} to {self.last.loss:.6g}, {self.stop.name}>"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one .npz file, whole or not at all: arrays, and one JSON text; nothing in it is code.

        Parameters
        ----------
        path : path
            Where to; the suffix must be .npz.

        Returns
        -------
        Path
            The file written.

        Examples
        --------
        >>> import stepfit, tempfile
        >>> run = stepfit.record(stepfit.lloyd([[0.0], [1.0], [5.0]], 2, seed=0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = stepfit.Recording.load(run.save(f"{folder}/run.npz"))
        >>> again.last.centers.equal(run.last.centers), again.stop is run.stop
        (True, True)
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"a recording is saved as .npz; {path.name!r} is not")
        arrays: dict[str, Any] = {}
        places: dict[int, dict[str, str]] = {}  # the next centers of a step are the centers of the one after: kept once

        def store(tensor: Tensor) -> dict[str, str]:
            if id(tensor) not in places:
                place = {"array": f"{len(places)}", "dtype": str(tensor.dtype).removeprefix("torch.")}
                values = tensor.detach().cpu()
                try:
                    arrays[place["array"]] = values.numpy()
                except TypeError:
                    arrays[place["array"]] = values.view(_SAME_BITS[values.itemsize]).numpy()
                places[id(tensor)] = place
            return places[id(tensor)]

        head = {"settings": self.settings, "stop": self.stop.name, "steps": [_plain(step, store) for step in self]}
        arrays["head"] = np.array(json.dumps(head))
        with whole_file(path) as unfinished:
            np.savez_compressed(unfinished, **arrays)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recording[Any]:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            When the file is not a recording.
        """
        try:
            # Opened here, because numpy leaves a file that is not a zip open.
            with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                head = json.loads(str(file["head"]))
                tensors: dict[str, Tensor] = {}

                def stored(place: Mapping[str, str]) -> Tensor:
                    name = place["array"]
                    if name not in tensors:
                        tensors[name] = torch.from_numpy(file[name]).view(getattr(torch, place["dtype"]))
                    return tensors[name]

                steps = _restored(head["steps"], stored)
                if not steps or not all(isinstance(step, Step) for step in steps):
                    raise ValueError("it holds no steps")
                return Recording(steps, head["settings"], Stop[head["stop"]])
        except _DAMAGED as error:
            raise ValueError(f"{os.fspath(path)!r} is not a recording of stepfit: {error}") from error


def record(steps: Iterable[S], *, every: int = 1) -> Recording[S]:
    """Run the steps to the end and keep them.

    What an algorithm carries to its next step (`step.state`) is kept in the last step only, where it is None in the
    others: a run is resumed from `run.last`.

    Parameters
    ----------
    steps : iterable of Step
        Such as `lloyd(...)` or `descend(...)`.
    every : int, default 1
        Keep each step whose index is a multiple of this, and the first and the last.

    Returns
    -------
    Recording
        After Ctrl-C, what there is by then, with the last whole step and stop INTERRUPTED.

    Examples
    --------
    >>> import stepfit
    >>> run = stepfit.record(stepfit.lloyd([[0.0], [1.0], [5.0]], 2, start=[[0.0], [1.0]]))
    >>> len(run), run.last.inertia, run.stop.name
    (3, 0.5, 'CONVERGED')
    """
    if every < 1:
        raise ValueError(f"every is {every}; 1 keeps each step, 2 every other one")
    settings = getattr(steps, "settings", {})
    kept: list[S] = []
    last: S | None = None
    interrupted = False
    try:
        for step in steps:
            last = step
            if not kept or step.index % every == 0:
                kept[-1:] = map(_without_state, kept[-1:])
                kept.append(step)
    except KeyboardInterrupt:
        if last is None:  # there is nothing to give back
            raise
        interrupted = True
    if last is None:
        raise ValueError("there are no steps to record: the iterator was already used up, or gives none")
    if interrupted or last.stop is None:  # cut by Ctrl-C, or by whoever passed only some of the steps on
        last = replace(last, stop=Stop.INTERRUPTED)
    assert last.stop is not None
    earlier = [_without_state(step) for step in kept if step.index != last.index]
    return Recording([*earlier, last], settings, last.stop)


def _without_state(step: S) -> S:
    return replace(step, state=None) if step.state else step


def _plain(value: Any, store: Callable[[Tensor], dict[str, str]]) -> Any:
    """Turn a value into what JSON holds. Every dict of the result has one key, which says what it stands for."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        return {"tensor": store(value)}
    if isinstance(value, Step):  # a recording holds steps, and a ChoiceStep the best step of its runs
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        return {"step": [type(value).__name__, _plain(named, store)]}
    if isinstance(value, Stop):
        return {"stop": value.name}
    if isinstance(value, Mapping):  # pairs, since JSON turns every key into a string
        return {"dict": [[key, _plain(item, store)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        items = [_plain(item, store) for item in value]
        return {"tuple": items} if isinstance(value, tuple) else items
    raise TypeError(
        f"a step holds a {type(value).__name__}, which cannot be saved; tensors, numbers, strings, None, and lists, "
        "tuples and dicts of these can"
    )


def _restored(plain: Any, stored: Callable[[Mapping[str, str]], Tensor]) -> Any:
    """Turn what `_plain` made back into the value."""
    if isinstance(plain, list):
        return [_restored(item, stored) for item in plain]
    if not isinstance(plain, dict):
        return plain
    ((what, inside),) = plain.items()
    if what == "tensor":
        return stored(inside)
    if what == "step":
        name, named = inside
        return _STEPS[name](**_restored(named, stored))
    if what == "stop":
        return Stop[inside]
    if what == "dict":
        return {key: _restored(item, stored) for key, item in inside}
    if what == "tuple":
        return tuple(_restored(inside, stored))
    raise ValueError(f"it holds a {what!r}")
