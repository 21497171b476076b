"""Row 5: query gradients meet training traces and leave scores."""
