"""The model as one ONNX file."""

from __future__ import annotations

import builtins
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ilk
import ilk.pipeline.onnx
import ilk.pipeline.onnx_check
from ilk import Clusterer, load_images
from ilk.methods import METHODS
from ilk.pipeline.onnx import export_onnx, load_runtime
from ilk.pipeline.onnx_check import compare_onnx, picture_input, pictures_of
from ilk.pipeline.trained import load_model
from ilk.runs.folder import Run
from ilk.training.assign import assign

CASES = [("cc", 1, "none"), *((name, 3, "none") for name in METHODS), ("dcdc", 3, "normalize-sobel")]


def session_of(file: Path) -> Any:
    return load_runtime().InferenceSession(file, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(map(str, case)))
def exported(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    pictures: Callable[..., Any],
    planned: Callable[..., Any],
) -> tuple[Any, Any, Any, float]:
    """A method, the session of its ONNX file, the images, and the difference that was reported."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    name, channels, front_end = request.param
    images = load_images(pictures(8, gray=channels == 1)[0])
    method = planned(images, k=3, method=name, settings={"front_end": front_end}).method.eval()
    if hasattr(method, "cluster_heads"):
        method.cluster_heads.loss = torch.tensor([2.0, 1.0])  # not the first head is the best
    file = tmp_path_factory.mktemp("onnx") / "new" / "model.onnx"
    worst = export_onnx(method, file, channels=channels, size=12)
    assert [item.name for item in file.parent.iterdir()] == ["model.onnx"]
    return method, session_of(file), images, worst


def test_onnx_equals_torch_on_real_images(exported: Any, fabric: Any) -> None:
    method, session, images, worst = exported
    assert 0 <= worst < 1e-4
    found = assign(method, images, fabric, probabilities=True)
    probabilities, embeddings = session.run(None, {"images": images[:].numpy()})
    np.testing.assert_allclose(probabilities, found.probability, atol=1e-4)
    with torch.inference_mode():
        expected = method.embed(images[:].float() / 255).numpy()
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(1), found.cluster)


@pytest.mark.parametrize("shape", [(1, 12, 12), (5, 12, 12), (2, 40, 25), (3, 7, 9), (1, 1, 1)])
def test_batch_and_size_are_free(exported: Any, shape: tuple[int, int, int]) -> None:
    method, session, images, _ = exported
    b, h, w = shape
    pixels = torch.randint(0, 256, (b, images.shape[0], h, w), dtype=torch.uint8)
    with torch.inference_mode():
        x = torch.nn.functional.interpolate(pixels.float() / 255, size=(12, 12), mode="bilinear", antialias=True)
        expected = method.assign(x).numpy()
    probabilities, embeddings = session.run(["probabilities", "embeddings"], {"images": pixels.numpy()})
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-4)


@pytest.mark.parametrize("missing", ["onnxruntime", "onnxscript"])
def test_missing_packages_are_named_with_the_command_that_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name == missing:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=rf"{missing}.*pip install 'ilk\[onnx\]'"):
        export_onnx(None, tmp_path / "model.onnx", channels=3, size=12)  # type: ignore[arg-type]  # never looked at
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_differs_from_torch_is_not_kept(
    tmp_path: Path, pictures: Callable[..., Any], planned: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    method = planned(load_images(pictures(8)[0])).method
    (tmp_path / "model.onnx").write_bytes(b"the old one")
    monkeypatch.setattr(ilk.pipeline.onnx, "difference", lambda *_: 0.01)
    with pytest.raises(ValueError, match="0.01.*not kept"):
        export_onnx(method, tmp_path / "model.onnx", channels=3, size=12)
    assert (tmp_path / "model.onnx").read_bytes() == b"the old one"
    assert len(list(tmp_path.iterdir())) == 1


# ---- a whole run


@pytest.fixture(scope="module")
def model_file(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file of the run `trained`, with temperatures that change its probabilities much."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file = tmp_path_factory.mktemp("whole") / "model.onnx"
    export_onnx(
        load_model(Run(trained)), file, channels=3, size=Run(trained).config.images.size, temperature=(7.0, 0.3),
        names=["disc", None],
    )  # fmt: skip
    return file


@pytest.fixture
def tempered_run(run: Run) -> Run:
    """The same run with those temperatures."""
    calibration = json.loads((run / "calibration.json").read_text())
    (run / "calibration.json").write_text(json.dumps({**calibration, "temperature": [7.0, 0.3]}))
    return run


def made_files(folder: Path, mode: str) -> list[str]:
    """24 picture files of several sizes, large in relation to the model's input, with fine detail."""
    random, files = np.random.default_rng(3), []
    folder.mkdir()
    for number in range(24):
        side = (9, 31, 96, 230)[number % 4]
        small = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        soft = np.asarray(small.resize((side, side + 7), Image.Resampling.BICUBIC), dtype=np.int64)
        picture = Image.fromarray((soft + random.integers(-60, 61, soft.shape)).clip(0, 255).astype(np.uint8))
        if mode == "RGBA":
            picture.putalpha(Image.fromarray(random.integers(0, 256, soft.shape[:2], dtype=np.uint8)))
        files.append(str(folder / f"{number:02}.png"))
        picture.convert(mode).save(files[-1])
    return files


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_onnx_gives_the_probabilities_of_predict_for_pictures_of_any_size(
    tempered_run: Run, model_file: Path, tmp_path: Path, mode: str
) -> None:
    clusterer = Clusterer.load(tempered_run.folder, device="cpu")
    files = made_files(tmp_path / "made", mode)
    expected = clusterer.predict_proba(files)
    session = session_of(model_file)
    inputs = [picture_input(Image.open(file), 3) for file in files]
    found = np.concatenate([session.run(["probabilities"], {"images": pixels})[0] for pixels in inputs])
    np.testing.assert_allclose(found, expected, atol=0.02)
    sure = np.abs(expected[:, 0] - 0.5) > 0.02
    np.testing.assert_array_equal(found.argmax(1)[sure], expected.argmax(1)[sure])


