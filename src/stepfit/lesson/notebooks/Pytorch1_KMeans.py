# %% [markdown]
# # k-means in PyTorch
#
# **You will be able to** write k-means yourself, say the shape of every tensor in it, and recognize its usual
# mistakes by what they do. Then you run your own code on ten thousand real digits.
#
# **You need** tensors and their shapes (`Tutorial1_Pytorch_Basics`). **Plan 70 minutes.**
#
# **How to work.** Where a line says `# To Do`, put your code in place of `...` and run the cell. The check at the end
# of the cell tells you what is right, or names the mistake. Stuck? Run `hint("2.1")` in a new cell; there are three
# hints for each exercise. After a pass or three tries, `solution("2.1")` shows one way to do it, and there are others.
#
# The words and letters are those of the page:
#
# | letter | means | in code |
# |---|---|---|
# | $n$ | number of points | `n = len(x)` |
# | $d$ | features of each point | `x` has shape `(n, d)` |
# | $k$ | number of centers (elsewhere: centroids) | `centers` has shape `(k, d)` |
# | label | the number of a point's nearest center | `labels` has shape `(n,)` |
# | inertia | sum of squared distances, each point to its own center | one number |

# %%
import torch

from stepfit import datasets, lloyd, record
from stepfit.lesson import check, hint, show, solution

# %% [markdown]
# ## Watch it first (3 minutes)
# **Goal.** See the whole algorithm once before you build it.
#
# Six steps: (1) choose $k$; (2) start from $k$ different points; (3) measure every distance; (4) label each point with
# its nearest center; (5) move each center to the mean of its points; (6) repeat 3 to 5 until no label changes. Steps 3
# and 4 are the *assignment*, step 5 is the *update*.
#
# **Predict.** Four clouds, four centers, a bad start. Which center will move the farthest? Run the cell, press
# **Assign** once, decide, then play.

# %%
plane, _ = datasets.blobs(n=600, k=4, spread=1.3, seed=1)  # (600, 2)
run = record(lloyd(plane, k=4, start="random", seed=4))
show(run, plane)

# %% [markdown]
# ## Six points by hand (4 minutes)
# **Goal.** Do the arithmetic once, so that no line of code will be a riddle.
#
# | A | B | C | D | E | F |
# |---|---|---|---|---|---|
# | (0, 0) | (3, 0) | (0, 3) | (6, 7) | (8, 7) | (7, 10) |
#
# **Predict.** Start from A and B. On paper: which label does each point get? Where do the two centers go? Then run.
#
# `lloyd` is stepfit's k-means. It gives one step after the other, so a plain `for` loop is enough to look inside.

# %%
six = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [6.0, 7.0], [8.0, 7.0], [7.0, 10.0]])  # (6, 2)

for step in lloyd(six, k=2, start=six[:2]):
    print(f"step {step.index}: labels {step.labels.tolist()}, inertia {step.inertia:g}")
    print(f"        centers {step.centers.tolist()} go to {step.next_centers.tolist()}")

# %% [markdown]
# **Explain.** In the last step no label changed. Why does that mean that nothing will ever change again?
#
# Now you build it, piece by piece.
#
# ## The start (4 minutes)
# **Goal.** Draw $k$ *different* points. First, two ways to take rows out of a tensor. **Predict** what each `print`
# will show.

# %%
small = torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])  # (3, 2)

picked = small[torch.tensor([2, 0])]  # rows by number: a copy, (2, 2)
picked[0] = 99.0
print("after writing into the picked rows:", small.tolist())

sliced = small[:2]  # a slice: the same memory, seen through a window
sliced[0] = 99.0
print("after writing into the slice:      ", small.tolist())

# %% [markdown]
# **Explain.** A slice shares memory with its tensor. Centers will be moved; if they are a slice of the data, the data
# moves too.
#
# So take rows by number, and the numbers must differ. `torch.randint` may draw one twice. `torch.randperm(n)` shuffles
# 0 to $n-1$, and no number comes twice.


