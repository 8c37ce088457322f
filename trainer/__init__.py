"""From labelled archives to bundles. Empty so far: the first recipe to be trained brings its own files."""