def test_the_file_says_what_it_is(model_file: Path, trained: Path) -> None:
    about = session_of(model_file).get_modelmeta().custom_metadata_map
    assert about == {
        "ilk_version": ilk.__version__, "channels": "3", "size": str(Run(trained).config.images.size),
        "temperatures": "[7.0, 0.3]", "cluster_names": '["disc", null]',
    }  # fmt: skip


def test_the_check_reports_how_far_a_file_is_from_predict(tempered_run: Run, model_file: Path, tmp_path: Path) -> None:
    method = load_model(tempered_run)
    agreement = compare_onnx(tempered_run, method, model_file)
    assert (agreement.pictures, agreement.kind) == (48, "pictures of this run")
    assert agreement.largest < 0.05 and agreement.same >= 47
    other = tmp_path / "uncalibrated.onnx"
    export_onnx(method, other, channels=3, size=tempered_run.config.images.size)
    wrong = compare_onnx(tempered_run, method, other)
    assert wrong.largest > 0.1
    assert f"{wrong.same} of 48" in str(wrong) and f"at most {wrong.largest:.2g}" in str(wrong)


@pytest.mark.parametrize("thumbnails", [True, False])
def test_without_the_files_the_check_uses_thumbnails_or_random_pictures_of_several_sizes(
    tempered_run: Run, model_file: Path, monkeypatch: pytest.MonkeyPatch, thumbnails: bool
) -> None:
    monkeypatch.setattr(ilk.pipeline.onnx_check, "own_files", lambda run: [])
    if not thumbnails:
        (tempered_run / "thumbnails" / "index.json").unlink()
    pictures, kind, images = pictures_of(tempered_run)
    assert kind.startswith("thumbnails" if thumbnails else "random") and len(images) == len(pictures) == 48
    assert len({picture.size for picture in pictures}) == 4
    agreement = compare_onnx(tempered_run, load_model(tempered_run), model_file)
    assert agreement.largest < 0.05 and agreement.same >= 47


def test_the_example_of_the_documentation_gives_the_cluster_of_predict(
    tempered_run: Run, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    text = (Path(__file__).parents[2] / "docs" / "onnx.md").read_text(encoding="utf-8")
    example = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    shutil.copy(model_file, "model.onnx")
    Image.open(photos / "disc" / "00.png").convert("RGB").save("photo.jpg", quality=95)
    expected = Clusterer.load(tempered_run.folder, device="cpu").predict_proba(["photo.jpg"])[0]
    capsys.readouterr()
    exec(compile(example, "onnx.md", "exec"), {})
    cluster, name, probability = capsys.readouterr().out.split()
    assert int(cluster) == expected.argmax() and name == str(["disc", None][int(cluster)])
    assert float(probability) == pytest.approx(expected.max(), abs=0.02)


def test_one_place_imports_onnxruntime_and_turns_its_telemetry_off_first() -> None:
    source = Path(ilk.__file__).parent
    places = [file for file in source.rglob("*.py") if "import onnxruntime" in file.read_text(encoding="utf-8")]
    assert [file.name for file in places] == ["onnx.py"]
    text = places[0].read_text(encoding="utf-8")
    assert text.count("import onnxruntime") == 1
    assert text.index('setdefault("ORT_DISABLE_TELEMETRY", "1")') < text.index("import onnxruntime")
