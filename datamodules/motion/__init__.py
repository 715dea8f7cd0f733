"""Motion capture: readers of its formats, skeletons, features of rotations, pictures."""
