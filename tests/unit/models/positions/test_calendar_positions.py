"""The calendar's code: harmonics, weekday vectors, and the learned form that starts from them."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from finscale.models.layers.positions.calendar import CalendarPositions, Time2VecPositions
from finscale.models.position_config import CalendarConfig, Time2VecConfig
from finscale.models.position_counts import position_flops

D = 32
COUNTS = {"session_bars": 48, "harmonics": 5, "month_harmonics": 3, "year_harmonics": 4, "d_weekday": 6}


def bars() -> Tensor:
    """Bar of session, weekday, day of month and of year, (2, 60, 4)."""
    generator = torch.Generator().manual_seed(0)
    ends = ((0, 48), (0, 7), (1, 32), (1, 367))
    return torch.stack([torch.randint(*end, (2, 60), generator=generator) for end in ends], dim=-1)


def test_the_default_code_is_96_wide() -> None:
    config = CalendarConfig(session_bars=288)
    assert config.d_code == 96
    assert CalendarPositions(config, D).code(bars()).shape == (2, 60, 96)


def test_every_field_is_written_in_its_harmonics_and_the_weekday_in_its_vector() -> None:
    positions, calendar = CalendarPositions(CalendarConfig(**COUNTS), D).double(), bars()
    code, start = positions.code(calendar).detach().numpy(), 0
    for column, period, n in ((0, 48, 5), (2, 31, 3), (3, 366, 4)):
        angles = 2 * np.pi * calendar[..., column, None].numpy() * np.arange(1, n + 1) / period
        np.testing.assert_allclose(code[..., start : start + n], np.sin(angles), atol=1e-12)
        np.testing.assert_allclose(code[..., start + n : start + 2 * n], np.cos(angles), atol=1e-12)
        start += 2 * n
    weekdays = positions.weekday.weight[calendar[..., 1]].detach().numpy()
    np.testing.assert_array_equal(code[..., start:], weekdays)


def test_the_code_is_mapped_linearly_and_added() -> None:
    positions, calendar = CalendarPositions(CalendarConfig(**COUNTS), D), bars()
    x = torch.randn(2, 60, D, generator=torch.Generator().manual_seed(1))
    code = positions.code(calendar)
    torch.testing.assert_close(positions.add(x, None, calendar) - x, positions.linear(code))


def test_sessions_repeat_and_the_time_of_day_is_smooth_across_their_border() -> None:
    positions = CalendarPositions(CalendarConfig(**COUNTS), D)
    day = torch.zeros(1, 96, 4, dtype=torch.int64)
    day[0, :, 0], day[0, :, 2:] = torch.arange(96), 1
    code = positions.code(day)[0][:, [0, 5]]  # sine and cosine of the first harmonic
    torch.testing.assert_close(code[:48], code[48:])
    moves = code.diff(dim=0).norm(dim=-1)
    torch.testing.assert_close(moves, moves[:1].expand(95))


def test_time2vec_starts_as_the_calendar_and_can_leave_it() -> None:
    fixed, free = (
        CalendarPositions(CalendarConfig(**COUNTS), D),
        Time2VecPositions(Time2VecConfig(**COUNTS), D),
    )
    free.load_state_dict(fixed.state_dict(), strict=False)
    calendar = bars()
    assert torch.equal(free.code(calendar), fixed.code(calendar))
    with torch.no_grad():
        free.rate_shift[0], free.phase_shift[5] = 0.5, 0.25
    code, bar = free.code(calendar).detach(), calendar[..., 0] / 48
    torch.testing.assert_close(code[..., 0], torch.sin(2 * torch.pi * 1.5 * bar), atol=1e-5, rtol=0)
    torch.testing.assert_close(code[..., 5], torch.cos(2 * torch.pi * bar + 0.25), atol=1e-5, rtol=0)
    assert torch.equal(code[..., 1:5], fixed.code(calendar)[..., 1:5].detach())


def test_the_operations_of_the_linear_map_are_counted() -> None:
    config = CalendarConfig(**COUNTS)
    positions, x = CalendarPositions(config, D), torch.zeros(1, 60, D)
    with FlopCounterMode(display=False) as counter:
        positions.add(x, None, bars()[:1])
    assert counter.get_total_flops() == position_flops(config, d_model=D, n_heads=4, n_tokens=60)
