"""What a trained network is measured by: tensors in, numbers out."""
