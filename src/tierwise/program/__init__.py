"""What runs, without prices: ops over tensors, in nested repeats."""
