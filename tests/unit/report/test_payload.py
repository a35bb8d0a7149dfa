"""The report's payload: every key for every run, numbers that are right and finite, and text that stays text."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ilk.analysis.metrics import accuracy, ari, nmi
from ilk.reports.payload import collect
from ilk.runs.papers import PAPERS
from ilk.runs.tables import read_table
from payload_checks import KEYS, check

Written = Callable[..., Path]

HOSTILE = [
    "<img src=x onerror=alert(1)>.jpg", "</script><script>alert(1)</script>.png", "quote ' and \" and \\.jpg",
    "two\nlines\r\tand a tab.jpg", "\u202eright to left \u05d0\u05d1.jpg", "null \x00 and bell \x07.jpg",
    "a surrogate \udcff.jpg", "l" * 251 + ".jpg", "line \u2028 separator \u2029.jpg", "=1+1", "{{data}} ${x} %s",
    "\U0001f33b flower.jpg", " ", "&lt;b&gt;", "//evil.example/x.png",
]  # fmt: skip


def score(payload: dict[str, Any], key: str) -> dict[str, Any]:
    return next(one for one in payload["scores"] if one["key"] == key)


def test_a_finished_run_with_labels_has_every_part(run_folder: Path) -> None:
    payload = collect(run_folder)
    check(payload)
    assert all(payload[name] is not None for name in KEYS if name)
    assert payload["run"]["finished"] and payload["run"]["n_images"] == payload["run"]["shown"] == 60
    assert payload["run"]["minutes"] == 3.0 and payload["run"]["epochs_done"] == payload["run"]["epochs"] == 6
    assert payload["run"]["n_bad"] == 1 and payload["bad_files"] == [{"id": "broken.jpg", "reason": "empty file"}]
    assert payload["images"]["row"] == list(range(60)) and payload["run"]["sample_note"] is None
    assert sum(one["size"] for one in payload["clusters"]) == 60
    assert payload["made"]["command"].startswith("ilk fit 'my photos' --clusters 3")
    assert payload["made"]["settings"]["learning_rate"] == 0.002 and payload["made"]["settings"]["views"] == "photo"
    assert payload["training"]["messages"] == [{"epoch": 3, "text": "clusters start"}]
    assert payload["training"]["terms"]["cluster"][:3] == [None, None, 1.0]


def test_the_scores_are_those_of_the_labelled_images(run_folder: Path) -> None:
    table = read_table(run_folder / "assignments.parquet")
    labels = np.array([-1 if text is None else int(text[-1]) for text in table["label"].to_pylist()])
    clusters, known = table["cluster"].to_numpy(), labels >= 0
    payload = collect(run_folder)
    assert known.sum() == 57
    for key, value in (("accuracy", accuracy), ("nmi", nmi), ("ari", ari)):
        assert score(payload, key)["value"] == pytest.approx(value(labels[known], clusters[known]), abs=1e-6)
        assert score(payload, key)["labels"]
    assert "57 labelled images" in score(payload, "accuracy")["meaning"]
    assert not score(payload, "silhouette")["labels"]
    assert score(payload, "mean_confidence")["value"] == pytest.approx(table["confidence"].to_numpy().mean(), abs=1e-6)
    assert score(payload, "uncertain")["value"] == pytest.approx(1 / 60, abs=1e-6)


def test_the_confusion_matrix_counts_every_labelled_image_once_and_matches_on_the_diagonal(run_folder: Path) -> None:
    payload = collect(run_folder)
    matrix = np.array(payload["confusion"]["matrix"])
    assert matrix.sum() == 57
    assert np.trace(matrix) / 57 == pytest.approx(score(payload, "accuracy")["value"], abs=1e-6)
    images = payload["images"]
    pairs = list(zip(images["cluster"], images["label"], strict=True))
    for i, cluster in enumerate(payload["confusion"]["clusters"]):
        for j, label in enumerate(payload["confusion"]["labels"]):
            assert matrix[i, j] == pairs.count((cluster, label))


def test_the_histogram_and_the_reliability_count_every_image(run_folder: Path) -> None:
    payload = collect(run_folder)
    found = payload["confidence"]
    assert sum(found["counts"]) == 60 and found["edges"][0] == 0 and found["edges"][-1] == 1
    reliability = found["reliability"]
    assert sum(reliability["count"]) == 57 and 0 not in reliability["count"]
    right = np.dot(reliability["accuracy"], reliability["count"]) / 57
    assert right == pytest.approx(score(payload, "accuracy")["value"], abs=1e-3)


def test_what_is_in_a_cluster_is_counted_by_label(run_folder: Path) -> None:
    payload = collect(run_folder)
    counts = [one["labels"] for one in payload["clusters"]]
    assert sum(label["count"] for labels in counts for label in labels) == 57
    assert all(labels[0]["count"] >= labels[-1]["count"] for labels in counts)
    assert all(0 <= label["code"] < len(payload["label_names"]) for labels in counts for label in labels)


def test_a_run_without_labels_uses_none(tmp_path: Path, written_run: Written) -> None:
    payload = collect(written_run(tmp_path / "run", labels=False))
    check(payload)
    assert payload["label_names"] is payload["images"]["label"] is payload["confusion"] is None
    assert payload["confidence"]["reliability"] is None
    assert [one["labels"] for one in payload["clusters"]] == [None] * 3
    assert not any(one["labels"] for one in payload["scores"])
    assert {one["key"] for one in payload["scores"]} == {
        "effective_clusters", "mean_confidence", "silhouette", "uncertain",
    }  # fmt: skip


def test_scores_of_labels_that_were_given_later_are_taken_from_the_file(tmp_path: Path, written_run: Written) -> None:
    folder = written_run(tmp_path / "run", labels=False)
    found = {"images": 50, "accuracy": 0.75, "nmi_arithmetic": 0.5, "ari": 0.25, "purity": 0.8}
    (folder / "scores.json").write_text(json.dumps({"labels": found}))
    payload = collect(folder)
    assert score(payload, "accuracy")["shown"] == "0.750" and score(payload, "accuracy")["labels"]
    (folder / "scores.json").write_text("{ damaged")
    assert not any(one["labels"] for one in collect(folder)["scores"])


def test_images_whose_label_the_training_was_given_are_in_no_score_and_name_the_clusters(
    tmp_path: Path, written_run: Written
) -> None:
    names = {"known_labels": {"names": ["<i>disc</i>", "stripes"]}}
    folder = written_run(tmp_path / "run", config=names)
    table = read_table(folder / "assignments.parquet")
    known = np.arange(60) % 10 != 0  # those with the right label
    pq.write_table(table.append_column("known", pa.array(known)), folder / "assignments.parquet")
    payload = collect(folder)
    check(payload)
    assert np.sum(payload["confusion"]["matrix"]) == 6 == sum(payload["confidence"]["reliability"]["count"])
    assert "6 labelled images" in score(payload, "accuracy")["meaning"]
    assert [one["name"] for one in payload["clusters"]] == ["<i>disc</i>", "stripes", None]
    assert any("labels of 54 images were used in training" in note for note in payload["made"]["notes"])
    pq.write_table(table.append_column("known", pa.array(np.ones(60, bool))), folder / "assignments.parquet")
    payload = collect(folder)
    check(payload)
    assert payload["confusion"] is None and not any(one["labels"] for one in payload["scores"])
    assert payload["images"]["label"] is not None


def test_every_score_has_a_sentence_that_says_what_it_means(run_folder: Path) -> None:
    for one in collect(run_folder)["scores"]:
        assert one["meaning"].endswith(".") and "{" not in one["meaning"] and len(one["meaning"]) > 40


@pytest.mark.parametrize(("n", "k"), [(1, 2), (3, 2), (3, 3), (40, 1), (12, 12)])
def test_the_smallest_runs_have_a_report(tmp_path: Path, written_run: Written, n: int, k: int) -> None:
    payload = collect(written_run(tmp_path / "run", n, k))
    check(payload)
    assert payload["run"]["shown"] == n and len(payload["clusters"]) == k
    if n == 1:
        assert payload["neighbours"] is None and payload["images"]["x"] == [32768]
    else:
        assert payload["neighbours"]["ranks"] == [rank for rank in (1, 2, 10, 50, 100) if rank < n]


def test_an_unfinished_run_shows_its_training_and_how_to_go_on(tmp_path: Path, written_run: Written) -> None:
    folder = written_run(tmp_path / "run", finished=False)
    payload = collect(folder)
    check(payload)
    assert not payload["run"]["finished"] and payload["run"]["epochs_done"] == 3
    assert payload["training"]["epoch"] == [1, 2, 3]
    assert payload["clusters"] == payload["scores"] == payload["images"]["id"] == []
    assert payload["sprites"] is payload["map"] is payload["neighbours"] is payload["affinity"] is None
    assert payload["next"] == [f"ilk fit 'my photos' --clusters 3 --out {folder} --resume"]


def test_a_predicted_folder_has_no_training_and_names_its_model(tmp_path: Path, written_run: Written) -> None:
    folder = written_run(tmp_path / "run", moments=False, config={"predicted_with": "/runs/<first>", "command": []})
    (folder / "log.jsonl").unlink()
    payload = collect(folder)
    check(payload)
    assert payload["training"]["epoch"] == [] and payload["run"]["finished"] and payload["made"]["command"] is None
    assert any("/runs/<first>" in note for note in payload["made"]["notes"])
    assert not any("ilk predict" in command for command in payload["next"])


def test_a_run_of_an_older_version_has_a_report_without_pictures(tmp_path: Path, written_run: Written) -> None:
    folder = written_run(tmp_path / "run", pictures=False, moments=False)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for line in lines:
        del line["pairs"]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    payload = collect(folder)
    check(payload)
    assert payload["sprites"] is payload["large"] is payload["training"]["pairs"] is payload["map"]["moments"] is None
    assert payload["run"]["shown"] == 60


def test_a_sample_holds_the_typical_and_uncertain_images_of_every_cluster(tmp_path: Path, written_run: Written) -> None:
    folder = written_run(tmp_path / "run", 2000, 10, side=4)
    whole, part = collect(folder), collect(folder, 400)
    check(part)
    assert part["run"]["shown"] == 400 and part["run"]["n_images"] == 2000
    assert "400 of the 2,000 images" in part["run"]["sample_note"]
    for full, sampled in zip(whole["clusters"], part["clusters"], strict=True):
        assert sampled["size"] == full["size"] and sampled["labels"] == full["labels"]
        for kind in ("typical", "uncertain"):
            rows = [part["images"]["row"][place] for place in sampled[kind]]
            assert rows[:10] == [whole["images"]["row"][place] for place in full[kind]][:10]
    assert part["scores"] == whole["scores"]
    assert set(part["images"]["row"]) <= set(range(2000)) and collect(folder, 400) == part


@pytest.mark.parametrize("most", [0, -1])
def test_a_report_of_no_images_is_refused(run_folder: Path, most: int) -> None:
    with pytest.raises(ValueError, match=f"--most {most}"):
        collect(run_folder, most)


def test_hostile_names_stay_the_text_they_are(tmp_path: Path, written_run: Written) -> None:
    n = len(HOSTILE)
    folder = written_run(tmp_path / "<b>run", n, 2, ids=HOSTILE, config={"notes": HOSTILE})
    table = read_table(folder / "assignments.parquet")
    payload = collect(folder)
    check(payload)
    expected = [text.encode("utf-8", "backslashreplace").decode() for text in HOSTILE]
    assert payload["images"]["id"] == expected == table["id"].to_pylist()
    assert payload["made"]["notes"] == expected
    assert payload["run"]["name"] == "<b>run"


def test_numbers_in_the_log_that_are_not_finite_become_null(run_folder: Path) -> None:
    lines = (run_folder / "log.jsonl").read_text().splitlines()
    broken = {**json.loads(lines[-1]), "loss": math.nan, "terms": {"instance": math.inf, "cluster": "much"}}
    (run_folder / "log.jsonl").write_text("\n".join([*lines[:-1], json.dumps(broken), '{"epoch": 7, "ha']))
    payload = collect(run_folder)
    check(payload)
    assert payload["training"]["loss"][-1] is payload["training"]["terms"]["instance"][-1] is None
    assert payload["training"]["epoch"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("config.json", b"{ not", "config.json.*JSON"),
        ("config.json", b"[1]", "config.json.*settings"),
        ("assignments.parquet", b"PAR1 no", "assignments.parquet.*Parquet"),
        ("embeddings.npy", b"", "embeddings.npy.*damaged"),
        ("embeddings.npy", b"\x93NUMPY\x01\x00", "embeddings.npy.*damaged"),
    ],
)
def test_a_damaged_file_that_a_report_cannot_do_without_gives_a_sentence(
    run_folder: Path, file: str, content: bytes, sentence: str
) -> None:
    (run_folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=sentence) as caught:
        collect(run_folder)
    assert file in str(caught.value) and "Traceback" not in str(caught.value)


def test_embeddings_of_other_images_or_without_numbers_are_refused(run_folder: Path) -> None:
    embedding = np.load(run_folder / "embeddings.npy")
    np.save(run_folder / "embeddings.npy", embedding[:-1])
    with pytest.raises(ValueError, match=r"\(59, 8\).*60 rows"):
        collect(run_folder)
    embedding[7, 3] = np.nan
    np.save(run_folder / "embeddings.npy", embedding)
    with pytest.raises(ValueError, match="not finite"):
        collect(run_folder)
    (run_folder / "embeddings.npy").unlink()
    with pytest.raises(FileNotFoundError, match="embeddings.npy' is missing"):
        collect(run_folder)


@pytest.mark.parametrize(
    ("file", "part", "empty"),
    [("moments.npz", ("map", "moments"), None), ("log.jsonl", ("training", "epoch"), []),
     ("thumbnails/index.json", ("sprites",), None), ("thumbnails/sheet-0.webp", ("sprites",), None),
     ("bad_files.csv", ("bad_files",), [])],
)  # fmt: skip
def test_a_damaged_file_that_a_report_can_do_without_is_named_in_its_notes(
    run_folder: Path, file: str, part: tuple[str, ...], empty: Any
) -> None:
    (run_folder / file).write_bytes(b"\xff\xfe damaged\n\xff\n")
    payload = collect(run_folder)
    check(payload)
    found: Any = payload
    for name in part:
        found = found[name]
    assert found == empty
    assert any(file in note for note in payload["made"]["notes"])
    assert payload["run"]["shown"] == 60


def test_a_folder_that_is_no_run_gives_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no run folder"):
        collect(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="has no config.json"):
        collect(tmp_path)


def test_the_moments_stand_at_images_that_are_shown_and_the_last_is_the_map_of_the_end(run_folder: Path) -> None:
    payload = collect(run_folder)
    moments = payload["map"]["moments"]
    assert [moment["epoch"] for moment in moments] == [0, 2, 4, 6]
    assert moments[0]["cluster"] is None and moments[0]["title"] == "before training"
    for moment in moments:
        assert len(moment["index"]) == len(moment["x"]) == len(moment["label"]) == 40
    ids = payload["images"]["cluster"]
    assert moments[-1]["cluster"] == [ids[place] for place in moments[-1]["index"]]
    few = collect(run_folder, 20)["map"]["moments"]
    assert few is None or all(place < 20 for moment in few for place in moment["index"])


def test_neighbours_are_of_the_images_shown(run_folder: Path) -> None:
    payload = collect(run_folder)
    found = payload["neighbours"]
    assert found["ranks"] == [1, 2, 10, 50] and found["dtype"] == "uint16"
    index = np.frombuffer(base64.b64decode(found["data"]), "<u2").reshape(60, 4)
    cosine = np.frombuffer(base64.b64decode(found["similarity"]), np.uint8).reshape(60, 4) / 127.5 - 1
    z = np.load(run_folder / "embeddings.npy").astype(float)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    for i in range(60):
        order = [j for j in np.argsort(-z @ z[i], kind="stable") if j != i]
        assert [order[rank - 1] for rank in found["ranks"]] == index[i].tolist()
        assert cosine[i] == pytest.approx([z[i] @ z[j] for j in index[i]], abs=1 / 127)


def test_the_matrix_of_clusters_is_their_cosines_in_the_order_given(run_folder: Path) -> None:
    found = collect(run_folder)["affinity"]
    order, matrix = found["clusters"]["order"], np.array(found["clusters"]["matrix"])
    assert sorted(order) == [0, 1, 2] and np.allclose(np.diag(matrix), 1) and np.allclose(matrix, matrix.T)
    samples = found["samples"]
    assert samples["bounds"][0] == 0 and len(samples["bounds"]) == 3 and samples["bounds"] == sorted(samples["bounds"])
    assert samples["bounds"][-1] < samples["count"] <= 60 and samples["low"] < samples["high"] <= 1.0


def test_every_method_is_cited_as_it_calls_itself() -> None:
    from ilk.methods import METHODS

    assert set(PAPERS) == set(METHODS)
    for name, kind in METHODS.items():
        assert (PAPERS[name].title, PAPERS[name].source) == (kind.title, kind.source)
        text = PAPERS[name].bibtex
        assert text.startswith("@") and kind.title in text and text.count("{") == text.count("}")


def test_a_folder_that_cannot_be_written_to_has_a_payload(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError("read only")

    monkeypatch.setattr("ilk.reports.projection.replacing", refuse)
    check(collect(run_folder))
    assert not (run_folder / "map.npz").exists()
