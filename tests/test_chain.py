"""Audits: which stages in which order, paths of audit files, and commands that do the same as their stages."""

import json
import shlex
from pathlib import Path
from typing import Any

import fake_stages
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ue_audit import audit, chain, cli, configured, shards, standing
from ue_audit.audit import AuditSettings, Source
from ue_audit.config import Config, preset_names
from ue_audit.errors import UsageError
from ue_audit.settings import TrainPriorSettings
from ue_audit.spelling import command

FILE = """
name: pets
source: {clean: ../pictures, raw: /elsewhere/raw}
protections: [emn, {method: emn, name: strong, set: {eps: 16/255}}]
prior: {preset: tiny, set: {steps: 10}}
purifiers: [jcdp]
evaluation: {seeds: 2, set: {epochs: 3}}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for folder in ("data/train/cat", "raw", "audits"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "audits" / "pets.yaml").write_text(FILE)
    return tmp_path


def owned(**more: Any) -> AuditSettings:
    return AuditSettings(source=Source(clean=Path("data"), raw=Path("raw")), **more)


def test_the_default_audit_step_by_step() -> None:
    steps = chain.steps(owned(), Path("out"))
    assert [(step.stage, str(step.settings.place())) for step in steps] == [
        ("protect", "out/data.emn"),
        ("train-prior", "out/raw.prior.ckpt"),
        ("purify", "out/data.emn.jcdp"),
        ("purify", "out/data.emn.ddpm"),
        ("purify", "out/data.jcdp"),  # ceilings: the same on clean images
        ("purify", "out/data.ddpm"),
        ("evaluate", "out/data.eval"),
        ("report", "out/data.report"),
    ]
    folders: Any = steps[-2].settings
    assert [path.name for path in folders.folders] == [
        "data",
        "data.emn",
        "data.emn.jcdp",
        "data.emn.ddpm",
        "data.jcdp",
        "data.ddpm",
    ]


def purified(audit: AuditSettings) -> list[Any]:
    return [step.settings for step in chain.steps(audit, Path()) if step.stage == "purify"]


def test_several_seeds_of_a_purifier_are_outputs_of_their_own() -> None:
    """The ceiling is made once."""
    found = purified(owned(seed=5, purifiers=[{"method": "jcdp", "seeds": 3}, "ddpm"]))
    assert [(str(s.place()), s.seed) for s in found] == [
        ("data.emn.jcdp", 5),
        ("data.emn.jcdp.s1", 6),
        ("data.emn.jcdp.s2", 7),
        ("data.emn.ddpm", 5),
        ("data.jcdp", 5),
        ("data.ddpm", 5),
    ]


def test_seeds_are_for_purifiers() -> None:
    with pytest.raises(ValueError, match="seeds"):
        owned(protections=[{"method": "emn", "seeds": 2}])


def test_a_ceiling_is_purified_like_its_protected_set() -> None:
    """One for each budget (`tap` has that of `emn`), where the purifier asks for it; `ops` has none of linf: 8/255."""
    strong = {"method": "emn", "name": "strong", "set": {"eps": "16/255"}}
    asking = [{"method": "jcdp"}, {"method": "jcdp", "name": "at-36", "set": {"t_purify": 36}}]
    audit = owned(protections=["emn", strong, "tap", "ops"], purifiers=asking)
    ceilings = [(str(s.place()), str(s.like)) for s in purified(audit) if s.source == Path("data")]
    assert ceilings == [
        ("data.jcdp", "data.emn"),
        ("data.jcdp.eps16", "data.strong"),
        ("data.at-36", "data.emn"),
    ]
    assert not any(s.like for s in purified(audit) if s.source != Path("data"))


def test_paths_of_a_file_count_from_the_file(place: Path) -> None:
    asked, origins = audit.load("audits/pets.yaml", {"evaluation.seeds": 5, "device": "cpu"})
    assert asked.source.clean == Path("audits/../pictures")
    assert asked.source.raw == Path("/elsewhere/raw")
    assert (asked.evaluation.seeds, origins["evaluation.seeds"]) == (5, "flag")
    assert (asked.device, origins["device"], origins["limit"]) == ("cpu", "flag", "default")


def test_two_settings_of_one_method_have_two_places(place: Path) -> None:
    asked, _ = audit.load("audits/pets.yaml", {})
    protects = [step.settings for step in chain.steps(asked, Path()) if step.stage == "protect"]
    assert [(s.place().name, s.layers) for s in protects] == [  # type: ignore[union-attr]
        ("pictures.emn", {"file": {}}),
        ("pictures.strong", {"file": {"eps": "16/255"}}),
    ]


SEVERAL = """
source: {clean: data, raw: photos}
protections: [emn, {imported: theirs, method: tap, set: {eps: 16/255}}]
prior: {preset: tiny}
priors:
  other: {raw: elsewhere}
  tuned: {start: other, preset: tiny, set: {steps: 10}}
  given: {file: given.ckpt}
  unused: {raw: elsewhere}