# %% exercise="2.1"
def choose_start(x, k):
    """Draw k different rows of x at random: (n, d) -> (k, d)."""
    # To Do: the drawn rows, (k, d); n is len(x)
    # BEGIN SOLUTION
    start = x[torch.randperm(len(x))[:k]]
    # END SOLUTION
    return start


check("2.1")

# %% [markdown]
# ## Every point meets every center (6 minutes)
# **Goal.** All $n \times k$ squared distances without a loop. The tool is broadcasting: an axis of length 1 stretches
# to fit. Here it is for single numbers. **Predict** the shape and the numbers of `table`.

# %%
a = torch.tensor([10.0, 20.0, 30.0])  # (3,)
b = torch.tensor([1.0, 2.0])  # (2,)
column, row = a.unsqueeze(1), b.unsqueeze(0)  # (3, 1) and (1, 2)
table = column - row
print(tuple(column.shape), "-", tuple(row.shape), "=", tuple(table.shape))
print(table)

# %% [markdown]
# **Explain.** `table[i, j]` is `a[i] - b[j]`: every number met every number.
#
# For points it is the same with one axis more, the features, which stays last. `(n, 1, d)` minus `(1, k, d)` gives
# `(n, k, d)`. Then square, and add up over one of the three axes. Which one?


# %% exercise="2.2"
def squared_distances(x, centers):
    """Measure every point against every center: (n, d), (k, d) -> (n, k)."""
    # To Do: each point minus each center, (n, k, d)
    # BEGIN SOLUTION
    pairs = x.unsqueeze(1) - centers.unsqueeze(0)
    # END SOLUTION
    # To Do: the squared distances, (n, k)
    # BEGIN SOLUTION
    distances = pairs.square().sum(dim=2)
    # END SOLUTION
    return distances


check("2.2")

# %% [markdown]
# We leave the root out: the center that is nearest is nearest by squared distance too.
#
# ## The nearest center (2 minutes)
# **Goal.** One label for each point. `argmin` tells *where* the smallest number is, and its `dim` is the axis that
# disappears. **Predict:** a table of distances has shape `(n, k)`. What shape does `argmin(dim=0)` have, what shape
# `argmin(dim=1)`, and which of them answers "which center is nearest to this point"?


# %% exercise="2.3"
def nearest(distances):
    """Give each point the number of its nearest center, on a tie the lowest: (n, k) -> (n,)."""
    # To Do: the labels, (n,)
    # BEGIN SOLUTION
    labels = distances.argmin(dim=1)
    # END SOLUTION
    return labels


check("2.3")

# %% [markdown]
# ## The update (5 minutes)
# **Goal.** Each center moves to the mean of its points: the sum of its points divided by how many there are.
#
# `labels == j` is a mask, and `x[labels == j]` are the points of center `j`. **Predict** the four lines. Of the
# last two, only one is right: which?

# %%
labels_of_six = torch.tensor([0, 1, 0, 1, 1, 1])  # as at step 0 of the run by hand

print("points of center 0:", six[labels_of_six == 0].tolist())
print("their sum:         ", six[labels_of_six == 0].sum(dim=0).tolist())

sums_of_six = torch.tensor([[0.0, 3.0], [24.0, 24.0]])  # (2, 2), a row a center
counts_of_six = torch.tensor([2, 4])  # (2,)
print("divided by (2,):   ", (sums_of_six / counts_of_six).tolist())
print("divided by (2, 1): ", (sums_of_six / counts_of_six.unsqueeze(1)).tolist())

# %% [markdown]
# **Explain.** Shapes are lined up from the right, so `(2,)` is taken as a *row* and divides the columns. Here
# $k = d = 2$, so nothing fails, and the answer is wrong. With $k \ne d$ you would get an error, and be glad of it.


