"""Row 1: tensors only. Nothing here knows what a layer, a model or a document is."""