purifiers:
  - jcdp
  - {method: jcdp, name: jcdp-tuned, prior: tuned}
  - {method: jcdp, name: jcdp-given, prior: given}
"""


def test_several_priors_in_one_audit(place: Path) -> None:
    """Those that are asked for are trained, each after the one it starts from; the report tells the purifiers apart."""
    (place / "audits" / "several.yaml").write_text(SEVERAL)
    asked, _ = audit.load("audits/several.yaml", {})
    steps = chain.steps(asked, Path("out"))
    trained = [step.settings for step in steps if isinstance(step.settings, TrainPriorSettings)]
    assert [(str(s.place()), str(s.raw), s.preset, str(s.start)) for s in trained] == [
        ("out/photos.prior.ckpt", "audits/photos", "tiny", "None"),
        ("out/elsewhere.other.prior.ckpt", "audits/elsewhere", "small", "None"),
        ("out/photos.tuned.prior.ckpt", "audits/photos", "tiny", "out/elsewhere.other.prior.ckpt"),
    ]
    found = [s for s in purified(asked) if s.source.name == "data.emn"]
    assert [(s.name, s.prior.name, s.place().name) for s in found] == [
        ("", "photos.prior.ckpt", "data.emn.jcdp"),
        ("jcdp-tuned", "photos.tuned.prior.ckpt", "data.emn.jcdp-tuned"),
        ("jcdp-given", "given.ckpt", "data.emn.jcdp-given"),
    ]
    assert found[2].prior == Path("audits/given.ckpt")


def test_a_set_protected_elsewhere_is_imported_and_purified_like_the_others(place: Path) -> None:
    (place / "audits" / "several.yaml").write_text(SEVERAL)
    asked, _ = audit.load("audits/several.yaml", {"limit": 8})
    step = chain.steps(asked, Path("out"))[1]
    assert command(*step) == (
        "ue-audit import --clean audits/data --method tap --limit 8 -o out/data.tap --set eps=16/255 audits/theirs"
    )
    ceilings = [s for s in purified(asked) if s.source.name == "data"]
    assert [(s.place().name, s.like.name) for s in ceilings[:2]] == [
        ("data.jcdp", "data.emn"),
        ("data.jcdp.eps16", "data.tap"),
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("purifiers: [{method: jcdp, prior: tunde}]\npriors: {tuned: {file: x}}", "did you mean 'tuned'"),
        ("protections: [{imported: x, ratio: 0.5}]", "taken as it is"),
        ("priors: {../up: {file: x}}", "priors"),
        ("budget: soon", "budget"),
    ],
)
def test_priors_and_imports_that_cannot_be(text: str, part: str, place: Path) -> None:
    (place / "bad.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        audit.load("bad.yaml", {})
    assert part in "\n".join([*caught.value.details, caught.value.message, caught.value.hint])


def test_a_prior_must_not_start_from_itself() -> None:
    priors = {"a": {"start": "b"}, "b": {"start": "a"}}
    with pytest.raises(UsageError, match="a from b from a"):
        chain.steps(owned(priors=priors, purifiers=[{"method": "jcdp", "prior": "a"}]), Path())


def test_a_prior_that_is_there_is_not_trained() -> None:
    steps = chain.steps(owned(prior={"file": "old.ckpt"}), Path())
    assert "train-prior" not in [step.stage for step in steps]
    assert {str(step.settings.prior) for step in steps if step.stage == "purify"} == {"old.ckpt"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("source: {clean: x}\nprotection: [emn]", "did you mean 'protections'"),
        ("source: {claen: x}", "did you mean 'clean'"),
        ("evaluation: {seeds: many}", "evaluation.seeds = 'many' (file)"),
        ("protections: []", "protections"),
        ("protections: [{method: emn, sett: {}}]", "did you mean 'set'"),
        ("name: ../up", "name"),
        ("device: abacus", "expected auto, cpu"),
        ("prior: {preset: small, file: [1]}", "prior.file"),
    ],
)
def test_strict_keys(text: str, part: str, place: Path) -> None:
    (place / "bad.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        audit.load("bad.yaml", {})
    assert part in "\n".join(caught.value.details)


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"source": Source(raw=Path("raw"))}, "no clean images"),
        ({"source": Source(clean=Path("data"))}, "neither raw images nor a prior"),
    ],
)
def test_folders_that_are_not_named(fields: dict[str, Any], part: str) -> None:
    with pytest.raises(UsageError, match=part):
        chain.steps(AuditSettings(**fields), Path())


def test_a_prior_is_trained_only_where_a_purifier_needs_one() -> None:
    """No raw images are asked for then, and nobody is handed a prior that it does not look at."""
    cheap = AuditSettings(source=Source(clean=Path("data")), purifiers=["jpeg", "grayscale", "median+jpeg"])
    assert {step.stage for step in chain.steps(cheap, Path())} == {"protect", "purify", "evaluate", "report"}
    grey = {"method": "grayscale", "prior": "tuned"}
    mixed = owned(purifiers=["jpeg", "median+jcdp", "avatar", grey], priors={"tuned": {"raw": "elsewhere"}})
    trained = [step.settings.place() for step in chain.steps(mixed, Path()) if step.stage == "train-prior"]
    assert trained == [Path("raw.prior.ckpt")]
    given = {s.place().name: s.prior and s.prior.name for s in purified(mixed) if s.source.name == "data.emn"}
    assert given == {
        "data.emn.jpeg": None,
        "data.emn.median+jcdp": "raw.prior.ckpt",
        "data.emn.avatar": "raw.prior.ckpt",
        "data.emn.grayscale": None,
    }


@pytest.mark.parametrize(
    ("purifiers", "who"),
    [
        (["jpeg", "median+jcdp"], "median+jcdp needs a prior"),
        (["ddpm", "jpeg", {"method": "jcdp", "name": "strong"}], "ddpm and strong need a prior"),
        (["jpeg", {"method": "jcdp", "prior": "tuned"}], "jcdp needs a prior, and .* nor a prior for 'tuned'"),
    ],
)
def test_who_needs_the_raw_images_is_named(purifiers: list[Any], who: str) -> None:
    asked = {"purifiers": purifiers, "priors": {"tuned": {"set": {"steps": 1}}}}
    with pytest.raises(UsageError, match=who.replace("+", r"\+")):
        chain.steps(AuditSettings(source=Source(clean=Path("data")), **asked), Path())


def test_a_dry_run_asks_for_raw_images_only_where_they_are_needed(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "standard", "data", "--dry-run"]
    assert cli.main([*words, "--set", "purifiers=[jpeg, grayscale]"]) == 0
    assert "train-prior" not in capsys.readouterr().out
    assert cli.main(words) == 2
    assert "jcdp and ddpm need a prior" in capsys.readouterr().err


def test_more_seeds_reach_the_evaluation(place: Path) -> None:
    (place / "more.yaml").write_text("source: {clean: data, raw: raw}\nevaluation: {seeds: 3, max_seeds: 5}")
    for flags, most in (({}, 5), ({"evaluation.max_seeds": "7"}, 7)):
        asked, _ = audit.load("more.yaml", flags)
        evaluation: Any = chain.steps(asked, Path())[-2]
        assert (evaluation.settings.seeds, evaluation.settings.max_seeds) == (3, most)
        assert f"--max-seeds {most}" in command(*evaluation)
    with pytest.raises(UsageError) as caught:
        audit.load("more.yaml", {"evaluation.max_seeds": 2})
    assert any("at least seeds" in text for text in caught.value.details)


def test_two_methods_of_one_name_are_refused(place: Path) -> None:
    (place / "twice.yaml").write_text("protections: [emn, emn]")
    with pytest.raises(UsageError, match="same name"):
        audit.load("twice.yaml", {})


@pytest.mark.parametrize(
    "text",
    [
        "protections: [emn, {method: emn_class, name: EMN}]",
        "purifiers: [jpeg, {method: median, name: Jpeg}]",
        "priors: {a: {file: a.ckpt}, A: {file: b.ckpt}}",
    ],
)
def test_names_that_differ_in_case_would_share_a_folder(text: str, place: Path) -> None:
    """Where the file system takes them for the same."""
    Path("x.yaml").write_text(text)
    with pytest.raises(UsageError, match="same name"):
        audit.load("x.yaml", {})


UNGRADED = ("demo-quick", "attackers", "paper-table4")


@pytest.mark.parametrize("name", preset_names("audits"))
def test_shipped_audits(name: str) -> None:
    """Every method and preset they name is there, with the settings they give it."""
    asked, _ = audit.load(name, {"source.clean": "data", "source.raw": "raw"})
    assert (asked.evaluation.seeds >= 3) == (name not in UNGRADED), "a grade needs three seeds"
    steps = chain.steps(asked, Path())
    assert [step.stage for step in steps][-1] == "report" and asked.name == name
    for step in steps:
        assert configured.resolved(step)


def test_quick_is_two_protections_three_countermeasures_three_seeds() -> None:
    asked, _ = audit.load("quick", {})
    assert (len(asked.protections), len(asked.purifiers), asked.evaluation.seeds) == (2, 3, 3)
    assert asked.ceilings and asked.evaluation.noise_control and asked.evaluation.set["epochs"] <= 10


# -- commands ----------------------------------------------------------------------------------------------


def merged(settings: Config) -> dict[str, Any]:
    """Settings with their layers merged: a file's value and a flag's do the same."""
    values = settings.model_dump()
    layers = values.pop("layers", {})
    return values | {
        "set": {key: value for layer in layers.values() for key, value in layer.items()},
        "output": settings.place(),
    }  # type: ignore[attr-defined]


def test_the_printed_command_does_the_same_as_the_step(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, _ = audit.load(
        "audits/pets.yaml", {"source.clean": "data", "source.raw": "raw", "limit": 8, "on_bad": "skip"}
    )
    calls = fake_stages.install(monkeypatch, report=fake_stages.report_json(place / "other"))
    for step in chain.steps(asked, Path("out dir")):
        assert cli.main(shlex.split(command(*step))[1:]) == 0, command(*step)
        stage, settings = calls[-1]
        assert stage == step.stage
        assert merged(settings) == merged(step.settings)


KEYS = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none())
WORDS = st.one_of(st.sampled_from(["8/255", "a b", "it's", "1", "no", "null", "1e-4", ""]), st.text(max_size=5))


@given(st.dictionaries(KEYS, st.one_of(NUMBERS, WORDS, st.lists(NUMBERS, max_size=3)), max_size=3))
def test_settings_survive_the_way_through_a_command(values: dict[str, Any]) -> None:
    from ue_audit.config import parse_set
    from ue_audit.settings import ProtectSettings

    line = command("protect", ProtectSettings(source=Path("data"), layers={"file": values}))
    words = shlex.split(line)
    assert parse_set(words[i + 1] for i, word in enumerate(words) if word == "--set") == values


def test_five_commands_for_an_own_folder() -> None:
    """With the usual prior and number of seeds: what shortens a demo is not for an owner's images."""
    assert chain.own_folder(owned(evaluation={"seeds": 1}, prior={"set": {"steps": 5}})) == [
        "ue-audit protect data",
        "ue-audit train-prior data/raw",
        "ue-audit purify --prior data.prior.ckpt data.emn",
        "ue-audit evaluate data data.emn data.emn.jcdp",
        "ue-audit report data.eval",
    ]


