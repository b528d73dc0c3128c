"""The compiled event loop: state in arrays and records, one noun a file, policies as functions with one signature."""
