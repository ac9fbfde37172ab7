"""Teaching a network: data sets, handlers, the skull stripper's heads, running a configuration.

Transforms, eval, diffusion and all below may be imported. Start reading at `dataset.py`.
"""

import lazy_loader

# what configurations and programs name, imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bank": ["SliceBank"],
        "batches": ["ThickBatches", "Variation"],
        "data": ["label_bank", "training_images"],
        "dataset": ["CountingSampler", "SliceDataset", "SliceStacks"],
        "handlers": [
            "Autocast",
            "Checkpoints",
            "ExportWeights",
            "GradientClipper",
            "Progress",
            "ReportValidation",
            "ResumeBatches",
            "ResumeSampler",
            "SpreadLoss",
            "StopInTime",
            "TrainingBar",
            "WeightAverage",
            "warmup_cosine_scheduler",
        ],
        "head_dataset": ["HeadDataset", "find_sources", "load_sources", "save_sources"],
        "run": ["run_training"],
        "start": ["check_alone", "local_device", "names", "prepare", "run_alone", "set_seed"],
    },
)
