from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from espnet_tse_gen.serve.sessions import Sessions

STEPS = st.lists(st.tuples(st.integers(0, 2), st.none() | st.integers(0, 3)), max_size=20)


@given(steps=STEPS)
def test_a_file_lasts_as_long_as_a_page_that_uses_it(tmp_path_factory, steps: list[tuple[int, int | None]]) -> None:
    folder = tmp_path_factory.getbasetemp()
    paths = [folder / f"file {number}" for number in range(4)]
    for path in paths:
        path.write_text("")
    sessions, used, ever = Sessions(), {}, set()
    for page, file in steps:
        if file is None:
            sessions.close(str(page))
            used.pop(page, None)
        else:
            paths[file].write_text("")
            sessions.add(str(page), str(paths[file]))
            used.setdefault(page, set()).add(file)
            ever.add(file)
        wanted = set().union(*used.values()) | set(range(4)) - ever
        assert {number for number, path in enumerate(paths) if Path(path).exists()} == wanted
