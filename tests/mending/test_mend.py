"""A search from end to end on tiny models: what it finds, what it keeps, what it refuses."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

import taia
from taia.errors import DataError, DestinationError, InputError, StoppedError
from taia.mending.journal import CHOICE, MEASURED, MEND_FILE
from taia.mending.measures import Meter
from taia.mending.split import Sealed
from taia.runtime.switchable import SwitchableModel


@pytest.fixture
def run(harmed, tmp_path):
    def made(**options):
        given = {
            "base": harmed.base,
            "tuned": harmed.tuned,
            "learn": harmed.learn,
            "keep": harmed.rows,
            "output": tmp_path / "out",
            "budget": "15s",
            **options,
        }
        return taia.mend(given.pop("base"), given.pop("tuned"), **given)

    return made


@pytest.fixture(scope="module")
def found(harmed, tmp_path_factory):
    output = tmp_path_factory.mktemp("found") / "out"
    done = taia.mend(
        harmed.base, harmed.tuned, learn=harmed.learn, keep=harmed.rows, output=output,
        budget="15s",
    )  # fmt: skip
    return done, json.loads((output / MEND_FILE).read_text())


def test_harm_is_found_on_rows(found):
    done, plain = found
    assert done.worse is True
    assert plain["worse"] is True
    (finding,) = plain["findings"]
    assert finding["verdict"] == -1
    assert finding["tuned"] > finding["base"]


def test_candidates_have_what_compose_takes(found):
    _, plain = found
    names = [row["name"] for row in plain["candidates"]]
    assert names[:2] == ["base", "tuned"]
    assert {"taia", "taif", "all - down_proj", "0.5 of all", "learned"} <= set(names)
    assert len(names) == len(set(names))
    for row in plain["candidates"]:
        assert str(taia.Selection.parse(row["selection"]))
    ends = {row["name"]: row for row in plain["candidates"]}
    assert ends["base"]["divergence"] == pytest.approx(0, abs=1e-6)
    assert ends["base"]["kept"]["value"] == pytest.approx(0, abs=1e-6)
    assert ends["tuned"]["kept"]["value"] == pytest.approx(1)
    assert ends["tuned"]["restored"]["value"] == pytest.approx(0)


def test_the_choice_is_within_and_less_far_than_tuned(found):
    done, plain = found
    assert done.choice is not None, plain["why"]
    assert plain["choice"]["selection"] == done.choice.selection
    report = done.report[done.choice.name]
    assert report.divergence < done.report["tuned"].divergence
    assert report.kept.value > 0.9
    assert report.restored.low > 0


def test_what_was_written_is_what_was_measured(found, harmed):
    """The choice on disk, loaded by itself, has the loss that the report says of the mode."""
    done, _ = found
    assert done.written == done.output / CHOICE
    alone = SwitchableModel.load(harmed.base, done.written)
    live = SwitchableModel.load(harmed.base, harmed.tuned)
    from tiny_examples import LEARN

    losses = []
    for model, mode in ((alone, "tuned"), (live, done.choice.selection)):
        with model.mode(mode):
            losses.append(Meter(model, LEARN, ()).loss().mean)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_same_command_measures_nothing_anew(found, run, monkeypatch):
    done, before = found
    measured = (done.output / MEASURED).read_bytes()
    monkeypatch.setattr(Meter, "loss", lambda _: pytest.fail("measured anew"))
    again = run(output=done.output)
    assert (done.output / MEASURED).read_bytes() == measured
    after = again.to_json()
    assert after["choice"] == before["choice"]
    assert after["report"] == before["report"]


@pytest.mark.parametrize("other", [{"seed": 1}, {"budget": "50s"}, {"dtype": "float32"}])
def test_other_settings_in_the_folder_are_refused(found, run, other):
    done, _ = found
    before = (done.output / MEND_FILE).read_bytes()
    with pytest.raises(DestinationError, match="another search"):
        run(output=done.output, **other)
    assert (done.output / MEND_FILE).read_bytes() == before


def test_what_is_reported_on_is_not_read_before_the_choice(run, monkeypatch):
    from taia.mending import flow

    order = []
    choose, opened = flow.choose, Sealed.open

    def chosen(*given):
        order.append("choice")
        return choose(*given)

    def reading(self):
        order.append("report")
        assert "choice" in order, "what is reported on was read before the choice"
        return opened(self)

    monkeypatch.setattr(flow, "choose", chosen)
    monkeypatch.setattr(Sealed, "open", reading)
    run()
    assert order == ["choice", "report", "report"]


def test_reading_them_earlier_raises(run, monkeypatch):
    """The control: a flow that looks at what is sealed before it has chosen."""
    from taia.mending.flow import Flow

    monkeypatch.setattr(Flow, "_select", lambda self, *_: self.keep.report.items)
    with pytest.raises(AssertionError, match="sealed"):
        run()


def test_prompts_alone_cannot_tell_harm_and_are_kept_all_the_same(run, harmed):
    done = run(keep=harmed.prompts)
    assert done.worse is None
    assert done.findings == ()
    assert done.choice is not None
    assert done.report[done.choice.name].restored.value > 0


def test_where_there_is_no_harm_tuned_is_recommended_and_nothing_searched(run, harmed):
    done = run(keep=harmed.learn)
    assert done.worse is False
    assert [row.candidate.name for row in done.rows] == ["base", "tuned"]
    plain = done.to_json()
    assert plain["choice"] is None
    assert "No harm was found" in plain["why"]
    assert not (done.output / CHOICE).exists()


def test_where_nothing_was_learnt_nothing_is_chosen(run, harmed):
    done = run(learn=harmed.rows, keep=harmed.prompts)
    assert done.choice is None
    assert "not clearly better" in done.to_json()["why"]


def test_a_whole_checkpoint_is_mended_too(run, harmed):
    done = run(tuned=harmed.whole)
    assert done.worse is True
    assert done.choice is not None, done.why
    assert (done.written / "model.safetensors").is_file()


@pytest.mark.parametrize("after", [1, 6, 14])
def test_stopping_keeps_what_is_known_and_the_same_command_goes_on(run, tmp_path, after):
    told = []

    def watch(work, done, total):
        if work.startswith(("Trying", "Comparing", "Learning", "Hashing")):
            told.append(work)
        if len(told) == after:
            told.append("stopped")
            raise KeyboardInterrupt

    with pytest.raises(StoppedError) as stopped:
        run(watch=watch)
    assert "same command again" in stopped.value.mend
    assert not (tmp_path / "out" / MEND_FILE).exists()
    known = (tmp_path / "out" / MEASURED).read_bytes() if after > 1 else b""
    done = run()
    assert (tmp_path / "out" / MEASURED).read_bytes().startswith(known)
    assert done.worse is True
    assert done.choice is not None


def test_too_few_rows_are_told_before_anything_is_loaded(run, tmp_path, monkeypatch):
    few = tmp_path / "few.jsonl"
    few.write_text('{"question": "Hi?", "answer": "Yes."}\n' * 40)
    monkeypatch.setattr(SwitchableModel, "load", lambda *_, **__: pytest.fail("loaded"))
    for side in ("learn", "keep"):
        with pytest.raises(DataError, match=f"--{side} has 1 different items"):
            run(**{side: few})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"budget": "soon"}, {"learn": []}, {"keep": "no_such_task"}, {"device": "cuda:99"},
        {"dtype": "int3"}, {"learn": "absent.jsonl"}, {"base": "absent/folder"},
    ],
)  # fmt: skip
def test_wrong_inputs_are_told_and_nothing_is_written(run, tmp_path, wrong):
    with pytest.raises(taia.TaiaError) as told:
        run(**wrong)
    assert isinstance(told.value, InputError | taia.DownloadError)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_an_input_is_refused(run, harmed):
    with pytest.raises(DestinationError):
        run(output=harmed.tuned)
    with pytest.raises(DestinationError):
        run(output=Path(harmed.base) / "inside")


def test_no_room_is_told_beforehand(run, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(taia.OutputError, match="free"):
        run()
    assert not (tmp_path / "out").exists()
