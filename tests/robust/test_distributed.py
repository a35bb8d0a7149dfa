"""Devices, precisions, and that two processes learn what one would."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ilk.system.devices
import workers
from ilk.losses import (
    alignment,
    bank_contrast,
    bank_scores,
    cluster_contrast,
    contrast,
    negative_marginal_entropy,
    nt_xent,
    probability_contrast,
    semantic_contrast,
    soft_cross_entropy,
)
from ilk.networks.batch_norm import as_shared
from ilk.system.devices import choose_device, choose_precision, make_fabric, place, recorded_precision
from ilk.system.processes import agree, gather

N, D, K = 6, 5, 3


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`machine(cuda=..., mps=..., amx=..., bf16=...)`: what this machine pretends to have."""

    def pretend(*, cuda: bool = False, mps: bool = False, amx: bool = False, bf16: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2 if cuda else 0)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)

    return pretend


# devices and precisions


@pytest.mark.parametrize(
    ("has", "chosen"),
    [({}, "cpu"), ({"cuda": True}, "cuda"), ({"mps": True}, "mps"), ({"cuda": True, "mps": True}, "cuda")],
)
def test_auto_takes_the_accelerator_there_is(machine: Callable[..., None], has: dict[str, bool], chosen: str) -> None:
    machine(**has)
    assert choose_device("auto") == chosen


@pytest.mark.parametrize("name", ["cuda:2", "cuda:9", "mps:1", "cpu:1"])
def test_a_device_with_a_number_that_is_not_there_is_refused(machine: Callable[..., None], name: str) -> None:
    machine(cuda=True, mps=True)
    with pytest.raises(ValueError, match=f"'{name}'.*{name[:-1]}0"):
        choose_device(name)


@pytest.mark.parametrize("name", ["cuda:", "cuda:x", "cuda:-1", "cuda:1:2", "cpu:0.5"])
def test_a_device_whose_number_is_none_is_unknown(machine: Callable[..., None], name: str) -> None:
    machine(cuda=True)
    with pytest.raises(ValueError, match="Unknown device"):
        choose_device(name)


def test_a_device_that_exists_is_taken_as_named(machine: Callable[..., None]) -> None:
    machine(cuda=True, mps=True)
    assert [choose_device(name) for name in ("cpu", "cuda", "cuda:1", "mps")] == ["cpu", "cuda", "cuda:1", "mps"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "Unknown device 'gpu'. Use auto, cpu, cuda, cuda:0 or mps"),
        ("", "Unknown device ''"),
        ("cuda", "PyTorch sees no CUDA GPU. Use --device cpu or auto."),
        ("cuda:0", "PyTorch sees no CUDA GPU. Use --device cpu or auto."),
        ("mps", "PyTorch sees no Apple GPU. Use --device cpu or auto."),
    ],
)
def test_a_device_that_is_not_there_is_refused(machine: Callable[..., None], name: str, message: str) -> None:
    machine()
    with pytest.raises(ValueError, match=message):
        choose_device(name)


@pytest.mark.parametrize(
    ("device", "has", "chosen"),
    [
        ("cpu", {"amx": True}, "bf16"),
        ("cpu", {"amx": False}, "float32"),
        ("cuda", {"cuda": True, "bf16": True}, "bf16"),
        ("cuda:1", {"cuda": True, "bf16": True}, "bf16"),
        ("cuda", {"cuda": True, "bf16": False, "amx": True}, "float32"),
        ("mps", {"mps": True, "amx": True}, "float32"),
    ],
)
def test_auto_takes_bf16_where_the_hardware_has_it(
    machine: Callable[..., None], device: str, has: dict[str, bool], chosen: str
) -> None:
    machine(**has)
    assert choose_precision("auto", device) == chosen


