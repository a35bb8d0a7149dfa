"""The moving-average twin, the banks of keys and the bank of rows: by hand and against plain queues."""

from __future__ import annotations

from collections import deque

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilk.networks.banks import KeyBanks, RowBank, Twin
from reference import crlc, scl


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def pictures(n: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, generator=seeded(seed))


def same_state(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def shift(network: nn.Module, by: float) -> None:
    with torch.no_grad():
        for p in network.parameters():
            p += by


# Twin


def test_a_twin_starts_equal_and_is_a_copy_of_its_own() -> None:
    original = small()
    twin = Twin(original, 0.9)
    assert same_state(twin.network, original)
    shift(original, 1.0)
    assert not any(torch.equal(p, q) for p, q in zip(twin.network.parameters(), original.parameters(), strict=True))


def test_a_twin_neither_gets_nor_gives_a_gradient() -> None:
    original = small()
    twin = Twin(original, 0.9)
    assert not any(p.requires_grad for p in twin.parameters()) and all(p.requires_grad for p in original.parameters())
    x = pictures().requires_grad_()
    assert original(x).requires_grad and not twin(x).requires_grad


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.995])
def test_a_twin_follows_by_the_formula(momentum: float) -> None:
    original = nn.Linear(1, 1, bias=False).double()
    original.weight.data.fill_(2.0)
    twin, by_hand = Twin(original, momentum), 2.0
    for new in (5.0, -1.0, 3.0):
        original.weight.data.fill_(new)
        twin.follow(original)
        by_hand = momentum * by_hand + (1 - momentum) * new
        assert twin.network.weight.item() == pytest.approx(by_hand, abs=1e-12)
    assert original.weight.item() == 3.0 and original.weight.grad is None


def test_all_parameters_follow_without_a_graph() -> None:
    original = small()
    twin = Twin(original, 0.75)
    before = [p.clone() for p in twin.network.parameters()]
    shift(original, 4.0)
    twin.follow(original)
    for own, old in zip(twin.network.parameters(), before, strict=True):
        assert torch.allclose(own, old + 1.0, atol=1e-6) and own.grad_fn is None and not own.requires_grad


def test_a_twin_does_not_follow_a_network_of_another_shape() -> None:
    with pytest.raises(ValueError, match="shorter|longer"):
        Twin(small(), 0.9).follow(nn.Linear(3, 4))


def test_running_statistics_are_not_averaged() -> None:
    original = small()
    twin = Twin(original, 0.5)
    original[1].running_mean.fill_(7.0)
    original[1].running_var.fill_(9.0)
    twin.follow(original)
    assert twin.network[1].running_mean.tolist() == [0] * 4 and twin.network[1].running_var.tolist() == [1] * 4


def test_running_statistics_come_from_the_twins_own_training_passes() -> None:
    original = small()
    twin = Twin(original, 0.5)
    x = pictures()
    twin.eval()
    twin(x)
    assert twin.network[1].num_batches_tracked == 0
    twin.train()
    twin(x)
    expected = 0.1 * twin.network[0](x).mean(0)
    assert torch.allclose(twin.network[1].running_mean, expected, atol=1e-6) and expected.abs().max() > 1e-3
    assert twin.network[1].num_batches_tracked == 1 and original[1].num_batches_tracked == 0


def test_a_twin_in_training_uses_the_statistics_of_the_batch() -> None:
    original, x = small(), pictures()
    twin = Twin(original, 0.5)
    assert torch.equal(twin(x), original(x))
    assert not torch.allclose(twin(x), twin.eval()(x), atol=1e-3)


def test_a_reset_twin_is_a_frozen_copy_again_statistics_included() -> None:
    original = small()
    twin = Twin(original, 0.9)
    shift(original, 1.0)
    original(pictures())
    twin.reset(original)
    assert same_state(twin.network, original) and original[1].num_batches_tracked == 1
    assert not any(p.requires_grad for p in twin.parameters())
    shift(original, 1.0)
    original(pictures())
    assert not any(torch.equal(twin.network.state_dict()[name], value) for name, value in original.state_dict().items())


