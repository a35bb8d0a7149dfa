"""Methods, views and backbones of installed packages: found by name, read when needed, never in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ilk

MODULE = """
import torch.nn.functional as F
from torch import nn
from ilk.losses import nt_xent
from ilk.methods import Method, Preset, Recipe, settings
from ilk.views import ViewRecipe

@settings
class Config:
    pass

class Plugged(Method):
    name, title, source = "plugged", "A method of a package", "2026"
    presets = {"default": Preset(Config(), Recipe(), "all there is")}
    def forward(self, view_a, view_b, index):
        return {"instance": nt_xent(self.backbone(view_a), self.backbone(view_b), 0.5)}
    def assign_features(self, h):
        return h[:, : self.n_clusters].softmax(1)
    def embed_features(self, h):
        return F.normalize(h.float(), dim=1)

class Flat(nn.Module):
    feature_dim = 12
    def forward(self, x):
        return x.flatten(1)[:, :12]

def flat(image_size, in_channels):
    return Flat()

def shapeless(image_size, in_channels):
    return nn.Identity()

gentle = ViewRecipe(brightness=0.1)
pair = (gentle, ViewRecipe())
number = 3
"""
ENTRIES = """
[ilk.methods]
plugged = plugged_module:Plugged
cc = plugged_module:Plugged
other = plugged_module:Plugged
broken = no_such_module:Thing
gone = plugged_module:Gone
number = plugged_module:number

[ilk.views]
gentle = plugged_module:gentle
pair = plugged_module:pair
wrong = plugged_module:number

[ilk.backbones]
flat = plugged_module:flat
shapeless = plugged_module:shapeless
wrong = plugged_module:number
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder that holds an installed package with good and bad entry points."""
    (tmp_path / "plugged_module.py").write_text(MODULE)
    info = tmp_path / "ilk_plugged-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ilk-plugged\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    return tmp_path


def answer(folder: Path, code: str) -> Any:
    """What `code` prints, as JSON, where the package is installed; errors out on any traceback."""
    path = os.pathsep.join([str(folder), str(Path(ilk.__file__).parents[1])])
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import json\n{code}"], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": path}, check=True,
    )  # fmt: skip
    return json.loads(found.stdout)


def test_installed_methods_views_and_backbones_are_found_by_name(installed: Path) -> None:
    code = """
from ilk.methods import METHODS, get_method, get_preset
from ilk.networks.backbones import backbone_names, build_backbone
from ilk.views import DOMAINS, get_views
recipes = get_views("gentle"), get_views("pair")
print(json.dumps({
    "methods": list(METHODS), "title": get_method("plugged").title, "from": METHODS.origin("plugged"),
    "own": METHODS.origin("cc"), "cc": get_method("cc").title, "about": get_preset("plugged", "default").about,
    "views": [name for name in DOMAINS if name in ("gentle", "pair", "wrong")],
    "brightness": [[side.brightness for side in pair] for pair in recipes],
    "backbones": [name for name in backbone_names() if name in ("flat", "wrong", "shapeless")],
    "width": build_backbone("flat", image_size=8, in_channels=3).feature_dim,
}))"""
    found = answer(installed, code)
    assert found["methods"] == ["cc", "crlc", "scl", "dcdc", "c2bin", "plugged"]
    assert found["title"] == "A method of a package" and found["about"] == "all there is"
    assert found["from"] == {"package": "ilk-plugged", "version": "1.2"} and found["own"] is None
    assert found["cc"] == "Contrastive Clustering"  # a package cannot replace what ilk has
    assert found["views"] == ["gentle", "pair"] and found["brightness"] == [[0.1, 0.1], [0.1, 0.0]]
    assert found["backbones"] == ["flat", "shapeless"] and found["width"] == 12


def test_a_broken_entry_point_is_a_warning_with_the_name_of_its_package(installed: Path) -> None:
    code = """
import warnings
from ilk.methods import METHODS
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    names = list(METHODS), list(METHODS)
errors = []
for name in ("broken", "nothing"):
    try:
        METHODS.find(name)
    except ValueError as error:
        errors.append(str(error))
print(json.dumps([[str(one.message) for one in caught], errors]))"""
    said, errors = answer(installed, code)
    assert len(said) == 5 and all("of the package ilk-plugged cannot be used" in text for text in said)
    reasons = {text.split("'")[1]: text for text in said}
    assert set(reasons) == {"cc", "other", "broken", "gone", "number"}
    assert "the name is taken" in reasons["cc"] and "has the name 'plugged', not 'other'" in reasons["other"]
    assert "ModuleNotFoundError: No module named 'no_such_module'" in reasons["broken"]
    assert "not a subclass of ilk.Method" in reasons["number"]
    assert "no_such_module" in errors[0] and "Update the package" in errors[0]
    assert errors[1].startswith("Unknown method 'nothing'.") and "plugged" in errors[1]


def test_entry_points_are_not_read_for_what_ilk_has(installed: Path) -> None:
    code = """
import sys
from ilk.methods import METHODS, get_method
from ilk.networks.backbones import build_backbone
from ilk.views import get_views
get_method("scl"), build_backbone("small", image_size=8, in_channels=3), get_views("photo"), "cc" in METHODS
print(json.dumps("plugged_module" in sys.modules))"""
    assert answer(installed, code) is False


def test_a_backbone_without_a_width_is_refused(installed: Path) -> None:
    code = """
from ilk.networks.backbones import build_backbone
try:
    build_backbone("shapeless", image_size=8, in_channels=3)
except ValueError as error:
    print(json.dumps(str(error)))"""
    assert "'shapeless' must be an nn.Module with a whole number `feature_dim`" in answer(installed, code)


def test_the_command_line_lists_what_is_installed_and_warns_in_sentences(installed: Path) -> None:
    path = os.pathsep.join([str(installed), str(Path(ilk.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-m", "ilk", "methods"], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": path}, check=True,
    )  # fmt: skip
    assert "plugged: A method of a package (2026)" in done.stdout and "flat" in done.stdout and "gentle" in done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 7 and all(line.startswith("Warning: The ") and "ilk-plugged" in line for line in lines)
