"""What is here to compute on, and what keeps JAX from it. Nothing in this folder but `start` imports JAX."""
