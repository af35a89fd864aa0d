"""Enrolment lists: every form is read, leaks are found and replaced, and what was done is said."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from librispeech import enrolled_utterance, make_corpus
from refused import refused

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.bin import check_data, format_wav, prepare_libri2mix
from espnet_tse_gen.data.enrolment import lists
from espnet_tse_gen.data.enrolment.choice import EnrolmentChooser
from espnet_tse_gen.data.enrolment.lists import EnrolmentOptions, list_file, read_list
from espnet_tse_gen.data.enrolment.protocol import Protocol, protocol_table, read_protocol
from espnet_tse_gen.data.librimix.drawing import make_metadata, write_metadata
from espnet_tse_gen.data.librimix.layout import Mixture, MixtureTree, talkers_of
from espnet_tse_gen.utils.files import read_scp, write_scp


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated dev set of twelve mixtures of four speakers with three recordings each."""
    root = tmp_path_factory.mktemp("corpus")
    make_corpus(root / "speech", "dev-clean", dict.fromkeys(["21", "22", "23", "24"], 3), seconds=0.6)
    rows = make_metadata(root / "speech", {"dev-clean": None}, 12, min_seconds=0.1)
    write_metadata(root / "metadata" / "libri2mix_dev-clean.csv", rows)
    prepare(root, root / "random", "--metadata", str(root / "metadata"))
    return root


def prepare(corpus: Path, output: Path, *more: str) -> Path:
    command = ["--libri2mix", f"{corpus}/mix", "--librispeech", f"{corpus}/speech", "--sets", "dev"]
    prepare_libri2mix.main([*command, "--data_dir", f"{output}", "--enroll_dir", f"{output}/downloads", *more])
    return output / "dev"


def but_list(corpus: Path, leaks: int = 0, identical: int = 0, columns: int = 1) -> str:
    """A list in BUT's form: sources of other mixtures, of which some rows are the target utterance itself."""
    mixtures, lines = sorted(read_scp(corpus / "random" / "dev" / "wav.scp")), []
    for mixture in mixtures:
        for number, target in enumerate(mixture.split("_"), 1):
            places: dict[str, str] = {}
            for other in mixtures:
                for k, utterance in enumerate(other.split("_"), 1):
                    if utterance.split("-")[0] == target.split("-")[0]:
                        places.setdefault(utterance, f"s{k}/{other}")
            own = places.pop(target)
            if identical > 0:
                chosen, identical = [f"s{number}/{mixture}"], identical - 1
            elif leaks > 0 and own != f"s{number}/{mixture}":
                chosen, leaks = [own], leaks - 1
            else:
                chosen = [places[utterance] for utterance in sorted(places)][:columns]
            lines.append(f"{mixture} {target} {' '.join(chosen)}\n")
    assert identical == leaks == 0
    return "".join(lines)


def place(corpus: Path, output: Path, text: str) -> Path:
    """Put a list where a fetched one would be."""
    path = output / "downloads" / "but_dev_map_mixture2enrollment"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    # What it was at an earlier look, which it is held to.
    path.with_name(f"{path.name}.sha256").unlink(missing_ok=True)
    return path


def protocol_of(data: Path) -> Protocol:
    found = read_protocol(data)
    assert found is not None
    return found


def enrolments(data: Path) -> dict[tuple[str, int], str]:
    return {(key, n): path for n in (1, 2) for key, path in read_scp(data / f"enroll_spk{n}.scp").items()}


def test_the_published_list_is_followed(corpus: Path, tmp_path: Path) -> None:
    text = but_list(corpus)
    place(corpus, tmp_path, text)
    data = prepare(corpus, tmp_path, "--enroll_list", "but", "--download", "false")
    found = enrolments(data)
    tree = MixtureTree(corpus / "mix")
    for line in text.splitlines():
        mixture, target, entry = line.split()
        kind, other = entry.split("/")
        assert found[mixture, mixture.split("_").index(target) + 1] == str(tree.audio("dev", kind, other).absolute())
    protocol = protocol_of(data)
    assert (protocol.enroll_list, protocol.targets, protocol.target_rows, protocol.leaks) == ("but", "all", 24, 0)
    assert len(protocol.enroll_list_sha256) == 64
    # The same rows, whole.
    whole = enrolments(prepare(corpus, tmp_path, "--enroll_list", "full"))
    assert [enrolled_utterance(path) for path in found.values()] == [Path(whole[key]).stem for key in found]
    assert all(path.endswith(".flac") for path in whole.values())