# %% exercise="2.4"
def new_centers(x, labels, centers):
    """Give the mean of each center's points: (n, d), (n,), (k, d) -> (k, d)."""
    k = len(centers)
    counts = labels.bincount(minlength=k)  # (k,)
    # To Do: the sum of each center's points, a row a center, (k, d); a loop over range(k) and torch.stack will do
    # BEGIN SOLUTION
    sums = torch.stack([x[labels == j].sum(dim=0) for j in range(k)])
    # END SOLUTION
    # To Do: the means, (k, d)
    # BEGIN SOLUTION
    means = sums / counts.unsqueeze(1)
    # END SOLUTION
    return means


check("2.4")

# %% [markdown]
# ## A center without points (4 minutes)
# **Goal.** See what 0/0 does, and stop it.
#
# Two equal centers: `argmin` gives every tie to the first, so the second has no points. **Predict:** what is its mean,
# and what happens in the steps after? (`empty="nan"` asks `lloyd` to do what plain code does.)

# %%
twins = six[[0, 0, 3]]  # A, A, D
for step in lloyd(six, k=3, start=twins, empty="nan", max_steps=4):
    print(f"step {step.index}: points per center {step.counts.tolist()}, centers {step.centers.tolist()}")

# %% [markdown]
# **Explain.** NaN is *not a number*, and `argmin` takes it for the smallest of all. So one lost center draws all
# points, and then the others are lost.
#
# The simplest cure: a center without points keeps its place. `torch.where(condition, this, that)` chooses for each
# element; a condition of shape `(k, 1)` chooses whole rows.


# %% exercise="2.5"
def update(x, labels, centers):
    """Move each center to the mean of its points; one without points stays: -> (k, d)."""
    means = new_centers(x, labels, centers)  # (k, d), NaN where a center has no points
    counts = labels.bincount(minlength=len(centers))  # (k,)
    # To Do: the mean where a center has points, and the old center where it has none, (k, d)
    # BEGIN SOLUTION
    following = torch.where(counts.unsqueeze(1) > 0, means, centers)
    # END SOLUTION
    return following


check("2.5")

# %% [markdown]
# ## One whole step (2 minutes)
# **Goal.** Put the pieces together: distances, labels, new centers. You have a function for each.


# %% exercise="2.6"
def my_step(x, centers):
    """Do one step of k-means: (n, d), (k, d) -> labels (n,), next centers (k, d)."""
    # To Do: the pair (labels, next_centers)
    # BEGIN SOLUTION
    labels = nearest(squared_distances(x, centers))
    return labels, update(x, labels, centers)
    # END SOLUTION


check("2.6")

# %% [markdown]
# Now watch your own code. The player runs your step beside ours, and stops where they first differ.

# %%
show(my_step)

# %% [markdown]
# ## The inertia (3 minutes)
# **Goal.** Measure how good the centers are: the sum of the squared distances of the points to their *own* centers.
#
# `centers[labels]` has a row for each point: its own center. **Predict** its shape.


# %% exercise="2.7"
def inertia(x, labels, centers):
    """Add up the squared distances of the points to their own centers: -> one number."""
    # To Do: the inertia, ()
    # BEGIN SOLUTION
    total = (x - centers[labels]).square().sum()
    # END SOLUTION
    return total


check("2.7")

# %% [markdown]
# **Watch it from outside.** A step of `lloyd` has `labels`, `centers` and `inertia` that belong together, so yours can
# stand beside ours. **Predict:** can the number ever rise?

# %%
for step in lloyd(plane, k=4, start="random", seed=4):
    yours = inertia(plane, step.labels.long(), step.centers)
    print(f"step {step.index:2}: {step.changed:3} labels change, inertia {step.inertia:8.1f}, yours {yours}")

# %% [markdown]
# **Explain.** Neither half of a step can raise it. A point only changes to a nearer center, and the mean is the place
# from which the squared distances to a set of points add up to least.
#
# ## Until nothing changes (6 minutes)
# **Goal.** The loop. Keep the labels of the step before, compare, stop when they are equal.
#
# **Predict** the two answers. Here lies the trap of this exercise.