# -- running -----------------------------------------------------------------------------------------------


@pytest.fixture
def calls(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    return fake_stages.install(monkeypatch, report=fake_stages.report_json(place / "other"))


def test_run_and_run_again(calls: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "quick", "data", "--set", "source.raw=raw", "-o", "out"]
    assert cli.main([*words, "--dry-run", "--json"]) == 0
    states = [step["state"] for step in json.loads(capsys.readouterr().out)["steps"]]
    assert set(states) == {"to do"} and not Path("out").exists()
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert "[1/14] ue-audit protect" in err and "out/data.report" in out
    files = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    assert cli.main(words) == 0
    assert capsys.readouterr().err.count("is up to date") == 13  # the stand-in for the prior always writes anew
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == files
    assert cli.main([*words, "--dry-run", "--json"]) == 0
    assert {step["state"] for step in json.loads(capsys.readouterr().out)["steps"]} == {"complete"}


def test_an_audit_goes_on_after_a_stage_that_failed(
    calls: list[tuple[str, Any]], place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "quick", "data", "--set", "source.raw=raw", "-o", "out"]
    whole = chain.module

    def broken(name: str) -> Any:
        return fake_stages.Stage(name, calls, OSError(28, "No space left"), {}) if name == "evaluate" else whole(name)

    monkeypatch.setattr(chain, "module", broken)
    assert cli.main(words) == 5
    made = (place / "out" / "data.emn" / "ue-audit.json").read_bytes()
    monkeypatch.setattr(chain, "module", whole)
    capsys.readouterr()
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["sentence"]
    assert (place / "out" / "data.emn" / "ue-audit.json").read_bytes() == made


def test_a_preset_may_be_named_by_its_option(calls: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for words in (["quick", "data"], ["--preset", "quick", "data"]):
        assert cli.main(["run", *words, "--set", "source.raw=raw", "--dry-run", "--json"]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert cli.main(["run"]) == 2 and "--preset quick" in capsys.readouterr().err
    assert cli.main(["run", "--preset", "quick", "data", "raw"]) == 2


def test_without_a_folder_quick_takes_the_built_in_images_and_says_so(
    calls: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unpacked: list[Path] = []

    def unpack(folder: Path) -> Path:
        (folder / "raw").mkdir(parents=True)
        unpacked.append(folder)
        return folder

    monkeypatch.setattr("ue_audit.demo.unpack", unpack)
    assert cli.main(["run", "--preset", "quick"]) == 0
    assert unpacked == [Path("quick.audit/data")]
    assert "built-in images" in capsys.readouterr().err.splitlines()[0]
    assert next(s for stage, s in calls if stage == "protect").source == Path("quick.audit/data")
    assert cli.main(["run", "--preset", "standard"]) == 2, "only where the audit says so"


def test_what_is_missing_is_said_before_any_work(
    calls: list[tuple[str, Any]], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "gone.yaml").write_text("source: {clean: data, raw: gone}\nprotections: [emn, {imported: theirs}]")
    assert cli.main(["run", "gone.yaml"]) == 2
    err = capsys.readouterr().err
    assert "nothing at gone" in err and "nothing at theirs" in err and not calls


def test_the_evaluation_has_what_the_other_stages_leave_of_the_budget(
    calls: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 stages before it are said to have taken 100 s each."""
    made = standing.made
    monkeypatch.setattr(standing, "made", lambda step: (r := made(step)) and r.model_copy(update={"seconds": 100.0}))
    words = ["run", "quick", "data", "--set", "source.raw=raw", "-o", "out", "--budget", "1h"]
    assert cli.main(words) == 0
    assert [s.budget for stage, s in calls if stage == "evaluate"] == [3600.0 - 1200.0]
    assert cli.main([*words[:-1], "10 min"]) == 0
    assert [s.budget for stage, s in calls if stage == "evaluate"][1:] == [0.0]


def test_when_the_budget_is_spent_no_stage_before_the_trainings_begins(
    calls: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """100 s each: after 3 of them 250 s are spent; those that are there are passed over, with more time it goes on."""
    made = standing.made
    monkeypatch.setattr(standing, "made", lambda step: (r := made(step)) and r.model_copy(update={"seconds": 100.0}))
    words = ["run", "quick", "data", "--set", "source.raw=raw", "-o", "out", "--budget"]
    assert cli.main([*words, "250s"]) == 5
    assert "ended before the trainings, after 3 of 14 stages" in capsys.readouterr().err
    assert [stage for stage, _ in calls] == ["protect", "protect", "train-prior"]
    assert cli.main([*words, "250s"]) == 5
    assert cli.main([*words, "1h"]) == 0
    assert [s.budget for stage, s in calls if stage == "evaluate"] == [3600.0 - 1200.0]


def test_begun_is_told_from_complete(place: Path) -> None:
    step = chain.steps(owned(), Path("out"))[0]
    assert standing.state(step) == "to do"
    shards.Work.open(step.settings.place(), {"stage": "protect"})
    assert standing.state(step) == "begun"


def test_a_dry_run_misses_what_the_run_would_miss(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "quick", "data", "--set", "source.raw=elsewhere", "--dry-run"]) == 2
    assert "nothing at elsewhere" in capsys.readouterr().err
    for words in (["demo"], ["run", "quick"]):  # built-in images, which a dry run does not unpack
        assert cli.main([*words, "--dry-run"]) == 0


def test_an_audit_that_grew_has_begun(calls: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run says which stages have more to do."""
    words = ["run", "quick", "data", "--set", "source.raw=raw", "-o", "out"]
    assert cli.main(words) == 0
    capsys.readouterr()

    def todo(*more: str) -> dict[str, str]:
        assert cli.main([*words, *more, "--dry-run", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["steps"]
        return {step["command"].split()[1]: step["state"] for step in found if step["state"] != "complete"}

    assert todo() == {}
    again = {"evaluate": "begun", "report": "begun"}
    assert todo("--set", "evaluation.seeds=5") == again
    assert todo("--set", "purifiers=[jcdp,jpeg,grayscale,median]") == {"purify": "to do"} | again


def test_demo_unpacks_runs_and_prints_the_commands(
    calls: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unpacked: list[Path] = []

    def unpack(folder: Path) -> Path:
        for part in ("train/cat", "test/cat", "val/cat", "raw"):
            (folder / part).mkdir(parents=True)
        unpacked.append(folder)
        return folder

    monkeypatch.setattr("ue_audit.demo.unpack", unpack)
    assert cli.main(["demo", "--quick", "--seed", "3"]) == 0
    assert unpacked == [Path("ue-audit-demo/data")]
    assert {settings.seed for stage, settings in calls if stage != "report"} == {3}
    out = capsys.readouterr().out
    own = out[out.index("the same for your own") :].splitlines()[1:]
    assert [line.split()[1] for line in own] == ["protect", "train-prior", "purify", "evaluate", "report"]
    evaluate = next(settings for stage, settings in calls if stage == "evaluate")
    assert evaluate.seeds == 1
    assert str(evaluate.folders[0]) == "ue-audit-demo/data"


def test_a_protection_may_name_its_encoder_and_a_share(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "source: {clean: data, raw: raw}\nprotections: [emn, {method: uc, encoder: w.safetensors, ratio: 40%}]\n"
    )
    asked, _ = audit.load(str(tmp_path / "a.yaml"), {})
    first, second = (step.settings for step in chain.steps(asked, tmp_path)[:2])
    assert (first.encoder, first.ratio) == (None, 1.0)
    assert (second.encoder, second.ratio) == (tmp_path / "w.safetensors", 0.4)
    assert "--ratio 0.4" in command("protect", second) and f"--encoder {tmp_path / 'w.safetensors'}" in command(
        "protect", second
    )


def test_what_the_attacker_has_reaches_the_evaluation(tmp_path: Path) -> None:
    file = tmp_path / "audit.yaml"
    file.write_text(
        "source: {clean: data, raw: raw, own: mine}\n"
        "evaluation: {learners: [supervised, dilution], encoder: weights.safetensors, cross: true}\n"
    )
    asked, _ = audit.load(str(file), {})
    (evaluation,) = (step.settings for step in chain.steps(asked, Path("out")) if step.stage == "evaluate")
    assert (evaluation.own, evaluation.encoder) == (tmp_path / "mine", tmp_path / "weights.safetensors")
    assert evaluation.cross and "--learner dilution" in command("evaluate", evaluation)