@pytest.mark.parametrize("name", ["but", "full"])
def test_leaks_are_counted_and_replaced(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    place(corpus, tmp_path, but_list(corpus, leaks=3, identical=2))
    data = prepare(corpus, tmp_path, "--enroll_list", name)
    told = "In 5 of 24 rows the list enrols with the target utterance itself (2 with the identical file): 5 replaced."
    assert told in capsys.readouterr().out
    for (key, number), path in enrolments(data).items():
        target = key.split("_")[number - 1]
        assert enrolled_utterance(path) != target
        assert enrolled_utterance(path).split("-")[0] == target.split("-")[0]
        # The kind of recording is that of the list.
        assert ("/mix/" in path) == (name == "but")
    check_data.main([str(data)])
    first = enrolments(data)
    assert enrolments(prepare(corpus, tmp_path, "--enroll_list", name)) == first
    # As it is published, where that is wanted, and then it says so.
    data = prepare(corpus, tmp_path, "--enroll_list", name, "--enroll_list_raw", "true")
    assert sum(enrolled_utterance(path) == key.split("_")[n - 1] for (key, n), path in enrolments(data).items()) == 5
    format_wav.main([str(data), str(tmp_path / "dump")])
    protocol = protocol_of(tmp_path / "dump")
    assert protocol.enroll_list_raw and protocol.leaks == 5 and "kept as published" in protocol.describe()
    check_data.main([str(tmp_path / "dump")])


def test_speaker_one_only(corpus: Path, tmp_path: Path) -> None:
    data = prepare(corpus, tmp_path, "--enroll_list", "tselm")
    protocol = protocol_of(data)
    assert (protocol.targets, protocol.target_rows) == ("first", 12)
    assert protocol.describe().startswith("12 targets (speaker 1 only of 12 mixtures)")
    # The draw is that of "random", and validation still has both speakers.
    assert enrolments(data) == enrolments(corpus / "random" / "dev")
    # A list of speaker 1 only.
    lines = [f"{key}.wav {path}\n" for (key, n), path in enrolments(data).items() if n == 1]
    (tmp_path / "aux_s1.scp").write_text("".join(lines))
    given_list = ["--enroll_list", str(tmp_path / "aux_s1.scp")]
    missing = r"aux_s1\.scp: has no line for speaker 2 .*--targets first"
    refused(missing, prepare, corpus, tmp_path / "again", *given_list)
    again = prepare(corpus, tmp_path / "again", *given_list, "--targets", "first")
    assert read_scp(again / "enroll_spk1.scp") == read_scp(data / "enroll_spk1.scp")
    protocol = protocol_of(again)
    assert protocol.enroll_list == "aux_s1.scp" and protocol.missing_replaced == 0


def test_other_forms_of_lists(corpus: Path, tmp_path: Path) -> None:
    """PureSound's form with files relative to LibriSpeech, and names of utterances."""
    wanted = enrolments(corpus / "random" / "dev")
    forms = {
        "puresound.txt": lambda key, n, path: f"{key}_{n} {path.relative_to((corpus / 'speech').absolute())}",
        "{set}.txt": lambda key, n, path: f"{key} {key.split('_')[n - 1]} {path.stem}",
    }
    for name, form in forms.items():
        lines = [form(key, n, Path(path)) for (key, n), path in wanted.items()]
        (tmp_path / name.replace("{set}", "dev")).write_text("\n".join([*lines, "x_y 1 z", "", "other"]) + "\n")
        data = prepare(corpus, tmp_path / name[0], "--enroll_list", str(tmp_path / name))
        assert enrolments(data) == wanted


@pytest.mark.parametrize("name", ["but", "random"])
def test_several_enrolments_are_joined(corpus: Path, tmp_path: Path, name: str) -> None:
    place(corpus, tmp_path, but_list(corpus, columns=2))
    data = prepare(corpus, tmp_path, "--enroll_list", name, "--num_enrollments", "2", "--nj", "1")
    pieces = {one.stem: one for one in (corpus / "speech").rglob("*.flac")}
    for (key, number), path in enrolments(data).items():
        target = key.split("_")[number - 1]
        joined = Path(path).stem.rpartition("-")[0].split("+")
        assert len(set(joined)) == 2 and target not in joined
        assert {one.split("-")[0] for one in joined} == {target.split("-")[0]}
        if name == "random":
            whole = np.concatenate([read_audio(pieces[one])[0] for one in joined])
            np.testing.assert_array_equal(read_audio(path)[0], whole)
    format_wav.main([str(data), str(tmp_path / "dump")])
    check_data.main([str(tmp_path / "dump")])
    times = {path: Path(path).stat().st_mtime_ns for path in enrolments(data).values()}
    again = prepare(corpus, tmp_path, "--enroll_list", name, "--num_enrollments", "2")
    assert {path: Path(path).stat().st_mtime_ns for path in enrolments(again).values()} == times
    assert "2 recordings joined" in protocol_of(again).describe()
    more = ["--enroll_list", name, "--num_enrollments", "3"]
    if name == "but":
        refused(r"names 2 enrolment\(s\) .* --num_enrollments is 3", prepare, corpus, tmp_path, *more)
    else:  # each speaker has two others
        assert protocol_of(prepare(corpus, tmp_path, *more)).fewer_enrollments == 24


@settings(max_examples=30, deadline=None)
@given(
    utterances=st.dictionaries(st.sampled_from(["1", "2", "3", "4"]), st.integers(1, 4), min_size=2),
    number=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_draws_end_and_are_never_the_target(utterances: dict[str, int], number: int, seed: int) -> None:
    """Whatever the speakers have, one recording included, where drawing until it fits would never end."""
    pool = {one: [(f"{one}-7-{k:04d}", f"/{one}/{k}.flac") for k in range(count)] for one, count in utterances.items()}
    first, second, *_ = sorted(pool)
    mixtures = [
        Mixture(f"{one}_{two}", "dev", talkers_of(f"{one}_{two}", {}))
        for one, _ in pool[first]
        for two, _ in pool[second]
    ]
    options = EnrolmentOptions(num_enrollments=number, seed=seed)
    kept, enrolled, protocol = EnrolmentChooser(MixtureTree("nowhere"), mixtures, pool, options).choose()
    assert kept == ([] if 1 in (utterances[first], utterances[second]) else mixtures)
    assert protocol.left_out + protocol.mixtures == len(mixtures)
    for (name, n), recordings in enrolled.items():
        target = name.split("_")[n - 1]
        found = [one.utterance for one in recordings]
        assert target not in found and len(set(found)) == len(found)
        assert len(found) == min(number, utterances[target.split("-")[0]] - 1)
    again = EnrolmentChooser(MixtureTree("nowhere"), mixtures, pool, options).choose()
    assert again == (kept, enrolled, protocol)


def test_what_a_list_lacks_is_said_or_drawn(corpus: Path, tmp_path: Path) -> None:
    lines = but_list(corpus).splitlines(keepends=True)
    mixture, target, _ = lines[3].split()
    speaker = target.split("-")[0]
    stranger = f"{mixture} {target} s1/{speaker}-7-9999_99-1-0000\n"
    for line, message in (
        ("", rf"no line for speaker 2 of '{mixture}'"),
        (stranger, r"_99-1-0000\.wav is not there; .*--allow_missing true"),
    ):
        place(corpus, tmp_path, "".join([*lines[:3], line, *lines[4:]]))
        refused(message, prepare, corpus, tmp_path, "--enroll_list", "but")
        data = prepare(corpus, tmp_path, "--enroll_list", "but", "--allow_missing", "true")
        protocol = protocol_of(data)
        assert protocol.missing_replaced == 1
        assert "In 1 row the list's recording is not at hand" in protocol.describe()
        drawn = enrolments(data)[mixture, 2]
        assert "/mix/" in drawn and enrolled_utterance(drawn).split("-")[0] == speaker


def test_wrong_lists_are_refused(corpus: Path, tmp_path: Path) -> None:
    text = but_list(corpus)
    mixture, target, entry = text.splitlines()[0].split()
    first, *_ = lines = text.splitlines()
    stranger = next(line.split()[2] for line in lines if line.split()[1].split("-")[0] != target.split("-")[0])
    for wrong, message in (
        (text + first, rf"enrollment:25: speaker 1 of '{mixture}' occurs twice"),
        (text.replace(first, first.replace(entry, stranger)), rf"'{stranger}' is of speaker \d+, but"),
        (text.replace(first, mixture), "enrollment:1: names no enrolment"),
        ("<html>\nnot a list\n", "has no line 'MIXTURE TARGET RECORDING' for any of the set's 12 mixtures"),
    ):
        place(corpus, tmp_path, wrong)
        refused(message, prepare, corpus, tmp_path, "--enroll_list", "but")
    for options, message in (
        (["--enroll_list", "butt"], "unknown --enroll_list 'butt': did you mean 'but'"),
        (["--enroll_list", "lists/dev.txt"], "--enroll_list lists/dev.txt: no such file"),
        (["--enroll_list", str(tmp_path / "{set}.list")], r"dev\.list: no such file"),
        (["--num_enrollments", "0"], "--num_enrollments is 0"),
        (["--targets", "one"], "unknown --targets 'one'"),
        (["--enrol_list", "but"], "unknown option '--enrol_list': did you mean '--enroll_list'"),
    ):
        refused(message, prepare, corpus, tmp_path, *options)
    for more, message in (
        (["--download", "false"], "no such file; allow --download true"),
        (["--enroll_url", "http://127.0.0.1:9/{set}"], "cannot be fetched"),
    ):
        line = refused(message, prepare, corpus, tmp_path / "offline", "--enroll_list", "but", *more)
        assert "http" in line and f"{tmp_path}/offline/downloads/but_dev_map_mixture2enrollment" in line
        assert "--enroll_list random" in line
    place(corpus, tmp_path, text)
    for speech in ("", str(tmp_path)):
        message = "--enroll_list full: needs LibriSpeech's recordings of 'dev'"
        refused(message, prepare, corpus, tmp_path, "--enroll_list", "full", "--librispeech", speech)
    message = "is published for dev and test of two and three speakers, not for 'dev-own'"
    refused(message, list_file, EnrolmentOptions("full", enroll_dir=tmp_path), "dev-own")


def test_a_protocol_comes_back_as_written(tmp_path: Path) -> None:
    assert read_protocol(tmp_path) is None
    protocol = Protocol("lists.txt", "ab12", True, "first", 7, 7, 3, 1, 0, 2, 1, 2, 4, 5, "mix_both", "max", "8k")
    write_scp(tmp_path / "protocol", protocol_table(protocol))
    assert read_protocol(tmp_path) == protocol
    text = (tmp_path / "protocol").read_text()
    (tmp_path / "protocol").write_text(text.replace("mixtures 7", "mixtures seven"))
    refused("'mixtures' is 'seven'", read_protocol, tmp_path)


def test_a_list_is_fetched_once_and_only_a_list_is_kept(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fetch(url: str, path: Path) -> None:
        if not path.exists():
            asked.append(url)
            place(corpus, tmp_path, text)

    monkeypatch.setattr(lists, "fetch", fetch)
    get = ["--enroll_list", "but", "--enroll_url", "http://somewhere/{set}/list"]
    text = "<html>Please log in</html>"
    no_list = "http://somewhere/dev/list gave something that is no enrolment list; nothing was kept"
    refused(no_list, prepare, corpus, tmp_path, *get)
    assert not (tmp_path / "downloads" / "but_dev_map_mixture2enrollment").exists() and not (tmp_path / "dev").exists()
    text = but_list(corpus, leaks=1)
    for _ in range(2):
        assert protocol_of(prepare(corpus, tmp_path, *get)).leaks_replaced == 1
    assert asked == 2 * ["http://somewhere/dev/list"]


def test_three_speakers_have_a_list_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "but_test_map_mixture2enrollment_3spk"
    # A row of the form that the published list has.
    path.write_text("11-1-0000_22-1-0000_33-1-0000 22-1-0000 s3/44-1-0000_55-1-0000_22-1-0001\n")
    options = EnrolmentOptions("but", enroll_dir=tmp_path, download=False)
    assert list_file(options, "test", 3) == path
    found = read_list(path, {"11-1-0000_22-1-0000_33-1-0000": ["11-1-0000", "22-1-0000", "33-1-0000"]})
    assert found.rows == {("11-1-0000_22-1-0000_33-1-0000", 2): ("s3/44-1-0000_55-1-0000_22-1-0001",)}
