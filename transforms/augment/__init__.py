"""Random transforms of training: slices and heads as other scanners would have made them, thick and noised."""
