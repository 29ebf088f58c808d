"""The audit of a foreign method: what is refused, what is measured, and that the lens itself is neither blind nor biased."""

import dataclasses
import itertools
import pickle
import re
import runpy
import subprocess
import sys

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import nas_core.audit
from nas_core import __main__, methods, search
from nas_core.audit import BILEVEL, SINGLE, Audit, Run, audit, frameworks, setting
from nas_core.lab.recipes import RECIPES
from nas_core.methods import AuditError, check
from nas_core.pages import audit_report, style
from nas_core.patterns import Measures
from nas_core.relaxation import Dsnas, RandomReward, Sample, Snas, masked
from nas_core.space import NONE, OPERATIONS, darts, minimal, simplified
from tests import synthetic
from tests.conftest import ROOT

SHORT = {"epochs": 4, "images": 64}
NARROW = minimal().without("skip_connect", (2, 3))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -- the methods of the chapter, as they stand there -----------------------------------------------------------------------


HEAD = """
from dataclasses import dataclass, replace
import torch
import torch.nn.functional as F
from nas_core.relaxation import Sample
"""


def written() -> list[str]:
    """The cells of the chapter in which its methods stand."""
    cells = nbformat.read(ROOT / "book" / "07_your_method.ipynb", as_version=4).cells
    return [cell.source for cell in cells if "audit-methods" in cell.metadata.get("tags", [])]


@pytest.fixture(scope="module")
def chapter(tmp_path_factory):
    path = tmp_path_factory.mktemp("chapter") / "written.py"
    path.write_text(HEAD + "\n\n".join(written()), encoding="utf-8")
    return runpy.run_path(str(path))


