"""Colors and shapes of clusters and classes, the same in every picture; shape always goes with color."""

# M. Okabe and K. Ito, "Color Universal Design", https://jfly.uni-koeln.de/color/ (black left out: it is for text).
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#7F7F7F")
MARKERS = ("circle", "square", "triangle", "diamond", "cross", "star", "down", "hexagon")
