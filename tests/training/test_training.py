"""Real trainings by ESPnet's trainer: what they write, what they compute, and that a kill at any moment costs nothing."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from refused import refused
from safetensors.torch import save_file
from training_runs import kill_when, results, start, succeed, tokenize, training

from espnet_tse_gen.inference.loading import open_model
from espnet_tse_gen.masked.build import load_model
from espnet_tse_gen.utils.checkpoints import read_checkpoint
from espnet_tse_gen.utils.files import read_scp, read_yaml

pytestmark = pytest.mark.slow


def equal(one: Path, other: Path) -> bool:
    first, second = read_checkpoint(one), read_checkpoint(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_statistics_list_the_length_of_every_mixture(corpus: Path) -> None:
    for name in ("train", "valid"):
        lengths = read_scp(corpus / "stats" / name / "speech_mix_shape")
        assert lengths.keys() == read_scp(corpus / name / "wav.scp").keys()
        # Cropped to half a second at 8 kHz.
        assert set(lengths.values()) == {"4000"}


def test_a_training_writes_what_decoding_and_the_reader_need(trained: tuple[Path, str]) -> None:
    output, log = trained
    figures = results(log)
    assert sorted(figures) == [1, 2, 3]
    assert float(figures[3]["train/loss"]) < float(figures[1]["train/loss"])
    names = {f"train/{kind}_codebook{n}" for kind in ("ce", "acc", "acc10") for n in (1, 2, 3, 4)}
    assert names | {"valid/enroll_gain", "valid/acc_all_hidden", "valid/acc"} <= figures[1].keys()
    assert list((output / "tensorboard" / "train").glob("events*"))
    assert not (output / "checkpoint.previous.pth").exists()
    model = load_model(output / "config.yaml", output / "valid.loss.ave_2best.pth")
    assert model.codec.fingerprint() == read_yaml(output / "codec" / "codec.yaml")["fingerprint"]
    # The average of the best is their mean, but for the fingerprint.
    average = read_checkpoint(output / "valid.loss.ave_2best.pth")
    kept = [read_checkpoint(path) for path in sorted(output.glob("?epoch.pth"))]
    assert len(kept) == 2
    for name, value in average.items():
        torch.testing.assert_close(value, (kept[0][name] + kept[1][name]) / 2)
    assert torch.equal(average["codec_fingerprint"], kept[0]["codec_fingerprint"])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_training_goes_on_with_the_same_losses_and_weights(
    corpus: Path, trained: tuple[Path, str], workers: int, tmp_path: Path
) -> None:
    options = ["--resume", "true", "--num_workers", str(workers)]
    straight, figures = trained[0], results(trained[1])
    if workers:
        # Workers draw from their own generator, so that these trainings differ from those without.
        straight = tmp_path / "straight"
        figures = results(succeed(training(corpus, straight, *options), tmp_path / "straight.log"))
    log, command = tmp_path / "killed.log", training(corpus, tmp_path / "killed", *options)
    kill_when(start(command, log), log, "2epoch:train:1-1batch")
    assert sorted(results(log.read_text())) == [1]
    kill_when(start(command, log), log, "3epoch:train:2-2batch")
    begun = log.read_text()
    again = begun + succeed(command, log)
    assert again.count("training was resumed") == 2
    assert results(again) == figures
    assert equal(tmp_path / "killed" / "3epoch.pth", straight / "3epoch.pth")
    assert equal(tmp_path / "killed" / "valid.loss.ave_2best.pth", straight / "valid.loss.ave_2best.pth")


def test_a_kill_while_the_checkpoint_is_written_goes_back_to_the_epoch_before(
    corpus: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    output, log = tmp_path / "killed", tmp_path / "killed.log"
    begun = succeed(training(corpus, output, "--max_epoch", "2"), log)
    # As the disk looks in the middle of writing epoch 3: the last checkpoint stepped aside, the new one is half there.
    shutil.move(output / "checkpoint.pth", output / "checkpoint.previous.pth")
    whole = (trained[0] / "checkpoint.pth").read_bytes()
    (output / "checkpoint.pth").write_bytes(whole[: len(whole) // 2])
    again = succeed(training(corpus, output, "--resume", "true"), log)
    assert results(begun + again) == results(trained[1])
    assert equal(output / "3epoch.pth", trained[0] / "3epoch.pth")
    assert not (output / "checkpoint.previous.pth").exists()


def test_gradients_of_two_batches_make_one_step(corpus: Path, trained: tuple[Path, str], tmp_path: Path) -> None:
    options = ["--accum_grad", "2", "--use_amp", "true", "--max_epoch", "1"]
    succeed(training(corpus, tmp_path / "exp", *options), tmp_path / "log")
    for folder, expected in ((tmp_path / "exp", 2.0), (trained[0], 15.0)):  # Five batches in an epoch.
        (optimizer,) = torch.load(folder / "checkpoint.pth", weights_only=False)["optimizers"]
        assert {float(entry["step"]) for entry in optimizer["state"].values()} == {expected}


def test_training_starts_from_given_weights_and_draws_its_images(
    corpus: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    given, same = trained[0] / "3epoch.pth", tmp_path / "given.safetensors"
    save_file(read_checkpoint(given), same)
    options = ["--init_param", str(same), "--max_epoch", "1", "--optim_conf", "lr=0.0", "--use_matplotlib", "true"]
    succeed(training(corpus, tmp_path / "exp", *options), tmp_path / "log")
    assert equal(tmp_path / "exp" / "1epoch.pth", given)
    assert (tmp_path / "exp" / "images" / "loss.png").stat().st_size > 1000


def test_initial_weights_of_a_model_by_its_name_its_folder_or_its_package(tmp_path: Path) -> None:
    from espnet_tse_gen.training.checks import load_initial

    with open_model("dual_path_16k") as shipped:
        model = shipped.load()
        archive = shutil.make_archive(str(tmp_path / "packed"), "zip", shipped.path.parent, shipped.path.name)
        wanted = {name: value.clone() for name, value in model.state_dict().items()}
        for where in ("dual_path_16k", str(shipped.path), archive):
            for parameter in model.parameters():
                torch.nn.init.zeros_(parameter)
            load_initial(where, model, False)
            assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())
        # A part of it, as ESPnet has it.
        torch.nn.init.zeros_(model.extractor.masks.weight)
        load_initial("dual_path_16k:extractor.masks:extractor.masks", model, False)
        assert torch.equal(model.extractor.masks.weight, wanted["extractor.masks.weight"])
    for where, message in (
        ("dual_pth_16k", "--init_param unknown model 'dual_pth_16k': did you mean 'dual_path_16k'"),
        ("acme/my_model@v1.0", r"--init_param acme/my_model@v1\.0: no such exp directory or zip file"),
        (f"{tmp_path}/nowhere.pth", "nowhere.pth: no such checkpoint"),
    ):
        refused(message, load_initial, where, model, False)


def test_weights_that_fit_in_part_leave_the_log_as_it_is(
    corpus: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    """What is left out is a warning, before ESPnet has set up its log: it must not set up another one that says nothing else."""
    given = read_checkpoint(trained[0] / "3epoch.pth")
    name = next(name for name, tensor in given.items() if tensor.ndim == 2)
    torch.save({**given, name: given[name][:, :-1]}, tmp_path / "part.pth")
    options = ["--init_param", f"{tmp_path}/part.pth", "--ignore_init_mismatch", "true", "--max_epoch", "1"]
    log = succeed(training(corpus, tmp_path / "exp", *options), tmp_path / "log")
    assert np.isfinite(float(results(log)[1]["train/loss"]))
    assert f"WARNING: Filter out {name} from pretrained dict" in log


def test_tokens_on_disk_train_like_tokens_on_the_fly(corpus: Path, trained: tuple[Path, str], tmp_path: Path) -> None:
    command = training(corpus, tmp_path / "exp", "--max_epoch", "1", codes=tokenize(corpus, tmp_path / "codes"))
    # A crop's first and last frame see beyond it on disk, and zeros on the fly: the same tokens but for a few.
    on_disk, on_the_fly = results(succeed(command, tmp_path / "log"))[1], results(trained[1])[1]
    assert on_disk.keys() == on_the_fly.keys()
    assert float(on_disk["train/loss"]) == pytest.approx(float(on_the_fly["train/loss"]), abs=0.05)
    assert float(on_disk["valid/loss"]) == pytest.approx(float(on_the_fly["valid/loss"]), abs=0.1)


def test_mixed_precision_trains(corpus: Path, trained: tuple[Path, str], tmp_path: Path) -> None:
    options = ["--model_conf", "precision=bfloat16"]
    log = succeed(training(corpus, tmp_path / "exp", "--max_epoch", "1", *options), tmp_path / "log")
    found, expected = (float(results(text)[1]["train/loss"]) for text in (log, trained[1]))
    assert found == pytest.approx(expected, abs=0.05)
