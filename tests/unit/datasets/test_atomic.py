"""Catalog files are replaced whole, found again by their content, and previewed."""

import json

import pandas as pd
import plotly.graph_objects as go
import pytest
from kedro.io import DatasetError

from finscale.core.errors import FinscaleError, user_fault
from finscale.datasets.atomic import (
    DocumentsDataset,
    FiguresDataset,
    FolderDataset,
    JSONDataset,
    KeyedParquetDataset,
    ParquetDataset,
    PlotlyDataset,
    TablesDataset,
    TablesOnDemandDataset,
)
from finscale.datasets.results import COLUMNS, ResultsLog
from finscale.reporting.template import INK


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"a": [1.0, 2.0]}, index=pd.date_range("2020-01-01", periods=2, name="session"))


def keyed(folder):
    path = f"{folder}/features/{{data_hash}}/{{feature_set}}.parquet"
    return KeyedParquetDataset(filepath=path, pointer=str(folder / "features/mine.json"))


def test_a_keyed_table_lies_under_its_own_hash_and_is_found_again(tmp_path, frame):
    for data_hash in ("aaa", "bbb"):
        frame.attrs = {"data_hash": data_hash, "feature_set": "a25"}
        keyed(tmp_path).save(frame)
        assert (tmp_path / "features" / data_hash / "a25.parquet").exists()
    found = keyed(tmp_path).load()
    pd.testing.assert_frame_equal(found, frame, check_freq=False)
    assert found.attrs["data_hash"] == "bbb"


def test_a_pointer_out_of_its_folder_is_refused(tmp_path, frame):
    frame.attrs = {"data_hash": "aaa", "feature_set": "a25"}
    keyed(tmp_path).save(frame)
    (tmp_path / "features/mine.json").write_text(json.dumps({"path": "../../secret.parquet"}))
    with pytest.raises(DatasetError) as raised:
        keyed(tmp_path).load()
    assert "point into its own folder" in str(user_fault(raised.value))


@pytest.mark.parametrize("content", [b"", b"PAR1 half a file"])
def test_a_damaged_table_is_the_users_kind_of_error(tmp_path, content):
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(DatasetError) as raised:
        ParquetDataset(filepath=str(path)).load()
    assert "must be readable Parquet" in str(user_fault(raised.value))


def test_only_an_optional_file_may_be_missing(tmp_path):
    path = str(tmp_path / "a.json")
    assert JSONDataset(filepath=path, optional=True).load() is None
    with pytest.raises(DatasetError):
        JSONDataset(filepath=path).load()


def test_tables_are_known_by_their_cell(tmp_path, frame):
    for cell in ("5K_h1", "20M_h3"):
        ParquetDataset(filepath=str(tmp_path / cell / "runs.parquet")).save(frame)
    ParquetDataset(filepath=str(tmp_path / "other" / "5K_h1" / "runs.parquet")).save(frame)
    tables = TablesDataset(path=str(tmp_path), pattern="*_h*/runs.parquet").load()
    assert set(tables) == {"5K_h1", "20M_h3"}


def test_tables_on_demand_are_read_one_by_one(tmp_path, frame):
    ParquetDataset(filepath=str(tmp_path / "5K_h1" / "rows.parquet")).save(frame)
    (tmp_path / "20M_h3").mkdir()
    (tmp_path / "20M_h3" / "rows.parquet").write_bytes(b"not Parquet")
    tables = TablesOnDemandDataset(path=str(tmp_path), pattern="*_h*/rows.parquet").load()
    pd.testing.assert_frame_equal(tables["5K_h1"](), frame, check_freq=False)
    with pytest.raises(FinscaleError, match="must be readable Parquet"):
        tables["20M_h3"]()


def test_documents_are_known_by_their_whole_folder_and_there_may_be_none(tmp_path):
    documents = DocumentsDataset(path=str(tmp_path / "blocks"), pattern="*/section.json")
    assert documents.load() == {}
    assert not documents.exists()
    JSONDataset(filepath=str(tmp_path / "blocks/qwen_1.5b_pi/section.json")).save({"a": 1})
    JSONDataset(filepath=str(tmp_path / "blocks/ablation/pi/section.json")).save({"a": 2})
    assert documents.load() == {"qwen_1.5b_pi": {"a": 1}}
    with pytest.raises(DatasetError, match="one by one"):
        documents.save({})


def test_figures_are_plain_json_and_their_preview_is_legible_on_dark(tmp_path):
    figure = go.Figure(go.Scatter(x=pd.Series([1.0, 2.0]), y=[3, 4], line_color=INK))
    dataset = PlotlyDataset(filepath=str(tmp_path / "a.json"))
    dataset.save(figure)
    assert json.loads((tmp_path / "a.json").read_text())["data"][0]["x"] == [1.0, 2.0]
    assert dataset.load().data[0].line.color == INK
    assert INK not in json.dumps(dataset.preview())
    FiguresDataset(path=str(tmp_path / "all")).save({"one": figure})
    assert set(FiguresDataset(path=str(tmp_path / "all")).load()) == {"one"}


def test_a_folder_is_handed_over_and_never_saved(tmp_path):
    assert FolderDataset(filepath=str(tmp_path)).load() == tmp_path
    with pytest.raises(DatasetError, match="not saved as a whole"):
        FolderDataset(filepath=str(tmp_path)).save(tmp_path)


def test_the_results_log_appends_a_run_once(tmp_path):
    log = ResultsLog(filepath=str(tmp_path / "log.csv"))
    log.save(pd.DataFrame({"run_id": ["a", "b"], "seed": [1, 2], "surplus": [0, 0]}))
    log.save(pd.DataFrame({"run_id": ["b", "c"], "seed": [9, 3]}))
    found = log.load()
    assert found["run_id"].tolist() == ["a", "b", "c"]
    assert found["seed"].tolist() == [1, 2, 3]
    assert tuple(found.columns) == COLUMNS