def test_a_named_precision_is_taken_whatever_the_hardware(machine: Callable[..., None]) -> None:
    machine()
    assert choose_precision("bf16", "cpu") == "bf16" and choose_precision("float32", "cuda") == "float32"


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("recorded", ["float32", None, 7, "fp16"])
def test_a_run_in_float32_or_without_a_record_is_predicted_in_float32(
    machine: Callable[..., None], recorded: object, device: str
) -> None:
    machine(cuda=True, mps=True, amx=True, bf16=True)
    assert recorded_precision(recorded, device) == "float32"


@pytest.mark.parametrize(
    ("device", "has", "chosen"),
    [
        ("cpu", {"amx": True}, "bf16"),
        ("cpu", {"amx": False}, "float32"),
        ("cuda", {"cuda": True, "bf16": True}, "bf16"),
        ("cuda", {"cuda": True, "bf16": False}, "float32"),
        ("mps", {"mps": True, "amx": True}, "float32"),
    ],
)
def test_a_run_in_bf16_is_predicted_in_bf16_where_the_hardware_has_it(
    machine: Callable[..., None], device: str, has: dict[str, bool], chosen: str
) -> None:
    machine(**has)
    assert recorded_precision("bf16", device) == chosen


@pytest.mark.parametrize("name", ["fp16", "float64", ""])
def test_an_unknown_precision_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}'.*auto, float32.*bf16"):
        choose_precision(name, "cpu")


