from dataclasses import dataclass

import pytest

from graphopt.errors import UsageError
from graphopt.rewriting import Pass, pipeline, registry


@dataclass(frozen=True)
class ForTheTextOfPipelines(Pass):
    """Does nothing, with options of every kind."""

    name = "for-the-text-of-pipelines"
    stage = "on-request"
    limit_bytes: int = 1 << 20
    ratio: float = 0.5
    careful: bool = True
    kept: tuple[str, ...] = ()


NAME = ForTheTextOfPipelines.name


@pytest.mark.parametrize(
    "text",
    [
        NAME,
        f"{NAME},{NAME}",
        f"({NAME},{NAME}{{careful=false}}),{NAME}",
        f"{NAME}{{limit-bytes=16,ratio=0.25,careful=false,kept=a+b}}",
    ],
)
def test_text_parses_back(text):
    assert str(pipeline.parse(text)) == text


def test_options_have_types_and_units():
    [group] = pipeline.parse(f"{NAME}{{limit-bytes=16M, ratio=1, kept=x}}").groups
    assert group.passes == (ForTheTextOfPipelines(16 << 20, 1.0, True, ("x",)),)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("target", ["onnx", "onnxruntime", "graphopt"])
def test_default_pipelines_parse_back(level, target):
    made = pipeline.default(level, target)
    assert pipeline.parse(str(made)) == made
    assert bool(made.groups) == (level > 0)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("no-such-pass", "there is no pass"),
        ("fuse-layer-nrom", "did you mean fuse-layer-norm"),
        (f"{NAME}{{speed=1}}", "has no option 'speed'"),
        (f"{NAME}{{limit-bytes=many}}", "is not of type int"),
        (f"{NAME}{{limit-bytes}}", "needs a value"),
        (f"({NAME}", "ends too early"),
        (f"{NAME},", "ends too early"),
        (f"{NAME} {NAME}", "is not expected"),
        (f"(({NAME}))", "is not expected"),
        (f"{NAME};b", "can't be read"),
    ],
)
def test_faulty_text_says_what_is_wrong(text, what):
    with pytest.raises(UsageError, match=what):
        pipeline.parse(text)


def test_skipping_leaves_the_pass_out_everywhere():
    text = f"({NAME},remove-dead-code),{NAME}"
    assert str(pipeline.parse(text).without([NAME])) == "remove-dead-code"
    with pytest.raises(UsageError):
        pipeline.parse(text).without(["no-such-pass"])


def test_two_passes_of_one_name_are_an_error():
    with pytest.raises(UsageError, match="two passes are called"):

        @dataclass(frozen=True)
        class Another(Pass):
            """Takes a name that is taken."""

            name = NAME


def test_a_builtin_name_is_taken_even_before_its_module_is_imported():
    with pytest.raises(UsageError, match="built-in|two passes"):

        @dataclass(frozen=True)
        class Mine(Pass):
            """Takes a built-in name."""

            name = "fuse-layer-norm"


def test_every_builtin_pass_is_documented_and_named_after_its_file():
    for cls in registry.builtin():
        assert cls.__module__.rpartition(".")[2].replace("_", "-") == cls.name
        assert cls.family == cls.__module__.split(".")[2], cls
        assert cls.summary().endswith("."), f"{cls.name}: the summary is a sentence"
        assert cls.stage in ("open", "simplify", "fuse", "attention", "target", "finish", "on-request")
        at_level_1 = cls.level == 1 and cls.stage != "on-request"
        assert not (at_level_1 and cls.bound), f"{cls.name} is not exact, so it can't be at level 1"
        for found in cls.rules:
            assert found.summary, f"{cls.name}/{found.name} has no line before -> after"


def test_pass_that_is_wanted_again_opens_and_ends_the_default_pipeline():
    groups = [str(group) for group in pipeline.default(1, "onnx").groups]
    places = [i for i, group in enumerate(groups) if group == "merge-initializers"]
    joint = [i for i, group in enumerate(groups) if group.startswith("(")]
    assert len(places) == 2 and places[0] < joint[0] and joint[-1] < places[1]
    assert groups.index("remove-unused-initializers") > places[1]
