"""Proof that an artefact computes what its model computes."""
