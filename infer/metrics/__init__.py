"""What a trained network and a file's images are measured by: tensors in, numbers out."""
