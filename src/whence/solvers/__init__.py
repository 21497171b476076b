"""Row 2: (G + Λ) x = b for many right-hand sides at once, G known by its products alone.

    cg          conjugate gradient, preconditioned       each query its own steps, all sharing the products
    neumann     x ← x + α M⁻¹ (b − A x), with momentum    ASTRA; with M = I, LiSSA
    woodbury    a direct solve where G = RᵀR has few rows
    spectrum    trace and top eigenvalue → step, batch and depth

Functions of tensors only: what the products cost, and where they come from, is their caller's business.
"""
