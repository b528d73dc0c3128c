"""What `tierwise validate` prints and writes: one file a kind of measurement, with a function ``validate``."""