def drawn(method, cell, seed):
    """α without a mask, what a search would draw from it, and a cost where there is one."""
    noise = torch.Generator().manual_seed(seed)
    alpha = torch.randn(1, len(cell.edges), len(OPERATIONS), dtype=torch.float64, generator=noise).requires_grad_()
    sample = method.sample(masked(alpha.detach(), cell), torch.Generator().manual_seed(seed + 1))
    cost = torch.randn(alpha.shape, dtype=torch.float64, generator=noise) * sample.active
    return alpha, sample, cost


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("cell", [minimal(), NARROW], ids=["all operations", "one missing"])
def test_gdas_has_autograds_straight_through_gradient(chapter, cell, progress):
    method = chapter["Gdas"]().at(progress)
    assert method.tau == pytest.approx(10 - 9.9 * progress)
    for seed in range(5):
        alpha, sample, cost = drawn(method, cell, seed)
        log_alpha = masked(alpha, cell)
        noise = torch.rand(alpha.shape, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
        soft = F.softmax((torch.log_softmax(log_alpha, -1) - torch.log(-torch.log(noise))) / method.tau, dim=-1)
        hard = F.one_hot(soft.argmax(-1), len(OPERATIONS))
        ((hard - soft.detach() + soft) * cost).sum().backward()
        assert torch.equal(sample.z, hard.double()) and torch.equal(sample.active, hard > 0)
        torch.testing.assert_close(method.alpha_gradient(log_alpha.detach(), sample, cost), alpha.grad)


@pytest.mark.parametrize("cell", [minimal(), NARROW], ids=["all operations", "one missing"])
@pytest.mark.parametrize("name, weight", [("FairDarts", 0.0), ("FairDartsZeroOne", 10.0)])
def test_fairdarts_has_autograds_gradient(chapter, cell, name, weight):
    method = chapter[name]()
    for seed in range(5):
        alpha, sample, cost = drawn(method, cell, seed)
        z, there = masked(alpha, cell).sigmoid(), torch.tensor(cell.mask())
        ((z * cost).sum() - weight * ((z - 0.5) ** 2)[:, there].mean()).backward()
        torch.testing.assert_close(method.alpha_gradient(masked(alpha.detach(), cell), sample, cost), alpha.grad)


def test_methods_of_the_chapter_pass_and_are_short(chapter):
    for name in ("Gdas", "FairDarts", "FairDartsZeroOne"):
        check(chapter[name](), NARROW)
    gdas, fair = (sum(len(source.splitlines()) for source in part) for part in (written()[:2], written()[2:]))
    assert gdas < 40 and fair < 40


def test_what_a_sigmoid_method_calls_its_probability_is_what_is_measured(chapter):
    method = chapter["FairDarts"]()
    (run,) = audit(method, NARROW, seeds=[0], levels=[SINGLE], **SHORT).runs[SINGLE]
    expected = masked(torch.from_numpy(run.arrays["log_alpha"]), NARROW).sigmoid().numpy()
    np.testing.assert_array_equal(run.arrays["probability"], expected)
    assert run.arrays["probability"].sum(-1).min() > 1.5, "independent sigmoids do not share a sum of 1"


def test_annealed_probability_is_that_of_its_epoch(chapter):
    class Cooling(chapter["Gdas"]):
        def probability(self, log_alpha):
            return torch.isfinite(log_alpha) * self.tau

    (run,) = audit(Cooling(), seeds=[0], levels=[SINGLE], **SHORT).runs[SINGLE]
    np.testing.assert_allclose(run.arrays["probability"][:, 0, 0, 0], [10, 6.7, 3.4, 0.1, 0.1])


# -- settings --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["tiny", "small"])
@pytest.mark.parametrize("level, recipe", [(SINGLE, "reference_snas"), (BILEVEL, "reference_darts_bilevel")])
def test_a_method_is_searched_as_the_recorded_frameworks_are(level, recipe, scale, monkeypatch):
    monkeypatch.setattr(nas_core.audit, "auto", lambda: "cifar10")
    own, recorded = setting(level, scale), RECIPES[recipe](scale)
    same = {name: getattr(recorded, name) for name in ("relaxation", "evaluation_images", "evaluation_every")}
    assert dataclasses.replace(own, **same) == recorded


def test_without_cifar10_small_takes_the_digits_that_stand_in_for_it(monkeypatch):
    monkeypatch.setattr(nas_core.audit, "auto", lambda: "digits")
    assert setting(SINGLE, "small").data == setting(SINGLE, "tiny").data


def test_a_foreign_copy_of_dsnas_runs_the_bits_of_dsnas():
    class Foreign:
        at = lambda self, progress: self
        sample = lambda self, log_alpha, generator: Dsnas().sample(log_alpha, generator)
        alpha_gradient = lambda self, *given: Dsnas().alpha_gradient(*given)

    (run,) = audit(Foreign(), seeds=[3], levels=[SINGLE], **SHORT).runs[SINGLE]
    expected = search.run(dataclasses.replace(setting(SINGLE, **SHORT), relaxation=Dsnas()), 3)
    np.testing.assert_array_equal(run.arrays["log_alpha"], expected["log_alpha"])
    np.testing.assert_array_equal(run.arrays["probability"], expected["probability"])


class Bare:
    """DSNAS by its two functions: nothing is annealed, so there is no ``at``."""

    sample = staticmethod(lambda log_alpha, generator: Dsnas().sample(log_alpha, generator))
    alpha_gradient = staticmethod(lambda *given: Dsnas().alpha_gradient(*given))


def test_two_functions_are_a_method():
    check(Bare(), NARROW)
    found = audit(Bare(), seeds=[3], levels=[SINGLE], **SHORT)
    expected = search.run(dataclasses.replace(setting(SINGLE, **SHORT), relaxation=Dsnas()), 3)
    np.testing.assert_array_equal(found.runs[SINGLE][0].arrays["log_alpha"], expected["log_alpha"])
    assert found.name == "Bare" and methods.with_at(Snas()) == Snas()


def test_a_method_without_at_travels_to_a_process_with_its_own_attributes():
    own = pickle.loads(pickle.dumps(methods.with_at(Bare())))
    assert own.at(0.5) is own and own.name == "Bare" and own.sample is not None
    with pytest.raises(AttributeError, match="baseline"):
        _ = own.baseline


@pytest.mark.parametrize("scale, seeds", [("tiny", [0, 1]), ("small", [0, 1, 2, 3, 4])])
def test_the_scale_chooses_the_seeds_where_none_are_named(scale, seeds):
    found = audit(Dsnas(), scale=scale, each=lambda run, tasks: [task.seed for task in tasks])
    assert found.runs == {SINGLE: seeds, BILEVEL: seeds}


def test_every_level_and_seed_is_run_under_its_own_name_whatever_the_mapping():
    found = audit(Dsnas(), seeds=[2, 0], each=lambda run, tasks: [run(task) for task in tasks], epochs=1, images=64)
    assert {level: [run.meta["seed"] for run in runs] for level, runs in found.runs.items()} == {
        "single": [2, 0],
        "bi": [2, 0],
    }
    assert {run.meta["config"]["level"] for run in found.runs["bi"]} == {"bi"} and found.name == "dsnas"


def test_minutes_keep_as_many_seeds_as_fit_and_say_so(monkeypatch):
    monkeypatch.setattr(nas_core.audit.search, "estimate", lambda config: 30.0)
    monkeypatch.setattr(nas_core.audit, "_run", lambda task: task.seed)
    said = []
    request = {
        "seeds": range(5),
        "each": lambda run, tasks: [nas_core.audit._run(task) for task in tasks],
        "say": said.append,
    }
    for minutes, workers, kept in ((2.0, 1, 2), (2.0, 2, 4), (0.1, 1, 1), (99.0, 1, 5)):
        assert len(audit(Dsnas(), minutes=minutes, workers=workers, **request).runs[SINGLE]) == kept
        assert f"{kept} of 5 seeds fit" in said[-1]


def test_frameworks_are_the_four_of_the_paper():
    found = frameworks(seeds=[0], levels=[SINGLE], epochs=1, images=32)
    assert [own.name for own in found] == ["DARTS", "SNAS", "DSNAS", "ProxylessNAS"]


# -- what is measured ------------------------------------------------------------------------------------------------------


def alive_runs(kept, cell=None):
    """Runs that end with these edges alive (a list of lists of bool), all alive before."""
    cell, runs = cell or minimal(), []
    for row in kept:
        p = np.full((3, 1, len(cell.edges), len(OPERATIONS)), 0.1)
        p[-1, 0, ~np.array(row), NONE] = 0.3
        runs.append(Run({"probability": p}, {}))
    return Measures(cell, runs)


def by_enumeration(measures):
    """The probability of so few intermediate edges, over every choice of as many edges in every run."""
    inner, counts = measures.intermediate, measures.alive[:, -1].sum(axis=1)
    choices = [[sum(inner[list(own)]) for own in itertools.combinations(range(len(inner)), m)] for m in counts]
    seen = measures.alive[:, -1][:, inner].sum()
    every = [sum(own) for own in itertools.product(*choices)]
    return np.mean([own <= seen for own in every])


@pytest.mark.parametrize("cell", [minimal(), simplified(), darts(3)], ids=lambda cell: cell.name)
def test_the_width_test_is_exact(cell):
    rng = np.random.default_rng(0)
    for _ in range(4):
        measures = alive_runs(rng.random((2, len(cell.edges))) < rng.random(), cell)
        assert measures.p_width == pytest.approx(by_enumeration(measures))


def test_runs_that_keep_all_or_nothing_say_nothing_about_width():
    assert alive_runs([[True] * 5, [False] * 5, [True] * 5]).p_width == 1
    assert not alive_runs([[False] * 5] * 9).wide
    flat = dataclasses.replace(simplified(), edges=simplified().edges[:2], name="flat")
    assert np.isnan(alive_runs([[True, False]], flat).p_width) and not alive_runs([[True, False]], flat).wide


def walk(lean, seed, cell=None):
    """α that walks at random, with ``lean`` on *none* of the intermediate edges: no search, only its record."""
    cell = cell or minimal()
    mask = np.array(cell.mask())
    logits = np.cumsum(np.random.default_rng(seed).normal(size=(12, *mask.shape)), axis=0)
    logits[:, [cell.edge_class(edge) == "intermediate" for edge in range(len(mask))], NONE] += lean
    p = np.exp(logits) * mask
    return p / p.sum(-1, keepdims=True)


def test_blind_walks_are_flagged_no_more_often_than_the_level_of_the_test():
    sets = [[walk(0, 5 * first + seed) for seed in range(5)] for first in range(200)]
    flagged = sum(Measures(minimal(), [Run({"probability": p[:, None]}, {}) for p in own]).wide for own in sets)
    assert flagged <= 20, "of 200 sets at the level 0.05, more than 20 come with a probability of one in a thousand"


def test_a_training_function_that_leans_against_intermediate_edges_is_flagged():
    biased = audit(lambda cell, seed: walk(20, seed, cell), seeds=range(10))
    assert biased.single.wide and biased.single.alive_share("intermediate") == 0
    assert not audit(lambda cell, seed: walk(0, seed, cell), seeds=range(10)).single.wide


@dataclasses.dataclass(frozen=True)
class AgainstDepth:
    """A deliberately biased relaxation: DSNAS that always pushes *none* up on the edge between the nodes."""

    def at(self, progress):
        return self

    def sample(self, log_alpha, generator):
        return Dsnas().sample(log_alpha, generator)

    def alpha_gradient(self, log_alpha, sample, cost):
        gradient = torch.full_like(cost, -1.0)
        gradient[..., NONE] = 1.0
        gradient[:, 4] *= -1
        return gradient


def test_a_biased_relaxation_is_flagged_by_a_search_and_random_reward_is_not():
    request = {"seeds": range(3), "levels": [SINGLE], "epochs": 4, "images": 64}
    biased, blind = audit(AgainstDepth(), **request), audit(RandomReward(), **request)
    assert biased.single.wide and biased.single.alive_share("input") == 1
    assert not blind.single.wide
    assert "is biased towards width" in " ".join(audit_report.findings(biased))
    assert "is biased towards width" not in " ".join(audit_report.findings(blind))


def test_drop_and_recovery_growth_and_failure():
    p = np.full((5, 1, 5, len(OPERATIONS)), 0.1)
    p[1:3, :, :, NONE] = 0.3  # all edges gone at epochs 1 and 2
    p[3:, :, 4, NONE] = 0.3  # the intermediate one for good
    own = Measures(minimal(), [Run({"probability": p}, {})])
    np.testing.assert_array_equal(own.dropped, [[1] * 5])
    np.testing.assert_array_equal(own.recovered, [[3, 3, 3, 3, np.nan]])
    assert own.lowest == 0 and own.last == pytest.approx(0.8) and own.grows.all() and not own.fails.any()
    assert own.recovered_share("input") == 1 and own.recovered_share("intermediate") == 0
    assert own.shapes[0, :2] == pytest.approx([2, 1])
    p[3:, :, 1:, NONE] = 0.3
    assert Measures(minimal(), [Run({"probability": p}, {})]).fails.all()


def test_growth_needs_a_recovery_and_a_start_at_random_is_no_drop():
    p = np.full((4, 1, 5, len(OPERATIONS)), 0.1)
    p[0, ..., NONE] = 0.3
    own = Measures(minimal(), [Run({"probability": p}, {})])
    assert np.isnan(own.dropped).all() and not own.grows.any() and own.lowest == 1
    p[1:, ..., NONE] = 0.3
    assert not Measures(minimal(), [Run({"probability": p}, {})]).grows.any()


def test_cost_maps_are_the_means_of_the_first_and_of_the_last_quarter():
    cost = np.arange(8.0)[:, None, None, None] * np.ones((8, 2, 5, len(OPERATIONS)))
    cost[0, 0, 0, 1] = np.nan  # not sampled in the first epoch
    cost[:, 1, 3, 5] = np.nan  # never, in one cell
    own = Measures(minimal(), [Run({"step_cost_mean": cost}, {})])
    early, late = own.cost_map(late=False)[0], own.cost_map(late=True)[0]
    assert (early[1, 1], early[0, 1], late[1, 1]) == (1.0, 1.5, 13.0)
    assert np.isnan(early[3, 5]) and np.isfinite(early).sum() == early.size - 1
    with pytest.raises(ValueError, match="no cost"):
        Measures(minimal(), [Run({}, {})]).cost_map(late=True)


# -- what is refused -------------------------------------------------------------------------------------------------------


def altered(**changes):
    """DSNAS with functions replaced."""
    return type("Altered", (Dsnas,), {"__doc__": ""} | changes)()


def foreign_draw(self, log_alpha, generator):
    return Dsnas().sample(log_alpha, torch.Generator().manual_seed(int(torch.randint(2**31, ()))))


BAD = {
    "a class": (Dsnas, "Dsnas is a class; give an object of it, such as Dsnas()"),
    "nothing": (object(), "object lacks sample, alpha_gradient; give"),
    "at of nothing": (altered(at=lambda self, progress: None), "at(0) returned None"),
    "no sample": (altered(sample=lambda self, *given: None), "sample returned NoneType; return a nas_core.relaxation.Sample"),
    "a shape": (
        altered(sample=lambda self, a, g: Sample(a[0], a[0] > 0)),
        "the shape (5, 8); for the minimal cell it must be a tensor of the shape (1, 5, 8)",
    ),
    "no mask": (altered(sample=lambda self, a, g: Sample(torch.ones_like(a), torch.ones_like(a) > 0)), "an operation that its edge lacks"),
    "active of numbers": (altered(sample=lambda self, a, g: Sample(a.softmax(-1), a.softmax(-1))), "mask of bool"),
    "not activated": (altered(sample=lambda self, a, g: Sample(a.softmax(-1), a > 99)), "does not activate it"),
    "a foreign generator": (altered(sample=foreign_draw), "from elsewhere than the generator"),
    "not finite": (altered(alpha_gradient=lambda self, a, s, c: a * c), "alpha_gradient is not finite"),
    "a gradient of nothing": (altered(alpha_gradient=lambda self, a, s, c: None), "has the type NoneType"),
    "an error of its own": (altered(alpha_gradient=lambda self, a, s, c: 1 / 0), "failed with ZeroDivisionError"),
    "a probability": (altered(probability=lambda self, a: -a.softmax(-1)), "probability is negative"),
    "a baseline": (altered(baseline=property(lambda self: "mean"), __init__=lambda self: None), "baseline is 'mean'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_method_is_refused_in_one_sentence_before_anything_runs(name, monkeypatch):
    monkeypatch.setattr(nas_core.audit.search, "run", lambda *given: pytest.fail("a search was begun"))
    method, words = BAD[name]
    with pytest.raises(AuditError) as error:
        audit(method, NARROW, epochs=1, images=32)
    assert words in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "given, words",
    [
        (None, "no array of numbers|of shape"),
        ({"p": 1}, "must return p_α as 'probability'"),
        (np.ones((3, 5)), r"of shape \(3, 5\)"),
        (np.ones((1, 5, 8)), "at least 2"),
        (np.ones((3, 5, 8)), "not 0 where an edge lacks"),
        (np.full((3, 5, 8), np.nan), "not finite"),
        (
            {"probability": walk(0, 0, NARROW), "cost": np.ones((5, 5, 8))},
            "5 records of the cost; give one an epoch, 11",
        ),
    ],
)
def test_a_bad_training_function_is_refused_in_one_sentence(given, words):
    with pytest.raises(AuditError) as error:
        audit(lambda cell, seed: given, NARROW)
    assert re.search(words, str(error.value)) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "request_, words",
    [
        ({"seeds": [0, 0]}, "distinct"),
        ({"seeds": []}, "distinct"),
        ({"cell": "minimal"}, "give a nas_core.space.Cell"),
        ({"scale": "paper"}, "tiny, small"),
        ({"levels": ["double"]}, "single, bi"),
        ({"levels": []}, "levels is empty"),
        ({"images": 1}, "image"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_an_impossible_request_is_one_sentence(request_, words):
    with pytest.raises(ValueError, match=words) as error:
        audit(Dsnas(), **request_)
    assert len(str(error.value).splitlines()) == 1


def test_a_level_that_was_not_run_says_which_was():
    with pytest.raises(AuditError, match="not run at level 'bi'; there is single"):
        _ = audit(lambda cell, seed: walk(0, seed), seeds=[0]).bilevel


# -- the report ------------------------------------------------------------------------------------------------------------


def made(name="mine", seeds=5, **dials):
    return Audit(name, minimal(), {SINGLE: synthetic.runs(seeds, **dials), BILEVEL: synthetic.runs(seeds, kept=1)})


def test_report_has_every_pattern_beside_the_frameworks_and_loads_nothing():
    own, others = made(), [made(name, kept=4, low=1) for name in ("DARTS", "SNAS", "DSNAS", "ProxylessNAS")]
    page, text = audit_report.page(own, others), audit_report.markdown(own, others)
    for name in ("mine", "DARTS", "SNAS", "DSNAS", "ProxylessNAS"):
        assert page.count(f"<td>{name}</td>") == 3 and text.count(f"\n| {name} |") == 3
    assert page.count("<img") == page.count("<figcaption>") == 5
    assert not re.search(r'(src|href)="(?!data:)', page) and not re.search(r"\bnan\b", page)
    for sentence in audit_report.findings(own):
        assert sentence in text
    assert "runs that fail" in text and "5 of 5" in text


@pytest.mark.parametrize(("kept", "tested"), [(5, False), (0, False), (3, True)])
def test_the_table_and_the_words_agree_whether_p2_can_be_tested(kept, tested):
    """Runs that keep every edge, or none, leave nothing to compare; five edges are all of the minimal cell's."""
    own = made(kept=kept)
    (row,) = audit_report.width_table([own]).rows
    words = next(sentence for sentence in audit_report.findings(own) if sentence.startswith("P2"))
    assert ("not tested" in words) is (not tested) is (row[5] == "not tested")
    assert (row[4] == audit_report.UNKNOWN) is (not tested)


def test_every_figure_of_a_report_says_what_it_shows_and_is_readable(recwarn):
    for own in audit_report.drawn(made(), [made("DARTS", kept=4)]):
        style.svg(own.figure)
        assert len(own.figure.get_label()) > 40
    assert not recwarn.list


def test_a_report_of_a_training_function_without_cost_has_no_map_and_names_its_source():
    own = audit(lambda cell, seed: walk(0, seed), seeds=range(2))
    assert "on data of its own" in audit_report.markdown(
        own
    ) and "P3, catastrophic failure: not tested" in audit_report.markdown(own)
    assert audit_report.page(own).count("<img") == 2


def test_frameworks_that_are_not_recorded_are_left_out(monkeypatch):
    there = {"reference_snas": SINGLE, "reference_darts_bilevel": BILEVEL}

    def recorded(parameters, recipes, say):
        say("read")
        return {level: synthetic.runs(2) for level, recipe in recipes.items() if recipe in there}

    monkeypatch.setattr(audit_report, "recorded", recorded)
    said = []
    found = {own.name: list(own.runs) for own in audit_report.beside("tiny", said.append)}
    assert found == {"DARTS": [BILEVEL], "SNAS": [SINGLE]}
    assert said == [f"{name}, read" for name in audit_report.RECORDED]
    assert {recipe for levels in audit_report.RECORDED.values() for recipe in levels.values()} <= set(RECIPES)


def test_a_report_says_which_frameworks_it_lacks_and_how_to_get_them():
    own, some = made(), [made("DARTS"), made("SNAS")]
    for text in (audit_report.markdown(own, some), audit_report.page(own, some)):
        assert "recorded runs at this scale: DSNAS, ProxylessNAS." in text and "NAS_RESULTS_ROOT" in text
    every = [made(name) for name in audit_report.RECORDED]
    assert "Not beside it" not in audit_report.page(own, every) and audit_report.absent(every) == ""


# -- the command -----------------------------------------------------------------------------------------------------------

MODULE = """
from tests.test_audit import walk

def train(cell, seed):
    return walk(0, seed, cell)

class Needy:
    def __init__(self, argument):
        pass
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "audited.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(audit_report, "beside", lambda scale, say: [made("DARTS", 2)])
    return tmp_path


@pytest.mark.parametrize("ending", [".html", ".md"])
def test_the_command_writes_a_report(module, ending, capsys):
    out = module / f"report{ending}"
    assert __main__.main(["audit", "audited:train", "--seeds", "0-2", "--workers", "1", "--out", str(out)]) == 0
    assert "DARTS" in out.read_text(encoding="utf-8") and "P2, width" in capsys.readouterr().out


def test_the_command_prints_its_report_without_out(module, capsys):
    assert __main__.main(["audit", "audited:train", "--seeds", "0,3", "--workers", "1"]) == 0
    assert "# train: an audit" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "no command was given"),
        (["search"], "no command 'search'"),
        (["audit"], "required: module:Class"),
        (["audit", "audited"], "write module:Class"),
        (["audit", "nowhere:Method"], "nowhere cannot be imported"),
        (["audit", "audited:Nothing"], "has no Nothing"),
        (["audit", "audited:Needy"], "cannot be made without arguments"),
        (["audit", "audited:MODULE_NAME"], "has no MODULE_NAME"),
        (["audit", "audited:train", "--scale", "paper"], "invalid choice"),
        (["audit", "audited:train", "--seeds", "many"], "not understood"),
        (["audit", "audited:train", "--minutes", "0"], "above 0"),
        (["audit", "audited:train", "--workers", "0"], "at least 1"),
        (["audit", "audited:train", "--out", "report.pdf"], ".html or .md"),
        (["audit", "audited:train", "--out", "no/such/folder/report.md"], "there is no folder"),
    ],
)
def test_bad_input_is_one_sentence(module, arguments, words, capsys):
    assert __main__.main(arguments) == 2
    shown = capsys.readouterr()
    assert words in shown.err and len(shown.err.strip().splitlines()) == 1 and not shown.out


def test_the_module_can_be_called_and_the_package_stays_light():
    assert nas_core.audit(lambda cell, seed: walk(0, seed), seeds=[0]).name == "<lambda>"
    assert methods.name_of(Snas()) == "snas"
    light = "import sys, nas_core; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", light], cwd=ROOT, check=False).returncode == 0
