"""Exact-likelihood densities: bijections, base laws, and the flows they make."""

from likely.flows.base import Base, StandardLogistic, StandardNormal
from likely.flows.bijection import Bijection, Chain, Inverse, Reshape
from likely.flows.check import Check, check
from likely.flows.coupling import AdditiveCoupling, Split, halves, interleaved
from likely.flows.flow import Flow, FlowDistribution
from likely.flows.models import MODELS, nice
from likely.flows.networks import MLP
from likely.flows.scaling import DiagonalScaling

__all__ = [
    "MLP",
    "MODELS",
    "AdditiveCoupling",
    "Base",
    "Bijection",
    "Chain",
    "Check",
    "DiagonalScaling",
    "Flow",
    "FlowDistribution",
    "Inverse",
    "Reshape",
    "Split",
    "StandardLogistic",
    "StandardNormal",
    "check",
    "halves",
    "interleaved",
    "nice",
]
