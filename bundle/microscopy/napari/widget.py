"""The widget: a layer, the factor, minutes, run, cancel and how far it is; the work is `Job`'s, in a thread."""

from __future__ import annotations

from threading import Event
from typing import Any

import napari
from magicgui.widgets import ComboBox, Container, FloatSpinBox, Label, ProgressBar, PushButton
from napari.layers import Image
from napari.qt.threading import create_worker
from superqt.utils import ensure_main_thread

from bida.errors import BidaError
from bida.microscopy.napari.job import OWN_MINUTES, Cancelled, Job, Restored, suggested_factor
from bida.microscopy.napari.layers import stack_of

PARTS = 1000  # of the bar


class RestoreWidget(Container):
    """Restore the planes between those of a stack, and add the result as a layer.

    Args:
        viewer: In which it is docked.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        """Make its parts."""
        self.viewer, self.cancelled = viewer, Event()
        self.worker: Any = None  # while there is work
        self.layer = ComboBox(label="stack", choices=self.images)
        self.factor = FloatSpinBox(label="factor", value=2.0, min=1.01, max=32.0, step=0.5)
        self.minutes = FloatSpinBox(label="minutes", value=OWN_MINUTES, min=0.0, max=1440.0, step=1.0)
        self.run = PushButton(text="Run")
        self.cancel = PushButton(text="Cancel", enabled=False)
        self.bar = ProgressBar(value=0, min=0, max=PARTS)
        self.said = Label(value="")
        self.factor.tooltip = "distance of the planes over that of the planes wanted"
        self.minutes.tooltip = "of training on the stack's own planes; 0: the shipped network as it is"
        super().__init__(widgets=[self.layer, self.factor, self.minutes, self.run, self.cancel, self.bar, self.said])
        self.said.native.setWordWrap(True)
        for change in (viewer.layers.events.inserted, viewer.layers.events.removed):
            change.connect(self.layer.reset_choices)
        self.layer.changed.connect(self.suggest)
        self.run.clicked.connect(self.start)
        self.cancel.clicked.connect(self.cancelled.set)
        self.native.destroyed.connect(self.leave)
        self.suggest()

    def images(self, _: Any) -> list[Image]:
        """Return the viewer's images."""
        return [layer for layer in self.viewer.layers if isinstance(layer, Image)]

    def suggest(self) -> None:
        """Set the factor that would make the chosen layer's voxels isotropic."""
        layer = self.layer.value
        if layer is not None and layer.ndim == 3:
            self.factor.value = min(max(suggested_factor(layer.scale), self.factor.min), self.factor.max)

    def start(self) -> None:
        """Begin with the chosen layer."""
        layer = self.layer.value
        if layer is None:
            self.said.value = "open a stack first"
            return
        self.cancelled.clear()
        try:
            stack = stack_of(layer.data, layer.scale, layer.units, layer.name, layer.rgb)
            job = Job(stack, self.factor.value, self.minutes.value, self.tell, self.cancelled)
        except BidaError as error:
            self.said.value = str(error)
            return
        self.busy(True)
        self.worker = create_worker(outcome, job, _start_thread=False)
        self.worker.returned.connect(lambda found: self.show_result(found, layer, job.factor))
        self.worker.errored.connect(self.show_error)
        self.worker.start()

    @ensure_main_thread
    def tell(self, share: float, what: str) -> None:
        """Show how far the work is."""
        self.bar.value, self.said.value = round(PARTS * share), what

    def show_result(self, found: Restored | str, layer: Any, factor: float) -> None:
        """Add what came of the work as a layer, or show why there is nothing."""
        self.busy(False)
        if isinstance(found, str):
            self.bar.value, self.said.value = 0, found
            return
        self.viewer.add_image(
            found.stack.data[0],
            name=f"{layer.name} {factor:g}x",
            scale=(layer.scale[0] / factor, *layer.scale[1:]),
            translate=layer.translate,
            rotate=layer.rotate,
            units=layer.units,
            axis_labels=layer.axis_labels,
            contrast_limits=layer.contrast_limits,
            colormap=layer.colormap,
            blending=layer.blending,
            metadata={"isotropy": found.isotropy, "verdict": found.verdict},
        )
        self.bar.value, self.said.value = PARTS, f"{found.verdict}\n{found.isotropy}"

    def show_error(self, error: Exception) -> None:
        """Let go after an error that is none of the user's; napari shows it."""
        self.busy(False)
        self.bar.value, self.said.value = 0, f"{type(error).__name__}: {error}"

    def leave(self) -> None:
        """Cancel the work of a widget that was closed, and show nothing of it."""
        self.cancelled.set()
        self.viewer.layers.events.disconnect(self.layer.reset_choices)
        if self.worker is not None:
            self.worker.returned.disconnect()
            self.worker.errored.disconnect()
            self.worker = None

    def busy(self, yes: bool) -> None:
        """Allow what may be done while it works, or else what may be done while it rests."""
        self.cancel.enabled = yes
        for part in (self.layer, self.factor, self.minutes, self.run):
            part.enabled = not yes


def outcome(job: Job) -> Restored | str:
    """Do a job; return what came of it, or in a line why there is nothing."""
    try:
        return job.run()
    except Cancelled:
        return "cancelled"
    except BidaError as error:
        return str(error)
