"""The public names: each one is there, says what it does, and no other is promised."""

import inspect

import pytest

import stepfit


def test_the_public_names_are_these():
    """A name more or less is a decision, so it is written down twice."""
    assert sorted(stepfit.__all__) == [
        "ChoiceStep", "DescentStep", "KMeans", "KMeansStep", "LinearRegression", "LogisticRegression",
        "MiniBatchKMeans", "Recording", "Step", "Stop", "__version__", "animate", "assign", "choose_k", "datasets",
        "descend", "explain", "figure", "linear_regression", "lloyd", "logistic_regression", "progress", "record",
        "show", "trace",
    ]  # fmt: skip
    assert dir(stepfit) == sorted(stepfit.__all__)


@pytest.mark.parametrize("name", sorted(set(stepfit.__all__) - {"__version__"}))
def test_a_public_name_is_documented(name):
    thing = getattr(stepfit, name)
    assert inspect.getdoc(thing)
    if inspect.isfunction(thing):
        assert ">>>" in inspect.getdoc(thing)
        assert "return" in thing.__annotations__


def test_a_public_name_comes_from_stepfit():
    for name in set(stepfit.__all__) - {"__version__", "datasets"}:
        assert getattr(stepfit, name).__module__.startswith("stepfit.")


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert stepfit.__version__ == version("stepfit")


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(AttributeError, match=r"has no attribute 'kmean'; it has .*lloyd"):
        stepfit.kmean  # noqa: B018
