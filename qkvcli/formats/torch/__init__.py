"""What torch.save writes, read without PyTorch: nothing in it is run."""