def test_a_twin_comes_back_from_its_state() -> None:
    original = small()
    twin = Twin(original, 0.9)
    shift(original, 1.0)
    twin.follow(original)
    twin(pictures())
    other = Twin(small(), 0.9)
    assert not same_state(other, twin)
    other.load_state_dict(twin.state_dict())
    assert same_state(other, twin)
    twin.follow(original)
    other.follow(original)
    assert same_state(other, twin)


# KeyBanks


def numbers(first: int, count: int) -> Tensor:
    """Keys that say their own number, (count, 1)."""
    return torch.arange(first, first + count).float()[:, None]


def contents(banks: KeyBanks, cluster: int) -> list[float]:
    """The keys of a bank of numbers, the oldest first."""
    rolled = banks.keys[cluster].roll(-int(banks.position[cluster]), 0)
    found: list[float] = rolled[:, 0].tolist()
    return found


def filled(clusters: int, rows: int) -> KeyBanks:
    """Banks of the numbers -1, -2, ..., the same in each."""
    banks = KeyBanks(clusters, rows, 1)
    banks.keys.copy_(-1 - torch.arange(rows).float()[:, None].expand(clusters, rows, 1))
    return banks


def test_banks_start_with_random_directions() -> None:
    keys = KeyBanks(10, 455, 16).keys
    assert keys.shape == (10, 455, 16)
    assert torch.allclose(keys.norm(dim=2), torch.ones(10, 455), atol=1e-6)
    assert keys.flatten(0, 1).mean(0).abs().max() < 5 * (1 / 16 / 4550) ** 0.5
    assert len(keys.flatten(0, 1).unique(dim=0)) == 4550


def test_the_oldest_key_goes_first_push_after_push() -> None:
    banks = filled(2, 3)
    banks.push(numbers(1, 2), torch.tensor([0, 0]))
    assert contents(banks, 0) == [-3, 1, 2] and contents(banks, 1) == [-1, -2, -3]
    banks.push(numbers(3, 3), torch.tensor([1, 0, 1]))  # 4 is the last that fits before the bank begins anew
    assert contents(banks, 0) == [1, 2, 4] and contents(banks, 1) == [-3, 3, 5]
    banks.push(numbers(6, 2), torch.tensor([0, 0]))
    assert contents(banks, 0) == [4, 6, 7] and contents(banks, 1) == [-3, 3, 5]
    assert banks.keys[0, :, 0].tolist() == [6, 7, 4]  # written over in place, none moved
    banks.push(numbers(8, 3), torch.tensor([1, 1, 1]))
    assert contents(banks, 1) == [8, 9, 10]


@pytest.mark.parametrize("count", [3, 4, 7, 9, 20])
def test_of_more_keys_than_rows_the_newest_stay(count: int) -> None:
    banks = filled(3, 3)
    banks.push(numbers(1, 1), torch.tensor([1]))
    banks.push(numbers(100, count), torch.ones(count, dtype=torch.int64))
    assert contents(banks, 1) == [100.0 + count - 3, 100.0 + count - 2, 100.0 + count - 1]
    banks.push(numbers(900, 1), torch.tensor([1]))
    assert contents(banks, 1) == [100.0 + count - 2, 100.0 + count - 1, 900]


def test_banks_of_clusters_without_a_key_stay_as_they_are() -> None:
    banks = KeyBanks(5, 4, 3)
    keys, position = banks.keys.clone(), banks.position.clone()
    banks.push(F.normalize(torch.randn(6, 3, generator=seeded()), dim=1), torch.tensor([1, 3, 3, 1, 1, 1]))
    for cluster in (0, 2, 4):
        assert torch.equal(banks.keys[cluster], keys[cluster]) and banks.position[cluster] == position[cluster]
    assert not torch.equal(banks.keys[1], keys[1]) and not torch.equal(banks.keys[3], keys[3])


def test_no_key_at_all_changes_nothing() -> None:
    banks = filled(2, 3)
    keys = banks.keys.clone()
    banks.push(torch.empty(0, 1), torch.empty(0, dtype=torch.int64))
    assert torch.equal(banks.keys, keys) and banks.position.tolist() == [0, 0]


