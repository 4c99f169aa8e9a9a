"""Countermeasures that change the data, one file each: `build(data, config, tools) -> purify(batch)`.

`purify` takes a `tools.Batch` and returns x_le (B,3,S,S), float32 in [0,1]. What becomes of an image depends on the
image, its relative path, the seed and, for a method that `build` fits, on the images of the set; on nothing else. Names
joined by `+` are a chain (`_chained`).
"""
