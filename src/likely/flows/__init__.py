"""Exact-likelihood densities: bijections, base laws, and the flows they make."""

from likely.flows.actnorm import ActNorm, NotInitialised
from likely.flows.base import Base, StandardLogistic, StandardNormal
from likely.flows.bijection import Bijection, Chain, Inverse, Reshape
from likely.flows.check import Check, Layer, check
from likely.flows.convnets import ConvNet, PooledConvNet, ResidualConvNet
from likely.flows.coupling import AdditiveCoupling, Coupling
from likely.flows.exact import ExactDensity
from likely.flows.flow import Flow, FlowDistribution
from likely.flows.histogram import Histogram
from likely.flows.image_models import glow, masked, realnvp
from likely.flows.masked import MaskedFlow
from likely.flows.masks import random_missing
from likely.flows.models import MODELS, nice, nsf
from likely.flows.networks import MLP
from likely.flows.permutation import Permutation
from likely.flows.plu import plu_compose, plu_factor
from likely.flows.plu_conv import PLUConv
from likely.flows.plu_coupling import PLUCoupling
from likely.flows.preprocess import Centred, Logit
from likely.flows.scaling import DiagonalScaling
from likely.flows.spline import Spline
from likely.flows.splits import Checkerboard, Partition, Split, channel_halves, halves, interleaved
from likely.flows.squeeze import FactorOut, Squeeze
from likely.flows.transforms import Affine, Elementwise
from likely.flows.unet import UNet

__all__ = [
    "MLP",
    "MODELS",
    "ActNorm",
    "AdditiveCoupling",
    "Affine",
    "Base",
    "Bijection",
    "Centred",
    "Chain",
    "Check",
    "Checkerboard",
    "ConvNet",
    "Coupling",
    "DiagonalScaling",
    "Elementwise",
    "ExactDensity",
    "FactorOut",
    "Flow",
    "FlowDistribution",
    "Histogram",
    "Inverse",
    "Layer",
    "Logit",
    "MaskedFlow",
    "NotInitialised",
    "PLUConv",
    "PLUCoupling",
    "Partition",
    "Permutation",
    "PooledConvNet",
    "Reshape",
    "ResidualConvNet",
    "Spline",
    "Split",
    "Squeeze",
    "StandardLogistic",
    "StandardNormal",
    "UNet",
    "channel_halves",
    "check",
    "glow",
    "halves",
    "interleaved",
    "masked",
    "nice",
    "nsf",
    "plu_compose",
    "plu_factor",
    "random_missing",
    "realnvp",
]
