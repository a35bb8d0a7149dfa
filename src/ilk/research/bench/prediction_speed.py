"""How fast images are assigned, from arrays and from a folder, compared with decoding alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ilk.images import load_images
from ilk.pipeline.begin import new_training
from ilk.pipeline.fitting import fit
from ilk.pipeline.predicting import predict
from ilk.pipeline.request import MAX_SIZE, Request
from ilk.research.bench.drawn_photos import photo_like
from ilk.research.bench.timing import Case, Conditions
from ilk.runs.folder import Run
from ilk.system.devices import make_fabric
from ilk.training.assign import assign

PART = "predict"


def groups(conditions: Conditions) -> Iterator[list[Case]]:
    size = MAX_SIZE[conditions.device.split(":")[0]]
    fabric = make_fabric(conditions.device, conditions.precision)
    pixels = photo_like(conditions.smaller(2048, 128), size, conditions.seed)
    images = load_images(pixels, image_size=size)
    # Untrained: the speed does not depend on the weights.
    settings = {"warm_start": 0.0, "batch_size": 32}
    request = Request(
        n_clusters=4, epochs=1, views="cc", device=conditions.device, precision=conditions.precision, settings=settings
    )
    method = new_training(request, images, fabric).method
    cores = 1 if conditions.on_gpu else conditions.cores

    def decoded() -> object:
        return load_images(conditions.folder, image_size=size, cache=False, workers=conditions.cores)

    def assigned() -> object:
        decoded_images = load_images(
            conditions.folder, image_size=size, channels=3, cache=False, workers=conditions.cores
        )
        return assign(method, decoded_images, fabric)

    yield [Case(name=f"ilk, arrays of {size} px", work=lambda: assign(method, images, fabric), count=len(images),
                threads=cores)]  # fmt: skip
    run = Run(conditions.scratch / "run")
    fit(request, images[:64].permute(0, 2, 3, 1).numpy(), run, report=False)
    numbers = itertools.count()

    def whole() -> object:
        number = next(numbers)
        out, cache = conditions.scratch / f"predicted-{number}", conditions.scratch / f"cache-{number}"
        return predict(run, conditions.folder, out, device=conditions.device, cache_dir=cache, report=False)

    count = len(load_images(conditions.folder, image_size=8, cache=False, workers=conditions.cores))
    yield [
        Case(name=f"ilk, folder decoded to {size} px", work=decoded, count=count, threads=cores),
        Case(name=f"ilk, folder decoded to {size} px and assigned", work=assigned, count=count, threads=cores),
        Case(name="ilk predict, folder to tables and pictures", work=whole, count=count, threads=cores),
    ]