# %%
old = torch.tensor([1.0, 2.0])
new = old  # a second name for the same tensor
new[0] = 5.0
print("a second name: equal?", new.equal(old))

old = torch.tensor([1.0, 2.0])
new = old.clone()  # a tensor of its own
new[0] = 5.0
print("a clone:       equal?", new.equal(old))

# %% [markdown]
# **Explain.** `new = old` copies nothing. If the old centers *are* the new ones, they are always equal, and the loop
# stops at once. Make a new tensor (`centers = ...`) instead of writing into the old one (`centers[:] = ...`).
#
# Call `step(x, centers)` for each step: it is `my_step` unless somebody asks for another.


# %% exercise="2.8"
def kmeans(x, centers, max_steps=100, step=my_step):
    """Do steps from these centers until no label changes, at most max_steps: -> labels (n,), centers (k, d)."""
    # To Do: the loop, and at its end the pair (labels, centers)
    # BEGIN SOLUTION
    before = torch.full((len(x),), -1)  # (n,), nobody belongs anywhere yet
    for _ in range(max_steps):
        labels, centers = step(x, centers)
        if labels.equal(before):
            break
        before = labels
    return labels, centers
    # END SOLUTION


check("2.8")

# %% [markdown]
# ## Starts matter (2 minutes)
# **Goal.** See that complete is not the same as good. Eight small clouds, eight centers, ten random starts.
# **Predict:** how many of the ten runs end at the same inertia as the best one?

# %%
clouds, _ = datasets.blobs(n=600, k=8, spread=0.7, seed=0)  # (600, 2)
for seed in range(10):
    ends = [record(lloyd(clouds, k=8, start=start, seed=seed)).last.inertia for start in ("random", "k-means++")]
    print(f"seed {seed}: random start {ends[0]:6.0f}   k-means++ {ends[1]:6.0f}")

# %% [markdown]
# **Explain.** All these runs are complete: another million steps would change nothing. k-means goes downhill to the
# nearest valley, and a cloud that no center starts in may never get one. The start **k-means++** prefers points that
# are far from the centers so far. And for anything that matters, run several seeds and keep the best.
#
# ## Less memory (5 minutes)
# **Goal.** The same distances without the block of shape `(n, k, d)`. **Predict** how large that block is for the ten
# thousand digits that wait below, and ten centers. Then run.

# %%
n, k, d = 10_000, 10, 784
print(f"the block (n, k, d): {n * k * d * 4 / 1e6:.1f} MB    the result (n, k): {n * k * 4 / 1e6:.1f} MB")

# %% [markdown]
# School algebra does without it:
#
# $$\lVert x - c \rVert^2 = \lVert x \rVert^2 - 2\, x \cdot c + \lVert c \rVert^2$$
#
# The products $x \cdot c$ of all points and all centers are *one* matrix product. The two squared lengths are a column
# and a row, and meet by broadcasting. Beware of rounding: where a point lies on its center, large numbers cancel, and
# a tiny *negative* distance can be left over. `clamp_min(0)` lifts it to 0.


# %% exercise="2.9"
def product_distances(x, centers):
    """Give the same as squared_distances, and never hold (n, k, d) numbers: (n, d), (k, d) -> (n, k)."""
    # To Do: x . c for every point and every center, (n, k)
    # BEGIN SOLUTION
    products = x @ centers.T
    # END SOLUTION
    # To Do: the squared distances, (n, k), none below 0
    # BEGIN SOLUTION
    distances = x.square().sum(dim=1).unsqueeze(1) - 2 * products + centers.square().sum(dim=1)
    return distances.clamp_min(0)
    # END SOLUTION


check("2.9")

# %% [markdown]
# ## Sums without a loop (3 minutes)
# **Goal.** Let a matrix product add up the points of each center. With 1,000 centers the loop of 2.4 makes 1,000
# passes over the data.
#
# A **one-hot** table has a row for each point and a 1 in the column of its label. **Predict** what its transpose times
# `six` will be.