@pytest.mark.parametrize(("precision", "product"), [("float32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_fabric_computes_in_its_precision(precision: str, product: torch.dtype) -> None:
    fabric = make_fabric("cpu", precision)
    with fabric.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == product
    assert fabric.world_size == 1 and fabric.device.type == "cpu"


def test_images_on_a_cpu_are_used_as_they_are() -> None:
    images = object()
    assert place(images, torch.device("cpu")) is images


# one process


def test_gather_and_agree_do_nothing_in_a_single_process() -> None:
    x, net = torch.ones(2, 3), nn.Linear(2, 2)
    kept = net.weight.clone()
    agree(net)
    assert gather(x) is x and torch.equal(net.weight, kept)


# two processes


def batch() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(N, D, generator=g, dtype=torch.float64), torch.randn(N, D, generator=g, dtype=torch.float64)


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(D, 4), nn.Tanh(), nn.Linear(4, K)).double()


def fixed(*shape: int) -> Tensor:
    """Numbers that every process holds alike: rows of a bank."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def softly(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return gather(a).softmax(1), gather(b).softmax(1)


def sample_view(a: Tensor, b: Tensor) -> Tensor:
    """DCDC with two perturbed views per image, which are not negatives of each other."""
    y_a, y_b = softly(a, b)
    image = torch.arange(N).repeat(2)
    same = image[:, None] == image[None, :]
    perturbed = torch.cat([y_b, gather(b.flip(1)).softmax(1)])
    return contrast(y_a.repeat(2, 1), perturbed, 0.5, negatives="other_view", symmetric=False, ignore=same)


def class_view(a: Tensor, b: Tensor) -> Tensor:
    return cluster_contrast(*softly(a, b), 0.5, negatives="other_view", symmetric=False)


def assignment_vectors(a: Tensor, b: Tensor) -> Tensor:
    return cluster_contrast(*softly(a, b), 1.0, negatives="other_view", include_positive=False)


def memory_bank(a: Tensor, b: Tensor) -> Tensor:
    log_a, k = gather(a).log_softmax(1), a.shape[1]
    return bank_contrast(log_a, fixed(N, k).softmax(1), fixed(8, k).softmax(1))


def semantic(a: Tensor, b: Tensor) -> Tensor:
    """SCL's weighted contrast, and its classifier's imitation of the banks' vote."""
    q, key = F.normalize(gather(a), dim=1), F.normalize(gather(b), dim=1).detach()
    bank = F.normalize(fixed(3, 4, a.shape[1]), dim=2)
    scores, labels = bank_scores(q, bank, 0.3), torch.arange(N) % 3
    weights = torch.arange(1, N + 1, dtype=torch.float64) / (N * (N + 1) / 2)
    imitation = soft_cross_entropy(q[:, :3].log_softmax(1), scores.softmax(1))
    return (weights * semantic_contrast(q, key, scores, labels, 0.3)).sum() + imitation


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rows": lambda a, b: nt_xent(gather(a), gather(b), 0.5),
    "columns": lambda a, b: nt_xent(gather(a).softmax(1).T, gather(b).softmax(1).T, 1.0),
    "entropy": lambda a, b: negative_marginal_entropy(gather(a).log_softmax(1)),
    "sample view": sample_view,
    "class view": class_view,
    "assignment vectors": assignment_vectors,
    "probabilities": lambda a, b: probability_contrast(gather(a).log_softmax(1), gather(b).log_softmax(1)),
    "memory bank": memory_bank,
    "semantic": semantic,
    "alignment": lambda a, b: alignment(gather(a), gather(b)),
}


class Whole(nn.Module):
    """A network with one of the losses on its outputs for both views."""

    def __init__(self, loss: str) -> None:
        super().__init__()
        self.network, self.loss = network(), loss

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return LOSSES[self.loss](self.network(a), self.network(b))


def gradients(model: nn.Module, a: Tensor, b: Tensor) -> list[Tensor]:
    loss = model(a, b)
    loss.backward()
    return [loss.detach(), *[p.grad for p in model.parameters()]]


def work(rank: int, folder: Path) -> None:
    """The work of one of two processes, which saves its results to `folder`."""
    workers.meet(rank, 2, folder)
    mine = slice(rank * N // 2, (rank + 1) * N // 2)
    a, b = batch()
    found: dict[str, Any] = {}
    for loss in LOSSES:
        model = nn.parallel.DistributedDataParallel(Whole(loss))
        found[loss] = gradients(model, a[mine], b[mine])
        rows = a[mine].clone().requires_grad_()
        LOSSES[loss](rows, b[mine]).backward()
        found[f"{loss} by row"] = rows.grad
    found["gathered"] = gather(a[mine])
    shared, other = (torch.zeros(2, 1, dtype=torch.float64).requires_grad_() for _ in "ab")
    beside = torch.cat([other, other])  # made before `gather`, so its gradient is taken after
    ((beside + gather(shared)) * torch.arange(4).view(4, 1)).sum().backward()
    found["other"] = other.grad
    torch.manual_seed(rank)
    net = nn.BatchNorm1d(3)
    net.running_mean.fill_(float(rank + 1))
    nn.init.normal_(net.weight)
    net.register_buffer("flag", torch.tensor(rank == 0))
    agree(net)
    found["agreed"] = net.state_dict()
    x = torch.arange(N * 2 * 3 * 2, dtype=torch.float64).view(N, 2, 3, 2).sin()
    norm = as_shared(bent(nn.BatchNorm2d(2).double()))
    found["statistics"] = norm_gradients(norm, x[mine])
    torch.save(found, folder / f"{rank}.pt")
    workers.leave()


def bent(norm: nn.Module) -> nn.Module:
    """A BatchNorm whose weight and bias are not 1 and 0."""
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 2.0]))
        norm.bias.copy_(torch.tensor([-1.0, 0.25]))
    return norm