@pytest.mark.parametrize(("clusters", "rows"), [(1, 1), (2, 3), (3, 5), (7, 2), (4, 50)])
def test_banks_equal_plain_queues_over_any_sequence_of_pushes(clusters: int, rows: int) -> None:
    g = seeded(clusters)
    banks = KeyBanks(clusters, rows, 3)
    queues = [deque(bank.tolist()) for bank in banks.keys]
    for _ in range(40):
        n = int(torch.randint(1, 30, (1,), generator=g))
        keys = F.normalize(torch.randn(n, 3, generator=g), dim=1)
        labels = torch.randint(clusters, (n,), generator=g)
        kept = keys.clone(), labels.clone()
        banks.push(keys, labels)
        assert torch.equal(keys, kept[0]) and torch.equal(labels, kept[1])
        scl.enqueue(queues, keys.tolist(), labels.tolist())
        for cluster, queue in enumerate(queues):
            assert banks.keys[cluster].roll(-int(banks.position[cluster]), 0).tolist() == list(queue)


def test_keys_are_taken_in_without_their_graph_and_in_the_banks_precision() -> None:
    banks = KeyBanks(2, 3, 4)
    keys = torch.randn(5, 4, generator=seeded()).bfloat16().requires_grad_()
    banks.push(keys, torch.tensor([0, 1, 0, 1, 1]))
    assert banks.keys.dtype == torch.float32 and not banks.keys.requires_grad
    assert torch.equal(banks.keys[0, :2], keys[[0, 2]].detach().float())


def test_banks_come_back_from_their_state_and_go_on_where_they_were() -> None:
    banks, other = KeyBanks(3, 4, 1), KeyBanks(3, 4, 1)
    banks.push(numbers(1, 6), torch.tensor([0, 1, 0, 1, 0, 1]))
    assert not same_state(other, banks)
    other.load_state_dict(banks.state_dict())
    for held in (banks, other):
        held.push(numbers(7, 5), torch.tensor([2, 1, 1, 0, 1]))
    assert same_state(other, banks) and banks.position.tolist() == [0, 2, 1]


# RowBank


def test_a_bank_of_rows_starts_uniform() -> None:
    bank = RowBank(2, 5, 4, 0.5)
    assert bank.rows.shape == (2, 5, 4) and bool((bank.rows == 0.25).all())


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_rows_move_by_the_formula_and_only_those_named(alpha: float) -> None:
    bank = RowBank(2, 5, 3, alpha)
    expected = bank.rows.tolist()
    for seed, index in enumerate(([4, 0, 2], [2, 4, 3], [2])):
        y = torch.randn(2, len(index), 3, generator=seeded(seed)).softmax(2)
        bank.move(torch.tensor(index), y)
        for head in range(2):
            for at, image in enumerate(index):
                expected[head][image] = crlc.bank_row(expected[head][image], y[head, at].tolist(), alpha)
    assert torch.allclose(bank.rows, torch.tensor(expected), atol=1e-6)
    assert bool((bank.rows[:, 1] == bank.rows[0, 1, 0]).all()) and not torch.equal(bank.rows[0, 2], bank.rows[1, 2])
    assert torch.allclose(bank.rows.sum(2), torch.ones(2, 5), atol=1e-6)


def test_rows_are_taken_in_without_their_graph_and_in_the_banks_precision() -> None:
    bank = RowBank(1, 3, 2, 0.5)
    y = torch.tensor([[[1.0, 0.0]]]).bfloat16().requires_grad_()
    bank.move(torch.tensor([1]), y)
    assert bank.rows.dtype == torch.float32 and not bank.rows.requires_grad
    assert bank.rows[0].tolist() == [[0.5, 0.5], [0.75, 0.25], [0.5, 0.5]]


def test_rows_come_back_from_their_state() -> None:
    bank, other = RowBank(1, 3, 2, 0.5), RowBank(1, 3, 2, 0.5)
    bank.move(torch.tensor([1]), torch.tensor([[[1.0, 0.0]]]))
    assert not same_state(other, bank)
    other.load_state_dict(bank.state_dict())
    assert same_state(other, bank)