# %%
one_hot = torch.nn.functional.one_hot(labels_of_six, 2)  # (6, 2)
print(one_hot.T)
print("points per center:", one_hot.sum(dim=0).tolist())
print(one_hot.dtype, "for whole numbers;", six.dtype, "for the points")

# %% [markdown]
# **Explain.** Row $j$ of the transpose picks the points of center $j$, and the product adds them up. Both sides of a
# product need the same dtype: `.to(x.dtype)`.


# %% exercise="2.10"
def sums_by_product(x, labels, k):
    """Add up the points of each center by a matrix product: (n, d), (n,) -> (k, d)."""
    # To Do: the sums, (k, d)
    # BEGIN SOLUTION
    one_hot = torch.nn.functional.one_hot(labels, k).to(x.dtype)
    sums = one_hot.T @ x
    # END SOLUTION
    return sums


check("2.10")

# %% [markdown]
# ## Sums without a table (3 minutes)
# **Goal.** The same once more, and not even the table of $n \times k$ numbers. `sums.index_add_(0, labels, x)` walks
# through the points: row `labels[i]` of `sums` grows by `x[i]`. **Predict** the result for single numbers:

# %%
totals = torch.zeros(3)
totals.index_add_(0, torch.tensor([2, 0, 2]), torch.tensor([10.0, 20.0, 30.0]))
print(totals)


# %% exercise="2.11"
def sums_by_index(x, labels, k):
    """Add up the points of each center, each point into its own row: (n, d), (n,) -> (k, d)."""
    # To Do: the sums, (k, d); begin with zeros of x's dtype
    # BEGIN SOLUTION
    sums = torch.zeros(k, x.shape[1], dtype=x.dtype)
    sums = sums.index_add_(0, labels, x)
    # END SOLUTION
    return sums


check("2.11")

# %% [markdown]
# ## The fast step (3 minutes)
# **Goal.** A step of the same kind as `my_step`, made of the new pieces: no block, no loop over centers. A center
# without points keeps its place here too.


# %% exercise="2.12"
def fast_step(x, centers):
    """Do what my_step does, with less memory and without a loop: -> labels (n,), next centers (k, d)."""
    # To Do: the pair (labels, next_centers)
    # BEGIN SOLUTION
    k = len(centers)
    labels = nearest(product_distances(x, centers))
    counts = labels.bincount(minlength=k).unsqueeze(1)  # (k, 1)
    means = sums_by_index(x, labels, k) / counts
    return labels, torch.where(counts > 0, means, centers)
    # END SOLUTION


check("2.12")

# %% [markdown]
# ## Ten thousand digits (3 minutes)
# **Goal.** Real data into the right form. The pixels come as `uint8`, whole numbers from 0 to 255. **Predict** what
# the three lines print.

# %%
images, digits = datasets.mnist()  # (10000, 784) and (10000,), of the test part
print(tuple(images.shape), images.dtype, "from", images.min().item(), "to", images.max().item())
print("3 - 5 =", (torch.tensor(3, dtype=torch.uint8) - torch.tensor(5, dtype=torch.uint8)).item())
try:
    images.mean()
except RuntimeError as error:
    print("the mean:", str(error).partition(".")[0])

# %% [markdown]
# **Explain.** Eight bits know nothing below 0, so they wrap around to the top, and a mean needs fractions. Turn pixels
# into floats *before* you calculate with them. Bring them to 0..1 as well: k-means does not need it (all distances
# shrink alike), but the networks that come later do.


# %% exercise="2.13"
def to_points(images):
    """Turn pixels from 0 to 255 into floats from 0 to 1: (n, 784) -> (n, 784)."""
    # To Do: the points, (n, 784)
    # BEGIN SOLUTION
    points = images.float() / 255
    # END SOLUTION
    return points


check("2.13")

