import torch

from rnade_lightning import RNADE
from rnade_lightning.scans import draw, scanned, solved


def test_a_scan_is_a_loop() -> None:
    given = torch.arange(4.0)[:, None]
    last, each = scanned(lambda c, x: (2 * c + x, c + x), torch.ones(1), given)
    assert last.item() == ((((2 * 1 + 0) * 2 + 1) * 2 + 2) * 2 + 3)
    assert each[:, 0].tolist() == [1, 3, 7, 15]


def test_a_frame_drawn_by_a_scan_is_that_of_the_sampler() -> None:
    torch.manual_seed(0)
    rnade = RNADE(4, 5, 3, "laplace", linear=True, floor=0.01).double().requires_grad_(False)
    for parameter in rnade.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    biases = tuple(torch.randn(6, 4, 3, dtype=torch.float64) for _ in range(3))
    noise = rnade.noise((6, 4), None)
    torch.testing.assert_close(draw(rnade, noise, biases), rnade.ancestral(noise, biases)[0])


def test_a_triangular_system_is_solved_by_a_scan() -> None:
    L = torch.randn(4, 4, dtype=torch.float64).tril(-1) + 2 * torch.eye(4, dtype=torch.float64)
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(solved(L, x @ L.mT), x)
