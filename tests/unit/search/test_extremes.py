import pandas as pd
from search_toys import toy_grid

from finscale.search.extremes import corners, forced_rows


def a_row(arch_id: str, d_model: int, n_layers: int, n_heads: int, ratio: int = 4) -> dict:
    sizes = {"d_model": d_model, "n_layers": n_layers, "n_heads": n_heads, "d_ff": ratio * d_model}
    return {"arch_id": arch_id, **sizes}


def test_the_six_corners_of_a_real_grid_are_its_extremes() -> None:
    grid = toy_grid(20_000_000)
    rows = grid.set_index("arch_id")
    found = {corner.name: rows.loc[corner.arch_id] for corner in corners(grid)}
    assert found["smallest d_model"]["d_model"] == grid["d_model"].min()
    assert found["largest d_model"]["d_model"] == grid["d_model"].max()
    assert found["fewest layers"]["n_layers"] == grid["n_layers"].min()
    assert found["most layers"]["n_layers"] == grid["n_layers"].max()
    assert found["fewest heads"]["n_heads"] == grid["n_heads"].min()
    assert found["most heads"]["n_heads"] == grid["n_heads"].max()


def test_the_other_dimensions_of_a_corner_are_the_most_typical_on_offer() -> None:
    grid = pd.DataFrame(
        [
            a_row("a", 64, 4, 2),
            a_row("b", 64, 4, 8),
            a_row("c", 64, 4, 32),
            a_row("d", 128, 4, 8),
            a_row("e", 256, 4, 8),
        ]
    )
    assert corners(grid)[0].arch_id == "b"


def test_a_dimension_that_does_not_vary_has_no_corner() -> None:
    grid = pd.DataFrame([a_row("a", 64, 4, 2), a_row("b", 64, 4, 8)])
    assert [corner.exists for corner in corners(grid)] == [False] * 4 + [True] * 2
    assert forced_rows(grid) == ("a", "b")


def test_a_row_that_is_two_corners_is_forced_once() -> None:
    grid = pd.DataFrame([a_row("wide", 128, 2, 4), a_row("deep", 32, 16, 4)])
    assert forced_rows(grid) == ("deep", "wide")
    assert forced_rows(grid.iloc[:1]) == ()


def test_a_corner_has_the_most_frequent_options() -> None:
    plain = [a_row("z", 64, 4, 8), a_row("y", 128, 4, 8), a_row("x", 256, 4, 8)]
    table = pd.DataFrame([*plain, a_row("a", 64, 4, 8), a_row("b", 256, 4, 8)])
    options = table.assign(positions=[{"kind": "rope"}] * 3 + [{"kind": "alibi"}] * 2)
    assert forced_rows(options) == ("z", "x")
    assert forced_rows(table) == ("a", "b")
