#!/usr/bin/env bash
# A MONAI evaluator whose run ended with an error does nothing, without a word, when it is run again.
#
# Version: monai 1.6.1, pytorch-ignite 0.5.4, with torch 2.13.0.
# Common belief: `evaluator.run()` evaluates, every time: one that serves requests, or goes over many scans, may catch
#   what one of them raises (out of memory, a bad file) and be run on the next.
# Behaviour: the engine keeps the state of the run that was cut off, and the next `run()` takes itself for its rest, of
#   which there is none: no batch is read, no handler called, no error raised; what was computed before stays in its
#   state. Only the run after that works again. A new evaluator for each scan is the way round it.
# Output seen:
#   first run: RuntimeError
#   second run: 0 of 3 batches
#   third run: 3 of 3 batches
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet monai==1.6.1 pytorch-ignite==0.5.4
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import warnings

warnings.simplefilter("ignore")
import torch  # noqa: E402
from ignite.engine import Events  # noqa: E402
from monai.data import DataLoader, Dataset  # noqa: E402
from monai.engines import SupervisedEvaluator  # noqa: E402

logging.disable(logging.CRITICAL)


class Network(torch.nn.Module):
    fails = True

    def forward(self, image):
        if self.fails:
            raise RuntimeError("no memory is left, say")
        return image + 1


images = [{"image": torch.zeros(1, 4, 4), "label": torch.zeros(1, 4, 4)} for _ in range(3)]
network, batches = Network(), []
evaluator = SupervisedEvaluator(
    device=torch.device("cpu"), val_data_loader=DataLoader(Dataset(images), batch_size=1), network=network
)
evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: batches.append(engine.state.iteration))
try:
    evaluator.run()
except RuntimeError as error:
    print(f"first run: {type(error).__name__}")
network.fails = False
counts = []
for name in ("second", "third"):
    batches.clear()
    evaluator.run()
    counts.append(len(batches))
    print(f"{name} run: {len(batches)} of 3 batches")
assert counts == [0, 3], "an evaluator that an error ended runs again now"
PYTHON
