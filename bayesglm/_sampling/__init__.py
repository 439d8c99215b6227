"""Posterior sampling of many neurons at once: mode, curvature, Laplace draws and the no-U-turn sampler."""