# %% [markdown]
# ## Your k-means on the digits (3 minutes)
# **Goal.** Run what you built. Nothing in it cares that $d$ is 784 now. `rows` are the same ten pictures as on the
# page.
#
# **Predict.** The centers start as ten digits. What is the mean of five hundred different threes? And of a cluster
# that holds fours and nines?

# %% exercise="2.14"
rows = torch.randperm(10_000, generator=torch.Generator().manual_seed(0))[:10]  # (10,)

# To Do: kmeans of the digits as points, from their rows `rows`, at most 20 steps of fast_step: (labels, centers)
# BEGIN SOLUTION
points = to_points(images)
clusters = kmeans(points, points[rows], max_steps=20, step=fast_step)
# END SOLUTION

check("2.14")

# %% [markdown]
# Here is the same run of `lloyd`, as pictures. Each tile is a center; under it, how many digits belong to it, and
# which digit most of them show.

# %%
pixels = images / 255  # (10000, 784), float
wall = record(lloyd(pixels, k=10, start=pixels[rows], max_steps=20))
show(wall, pixels, digits)

# %% [markdown]
# **Explain.** A center is a mean, so it is blurred where its pictures disagree.
#
# ## Ten centers are not ten digits (4 minutes)
# **Goal.** Measure how well clusters and digits agree: the **purity** is the share of pictures that show what most of
# their cluster shows. The true digits are only used for this. k-means never sees them.
#
# `table[j, t]` counts the pictures of digit `t` in cluster `j`. **Predict** the purity: ten clusters, ten digits.


# %% exercise="2.15"
def purity(labels, digits, k):
    """Give the share of pictures that show what most of their cluster shows: (n,), (n,) -> a number from 0 to 1."""
    table = torch.zeros(k, 10, dtype=torch.int64)
    table.index_put_((labels, digits), torch.tensor(1), accumulate=True)  # (k, 10)
    # To Do: how many pictures of each cluster show its most frequent digit, (k,)
    # BEGIN SOLUTION
    most = table.amax(dim=1)
    # END SOLUTION
    # To Do: the purity, from 0 to 1
    # BEGIN SOLUTION
    share = most.sum() / len(labels)
    # END SOLUTION
    return share


check("2.15")

# %%
print("purity:", purity(wall.last.labels.long(), digits, 10))
for j in range(10):
    shown = digits[wall.last.labels == j].bincount(minlength=10)
    print(f"cluster {j}: {shown.sum().item():4} pictures, mostly {shown.argmax().item()}")

# %% [markdown]
# **Explain.** Which digits have two centers, and which have none? Nothing went wrong. k-means was asked for a small
# inertia, and nobody told it what a digit is. In pixels, an upright 1 is farther from a slanted 1 than the mean four is
# from the mean nine. *Unsupervised* means just this: you get the groups that the distances make.
#
# ## Check yourself (3 minutes)
# Answer first, then open.
#
# <details><summary>1. Your inertia rose between two steps. What does that tell you?</summary>
#
# That there is a bug: neither half of a step can raise it. Likely ones are `argmax` for `argmin`, or labels of one
# step measured against the centers of another.
# </details>
#
# <details><summary>2. Your loop stops after one step, and the result looks bad. Where do you look first?</summary>
#
# At the comparison. Old and new may be two names of the same tensor, written in place, and then they are always equal.
# </details>
#
# <details><summary>3. Your code works for k = d = 2 and fails for k = 10. Which line?</summary>
#
# The division by the counts. They must be a column, `(k, 1)`; a `(k,)` is taken as a row, and fits only if k = d.
# </details>
#
# <details><summary>4. Inertia falls when k grows. Why not take k = n?</summary>
#
# Then each point is its own center, the inertia is 0, and you have learned nothing. Look for the k from which one more
# center stops helping much.
# </details>

# %% [markdown]
# ## Where do you stand?
# This lists all exercises. Next comes `Pytorch2_Linear_Logistic_Regression_For_Classification`.

# %%
check()
