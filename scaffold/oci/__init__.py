"""What an image is: spec, reference, layout, tar, variants, the local store, and registries."""
