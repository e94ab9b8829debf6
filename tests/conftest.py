"""Shared by all tests. Its being here also lets them import the helper modules beside it."""
