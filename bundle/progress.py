"""Bars on the standard error for what takes long."""

from __future__ import annotations

from collections.abc import Callable

from tqdm import tqdm

Progress = Callable[[int, int], None]  # steps done, steps in all
Report = Callable[[float, float, float], None]  # seconds done, seconds in all, loss


def console_progress() -> Progress:
    """Return a callback that shows a bar on the standard error, one for each scan."""
    bar: list[tqdm] = []

    def progress(done: int, total: int) -> None:
        if not bar:
            bar.append(tqdm(total=total, desc="sampling", unit="step", mininterval=0.5))
        bar[0].update(done - bar[0].n)
        if done == total:
            bar.pop().close()

    return progress


def adapt_progress(what: str = "adapting") -> Report:
    """Return a callback that shows a bar of seconds, the loss and the time left on the standard error."""
    bar: list[tqdm] = []

    def report(done: float, total: float, loss: float) -> None:
        if not bar:
            layout = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s{postfix}"
            bar.append(tqdm(total=total, desc=what, bar_format=layout, mininterval=1.0))
        bar[0].set_postfix_str(f"loss={loss:.4f}, {tqdm.format_interval(total - done)} left", refresh=False)
        bar[0].update(done - bar[0].n)
        if done >= total:
            bar.pop().close()

    return report
