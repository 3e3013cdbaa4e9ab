"""The colours of pages, on light and on dark paper; a browser takes those that its user prefers."""

from __future__ import annotations

PALETTE = {
    # name: on light paper, on dark paper
    "paper": ("#ffffff", "#15191e"),
    "ink": ("#1a1a1a", "#e6e9ec"),
    "quiet": ("#57606a", "#a5afba"),
    "rule": ("#d5dbe1", "#3b444e"),
    "head": ("#f3f5f7", "#20272e"),
    "link": ("#1d5b9e", "#7db7ff"),
    "good": ("#1c5e20", "#7fce84"),
    "bad": ("#9b1c1c", "#ff9a92"),
    "marked": ("#eef5ea", "#1f3323"),
    "private": ("#fff6e9", "#33281a"),
    "private-edge": ("#b35900", "#d98a3a"),
    # Series of plots, in order; `pale` is behind them.
    "s0": ("#1f4e79", "#6fb1ee"),
    "s1": ("#b85c00", "#f0a04b"),
    "s2": ("#3d7a3d", "#7fc97f"),
    "s3": ("#7a3d7a", "#d494d4"),
    "s4": ("#555555", "#b9b9b9"),
    "s5": ("#a03030", "#f08a8a"),
    "pale": ("#c9d3dd", "#414d59"),
    # Entity types, in order: their lines, and what is behind their names, which have the colour of paper.
    "c0": ("#1d5b9e", "#7db7ff"),
    "c1": ("#a8430b", "#f5a268"),
    "c2": ("#2d6a2d", "#86cf86"),
    "c3": ("#8a2d86", "#e29ae0"),
    "c4": ("#a3222f", "#ff959d"),
    "c5": ("#00676b", "#5fc9ce"),
    "c6": ("#6b4f00", "#dcb94d"),
    "c7": ("#4b4fa8", "#a9adff"),
    "c8": ("#7a3b5c", "#e39bc0"),
    "c9": ("#4a5a2a", "#b4cd83"),
    # Behind the marks of each kind of error, in order.
    "k1": ("#fff0a8", "#4d4413"),
    "k2": ("#e4dcff", "#3c3163"),
    "k3": ("#ffdcb8", "#55371a"),
    "k4": ("#ffd4d4", "#5a2427"),
    "k5": ("#cfe6ff", "#1d3f5e"),
}
"""By the name of its CSS variable. Text can be read on what is behind it: a test computes each contrast."""

LIGHT = {name: light for name, (light, _) in PALETTE.items()}
"""The colours that plots are drawn in before they become variables."""

SHADES = tuple(LIGHT[f"s{index}"] for index in range(6))
"""Of the series of a plot, in order."""

TYPES = 10
"""How many entity types have a colour of their own."""
