"""Images in a process of its own: threads are counted, and a build of the cache is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from ilk.images import cache, load_images
from places import ROOT

COUNT = """
import os, sys, threading, numpy as np, torch
from ilk.images.resize import to_square, torch_is_serial
torch.set_num_threads(2)
pixels, seen = np.random.default_rng(0).integers(0, 256, (900, 1100, 3), dtype=np.uint8), []
def work():
    for resize in ("squash", "crop", "pad"):
        to_square(pixels, 224, resize)
        to_square(np.ascontiguousarray(pixels[..., 0]), 224, resize)
    seen.append(len(os.listdir("/proc/self/task")))
    torch.rand(2000, 2000).exp()  # what does start a team
    seen.append(len(os.listdir("/proc/self/task")))
before = len(os.listdir("/proc/self/task"))
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(seen[0] - before, seen[1] > seen[0], torch.get_num_threads())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted in /proc")
def test_resizing_in_a_thread_starts_no_other_threads():
    answer = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.split() == ["1", "True", "2"]  # the thread itself


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_a_killed_process_leaves_a_build_that_the_next_one_finishes(photos, decodes, monkeypatch):
    monkeypatch.setattr(cache, "CHUNK", 2)
    code = f"""
import os, signal
from ilk.images import cache, decode_source, load_images
cache.CHUNK = 2
real, seen = decode_source.decode, []
def decode(*args):
    seen.append(1)
    if len(seen) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
decode_source.decode = decode
load_images({str(photos)!r}, workers=1)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60)
    assert killed.returncode < 0, killed.stderr
    images, again = load_images(photos), load_images(photos, cache=False)
    assert len(decodes) == 7 - 4 + 7  # four were done before the kill; without the cache it is all seven
    np.testing.assert_array_equal(images[:].numpy(), again[:].numpy())
    assert (images.ids, images.paths, images.fingerprint) == (again.ids, again.paths, again.fingerprint)
