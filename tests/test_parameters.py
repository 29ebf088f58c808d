"""parameters.bind: what passes, what is refused and in which words, and how it behaves inside papermill."""

import nbformat
import papermill
import pytest
import torch

from nas_core.pages import parameters
from nas_core.pages.parameters import PARAMETERS, ParameterError, Parameters, bind


def test_defaults_without_any_parameter():
    assert bind({}) == Parameters("small", "auto", None, None, None, None, 8.0, None, "cpu")


def test_another_scale_takes_its_own_values_and_the_same_machine():
    own = Parameters("small", "cifar10", 5, (3,), 100, 0.2, minutes=1.0, workers=2, device="cuda")
    assert own.at("tiny") == Parameters("tiny", minutes=1.0, workers=2, device="cuda")


def test_table_and_dataclass_name_the_same_parameters_and_every_default_passes():
    assert [parameter.name for parameter in PARAMETERS] == list(Parameters.__dataclass_fields__)
    assert bind({name: getattr(Parameters(), name) for name in Parameters.__dataclass_fields__}) == Parameters()


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("epochs", 50, 50),
        ("epochs", "50", 50),
        ("epochs", 1e2, 100),
        ("epochs", "None", None),
        ("seeds", [3, 4], (3, 4)),
        ("seeds", (3,), (3,)),
        ("seeds", 7, (7,)),
        ("seeds", "7", (7,)),
        ("seeds", "[3,4]", (3, 4)),
        ("seeds", "3, 4", (3, 4)),
        ("seeds", "0-4", (0, 1, 2, 3, 4)),
        ("seeds", "[0-2, 7]", (0, 1, 2, 7)),
        ("seeds", None, None),
        ("images", 2, 2),
        ("label_noise", 0, 0.0),
        ("label_noise", "0.4", 0.4),
        ("minutes", "2.5", 2.5),
        ("minutes", None, None),
        ("workers", 1, 1),
        ("scale", "tiny", "tiny"),
        ("dataset", "some/folder", "some/folder"),
        ("device", "cuda:1", "cuda:1"),
    ],
)
def test_values_are_read(name, given, read):
    value = getattr(bind({name: given}), name)
    assert value == read and type(value) is type(read)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("epochs", 0),
        ("epochs", -3),
        ("epochs", 2.5),
        ("epochs", "fifty"),
        ("epochs", True),
        ("epochs", [50]),
        ("epochs", float("inf")),
        ("seeds", []),
        ("seeds", "[]"),
        ("seeds", [1, 1]),
        ("seeds", "0-3,2"),
        ("seeds", [-1]),
        ("seeds", -1),
        ("seeds", "4-0"),
        ("seeds", [1.5]),
        ("seeds", [True]),
        ("seeds", True),
        ("seeds", {"a": 1}),
        ("seeds", "0-99999999"),
        ("images", 1),
        ("images", "true"),
        ("label_noise", 1),
        ("label_noise", -0.1),
        ("label_noise", float("nan")),
        ("label_noise", [0.1]),
        ("minutes", 0),
        ("minutes", "soon"),
        ("workers", 0),
        ("scale", "large"),
        ("scale", 3),
        ("scale", None),
        ("dataset", None),
        ("dataset", "  "),
        ("dataset", ["cifar10"]),
        ("device", "gpu"),
        ("device", "cuda:x"),
    ],
)
def test_wrong_values_are_refused_in_one_sentence_that_names_what_is_allowed(name, given):
    with pytest.raises(ParameterError) as error:
        bind({name: given})
    (words,) = str(error.value).splitlines()
    meaning = next(parameter.meaning for parameter in PARAMETERS if parameter.name == name)
    assert words.startswith(f"{name} is ") and meaning in words


@pytest.mark.parametrize(
    ("name", "closest"),
    [("epoch", "epochs"), ("EPOCHS", "epochs"), ("seed", "seeds"), ("labelnoise", "label_noise"), ("imgs", "images")],
)
def test_misspelt_name_is_refused_with_the_closest_one(name, closest):
    with pytest.raises(ParameterError, match=f"unknown parameter '{name}' .*did you mean '{closest}'"):
        bind({"epochs": 3, name: 5})


@pytest.mark.parametrize("value", [1, 1.5, "text", True, [1], (1,), {"a": 1}, {1}, None])
def test_any_plain_value_of_an_unknown_name_is_refused(value):
    with pytest.raises(ParameterError, match="unknown parameter 'zzz'"):
        bind({"zzz": value})


def test_what_a_notebook_holds_besides_parameters_is_no_parameter():
    foreign = {
        "__name__": "__main__", "_": 3, "_i1": "text", "In": ["", "a"], "Out": {1: 2}, "exit": 1, "quit": 1,
        "open": open, "get_ipython": print, "parameters": parameters, "Path": type(parameters), "helper": lambda: 1,
        "PAPERMILL_INPUT_PATH": "a.ipynb",
    }  # fmt: skip
    assert bind(foreign | {"epochs": 2}).epochs == 2


def test_a_notebook_may_have_fewer_parameters():
    assert bind({"scale": "tiny"}, allowed=["scale"]) == Parameters(scale="tiny")
    with pytest.raises(ParameterError, match="unknown parameter 'epochs' .*this notebook takes scale$"):
        bind({"scale": "tiny", "epochs": 4}, allowed=["scale"])
    with pytest.raises(ParameterError, match="'colour'"):
        bind({}, allowed=["scale", "colour"])


def test_overrides_are_what_a_configuration_takes_and_only_what_is_set():
    assert bind({}).overrides() == {}
    given = {"epochs": 3, "images": 200, "label_noise": 0.0, "seeds": [1], "minutes": 3, "workers": 2}
    assert bind(given).overrides() == {"epochs": 3, "images": 200, "label_noise": 0.0}


def notebook(path):
    cells = [
        nbformat.v4.new_code_cell(
            'scale: str = "small"\nepochs: int = None  # None takes the value of the scale\nseeds: list = None',
            metadata={"tags": ["parameters"]},
        ),
        nbformat.v4.new_code_cell("from nas_core.pages import parameters\n\np = parameters.bind(globals())\nprint(p)"),
    ]
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return str(path)


def text_of(executed) -> str:
    return "".join(output.get("text", "") for output in executed.cells[-1].outputs)


def test_under_papermill_values_arrive_and_a_misspelt_one_ends_in_the_sentence(tmp_path):
    source, out = notebook(tmp_path / "in.ipynb"), str(tmp_path / "out.ipynb")
    run = papermill.execute_notebook(source, out, {"epochs": 5, "seeds": "[3,4]"}, progress_bar=False)
    assert text_of(run).startswith("Parameters(scale='small', dataset='auto', epochs=5, seeds=(3, 4), images=None")
    with pytest.raises(papermill.PapermillExecutionError) as error:
        papermill.execute_notebook(source, out, {"epochz": 5}, progress_bar=False)
    last = str(error.value).strip().splitlines()[-1]
    assert last.startswith("ParameterError: unknown parameter 'epochz' (given 5)") and last.endswith("mean 'epochs'?")
    assert error.value.traceback == [last], "the reader sees the sentence, not the stack"


def test_plain_execution_without_papermill(tmp_path):
    from nbclient import NotebookClient

    node = nbformat.read(notebook(tmp_path / "in.ipynb"), as_version=4)
    assert "epochs=None" in text_of(NotebookClient(node, timeout=120).execute())


def test_a_notebook_computes_on_one_thread():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        parameters.bind({"scale": "tiny"})
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
