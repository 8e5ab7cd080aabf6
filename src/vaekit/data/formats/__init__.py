"""One file for each format that is read: `open(path, spec, sizes)` returns a `Table`."""
