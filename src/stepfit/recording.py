"""record() and Recording: a sequence of steps that can be kept, scrubbed, saved, loaded and replayed."""

from __future__ import annotations

import json
import os
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
from stepfit.files import whole_file
from stepfit.descent.engine import DescentStep
from stepfit.descent.lbfgs import LbfgsStep
from stepfit.descent.proximal import ProximalStep
from stepfit.steps import Step, Stop

S = TypeVar("S", bound=Step)

_KINDS: dict[str, type[Step]] = {
    kind.__name__: kind for kind in (KMeansStep, MiniBatchStep, DescentStep, LbfgsStep, ProximalStep, ChoiceStep)
}


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
                bits = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor  # numpy has no bfloat16
                arrays[place["array"]] = bits.cpu().numpy()
                places[id(tensor)] = place
            return places[id(tensor)]

        plain = [_taken_apart(step, store) for step in self]
        head = {
            "kind": type(self.last).__name__,
            "settings": self.settings,
            "stop": self.stop.name,
            "steps": plain,
        }
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

                kind = _KINDS[head["kind"]]
                steps = [kind(**_put_together(plain, stored)) for plain in head["steps"]]
                stop = Stop[head["stop"]]
        except (KeyError, ValueError, TypeError, BadZipFile) as error:
            raise ValueError(f"{os.fspath(path)!r} is not a recording of stepfit: {error}") from error
        return Recording(steps, head["settings"], stop)


def record(steps: Iterable[S], *, every: int = 1) -> Recording[S]:
    """Run the steps to the end and keep them.

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
            if not kept or step.index % every == 0:
                kept.append(step)
            last = step
    except KeyboardInterrupt:
        if last is None:  # there is nothing to give back
            raise
        interrupted = True
    if last is None:
        raise ValueError("there are no steps to record: the iterator was already used up, or gives none")
    if interrupted or last.stop is None:  # cut by Ctrl-C, or by whoever passed only some of the steps on
        last = replace(last, stop=Stop.INTERRUPTED)
    assert last.stop is not None
    if kept[-1].index == last.index:
        kept.pop()
    kept.append(last)
    return Recording(kept, settings, last.stop)


def _taken_apart(step: Step, store: Callable[[Tensor], dict[str, str]]) -> dict[str, Any]:
    """Give a step as plain values, each tensor replaced by where it is stored."""

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            return store(value)
        if isinstance(value, Mapping):
            return {name: plain(item) for name, item in value.items()}
        if isinstance(value, Step):  # the best run of a ChoiceStep
            return {"kind": type(value).__name__} | _taken_apart(value, store)
        return value.name if isinstance(value, Stop) else value

    return {field.name: plain(getattr(step, field.name)) for field in fields(step)}


def _put_together(plain: Mapping[str, Any], stored: Callable[[Mapping[str, str]], Tensor]) -> dict[str, Any]:
    def whole(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        if "array" in value:
            return stored(value)
        if isinstance(value.get("kind"), str):  # a metric may have the name too, but is a number
            return _KINDS[value["kind"]](**_put_together({n: v for n, v in value.items() if n != "kind"}, stored))
        return {name: whole(item) for name, item in value.items()}

    step = {name: whole(value) for name, value in plain.items()}
    return step | {"events": tuple(step["events"]), "stop": Stop[step["stop"]] if step["stop"] else None}