def norm_gradients(norm: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What a loss over all rows that is not linear gives, its gradients and the running statistics after it."""
    x = x.clone().requires_grad_()
    y = norm(x)
    (gather(y.flatten(1)).sin() ** 2).sum().backward()
    return {"y": y.detach(), "x": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad, **norm.state_dict()}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes found, each with half of the batch."""
    folder = tmp_path_factory.mktemp("two")
    codes = workers.ended([workers.started(work, rank, folder) for rank in range(2)], 120)
    assert codes == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("loss", LOSSES)
def test_two_processes_give_the_loss_and_gradient_of_one(two: list[dict[str, Any]], loss: str) -> None:
    """The parameters' gradients as DDP leaves them, that is after its average over processes."""
    alone = gradients(Whole(loss), *batch())
    assert max(g.abs().max() for g in alone[1:]) > 1e-3
    for found in two:
        for ours, theirs in zip(found[loss], alone, strict=True):
            assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_rows_get_the_gradient_of_one_process_times_two(two: list[dict[str, Any]], loss: str) -> None:
    """Summed over processes, each of which holds the whole loss; DDP's average halves it again."""
    a, b = batch()
    a.requires_grad_()
    LOSSES[loss](a, b).backward()
    together = torch.cat([found[f"{loss} by row"] for found in two])
    assert torch.allclose(together, 2 * a.grad, rtol=0, atol=1e-12)


def test_gather_puts_rows_in_the_order_of_processes(two: list[dict[str, Any]]) -> None:
    assert all(torch.equal(found["gathered"], batch()[0]) for found in two)


def test_gather_leaves_the_gradient_of_others_alone(two: list[dict[str, Any]]) -> None:
    """An addition hands one gradient tensor to both its sides; summing it in place would double the other's."""
    assert all(found["other"].flatten().tolist() == [2.0, 4.0] for found in two)


def test_agreed_processes_hold_what_the_first_held(two: list[dict[str, Any]]) -> None:
    first, second = (found["agreed"] for found in two)
    assert first["running_mean"].tolist() == [1.0] * 3 and bool(first["flag"])
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_shared_batch_norm_in_two_processes_is_batch_norm_in_one(two: list[dict[str, Any]]) -> None:
    x = torch.arange(N * 2 * 3 * 2, dtype=torch.float64).view(N, 2, 3, 2).sin()
    alone = norm_gradients(bent(nn.BatchNorm2d(2).double()), x)
    halves = [found["statistics"] for found in two]
    assert halves[0].keys() == alone.keys()
    close = {"rtol": 0, "atol": 1e-12}
    assert torch.allclose(torch.cat([half["y"] for half in halves]), alone["y"], **close)
    assert torch.allclose(torch.cat([half["x"] for half in halves]), 2 * alone["x"], **close)  # a loss each
    for name in ("weight", "bias"):  # each process sees the gradient through its own rows
        assert torch.allclose(halves[0][name] + halves[1][name], 2 * alone[name], **close)
    for name in ("running_mean", "running_var"):
        assert all(torch.allclose(half[name], alone[name], **close) for half in halves)
        assert torch.equal(halves[0][name], halves[1][name])


def test_shared_batch_norm_alone_is_batch_norm() -> None:
    x = torch.rand(4, 2, 3, 2, dtype=torch.float64)
    norm = nn.BatchNorm2d(2).double()
    ours, theirs = norm_gradients(as_shared(bent(copy.deepcopy(norm))), x), norm_gradients(bent(norm), x)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_several_processes_without_torchrun_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with pytest.raises(ValueError, match="torchrun --nproc-per-node 2"):
        make_fabric("cpu", "float32")


def test_a_schedulers_environment_does_not_change_a_single_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_JOB_NAME": "job"}.items():
        monkeypatch.setenv(name, value)
    fabric = make_fabric("cpu", "float32")
    assert (fabric.world_size, fabric.global_rank) == (1, 0)


def test_heads_that_wait_may_go_without_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain DDP stops at the second step of a method whose cluster heads start later."""
    asked: dict[str, Any] = {}

    class Fake:
        def __init__(self, **settings: Any) -> None:
            asked.update(settings)

        def launch(self) -> None:
            asked["launched"] = True

    monkeypatch.setattr(ilk.system.devices, "Fabric", Fake)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    make_fabric("cuda", "bf16")
    strategy, _ = asked.pop("strategy"), asked.pop("plugins")
    assert asked == {
        "accelerator": "cuda", "precision": "bf16-mixed", "devices": 2, "num_nodes": 2, "launched": True,
    }  # fmt: skip
    assert strategy._ddp_kwargs["find_unused_parameters"] is True
