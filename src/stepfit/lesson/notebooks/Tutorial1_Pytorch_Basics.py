# %% [markdown]
# # PyTorch basics
#
# **Goal.** Read the shape of any tensor, say what a line of PyTorch does to it, and take a step of gradient descent
# by hand. The next two notebooks, k-means and regression, need this and nothing more.
#
# **You need** Python, a little numpy, and the derivative of $x^2$. **Plan 35 minutes.**
#
# How it works:
#
# - Run a cell with Shift + Enter. Run them in order.
# - **Predict** means: say what will happen *before* you run the cell. A wrong guess teaches more than a right answer
#   that was only read.
# - **To Do** means: put your code where the `...` stands, run the cell, and read what the check says.
# - Stuck? Run `hint("1.2")` in a new cell: three hints, the last one is nearly the code. `solution("1.2")` opens after
#   you have passed, or after three tries. `check()` lists all exercises.

# %%
import matplotlib.pyplot as plt
import torch

from stepfit import datasets, linear_regression, record
from stepfit.lesson import check, hint, show, solution

# %% [markdown]
# ## Shape and dtype (1 minute)
#
# **Goal.** Look at a tensor and know what is in it.
#
# A tensor is a block of numbers, all of one kind. Its **shape** says how many there are along each axis, its **dtype**
# says which kind they are.
#
# **Predict.** The three lines below hold the same three numbers. Which of them hold the same dtype?

# %%
for numbers in (torch.tensor([1, 2, 3]), torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1, 2, 3.0])):
    print(numbers, "shape", tuple(numbers.shape), numbers.dtype)

# %% [markdown]
# One point is enough: a single `3.0` makes the whole tensor `float32`. Whole numbers alone become `int64`.
#
# Row numbers and labels are `int64`: they are counted. Everything that is measured, averaged or learned is `float32`:
# it needs room for fractions.

# %% [markdown]
# ## Ten thousand digits (1 minute)
#
# **Goal.** Meet real data, and its dtype.
#
# MNIST holds pictures of handwritten digits, 28 × 28 pixels each. Here every picture is one row of 784 numbers, from 0
# (paper) to 255 (ink). One byte is enough for that: the dtype is `uint8`, whole numbers from 0 to 255.
#
# **Predict.** What is the mean of the first picture? About 3, about 30, about 100?

# %%
images, digits = datasets.mnist()
print("images", tuple(images.shape), images.dtype, "- digits", tuple(digits.shape), digits.dtype)
try:
    print(images[0].mean())
except RuntimeError as error:
    print("PyTorch refuses:", error)

# %% [markdown]
# None of them. The mean of whole numbers is seldom whole, so it would not fit into the dtype, and PyTorch refuses to
# guess which one you want. Be glad: the next trap is silent.

# %% [markdown]
# ## Predict: three minus five (1 minute)
#
# **Goal.** Know what a `uint8` cannot hold.
#
# What does this line print?
#
# ```python
# print(torch.tensor(3, dtype=torch.uint8) - torch.tensor(5, dtype=torch.uint8))
# ```
#
# Write your guess below: a number, or `"error"`.

# %% exercise="1.1"
# To Do: your guess, a number or "error"
# BEGIN SOLUTION
guess_difference = 254
# END SOLUTION

check("1.1")

# %%
print(torch.tensor(3, dtype=torch.uint8) - torch.tensor(5, dtype=torch.uint8))

# %% [markdown]
# ## Make numbers to compute with (2 minutes)
#
# **Goal.** Change the dtype before you compute.
#
# `images.float()` gives the same numbers as `float32`. Now they can be subtracted, divided and averaged. It is usual to
# divide by 255 too, so that paper is 0 and ink is 1, whatever picture you look at.


# %% exercise="1.2"
def to_floats(pixels):
    """Turn pixels, whole numbers from 0 to 255, into float32 from 0 to 1."""
    # To Do: the same pixels as floats, from 0 (paper) to 1 (ink)
    # BEGIN SOLUTION
    floats = pixels.float() / 255
    # END SOLUTION
    return floats


check("1.2")

# %% [markdown]
# ## The axis that goes away (2 minutes)
#
# **Goal.** Take the mean over the axis that you mean.
#
# `dim=` names the axis that *goes away*. A table of shape (2, 3) has 2 rows and 3 columns:
#
# - `dim=0` squashes the rows: (2, 3) becomes (3,), one number for each column;
# - `dim=1` squashes the columns: (2, 3) becomes (2,), one number for each row.
#
# **Predict** all six numbers before you run the cell.

# %%
table = torch.tensor([[1.0, 2.0, 3.0], [5.0, 6.0, 10.0]])  # (2, 3)
print("dim=0:", table.mean(dim=0))  # (3,)
print("dim=1:", table.mean(dim=1))  # (2,)

# %% [markdown]
# Now you. In `x` a row is a picture and a column is a pixel. What is the mean picture? And how bright is each picture?


# %% exercise="1.3"
def means(x):
    """Give the mean row, (n, d) -> (d,), and the mean of each row, (n, d) -> (n,)."""
    # To Do: the mean row: one number for each column of x
    # BEGIN SOLUTION
    mean_row = x.mean(dim=0)
    # END SOLUTION
    # To Do: the mean of each row: one number for each row of x
    # BEGIN SOLUTION
    row_means = x.mean(dim=1)
    # END SOLUTION
    return mean_row, row_means


check("1.3")

# %% [markdown]
# ## From a row to a picture (2 minutes)
#
# **Goal.** Give the same numbers another shape.
#
# `reshape` reads the numbers in order, row by row, and writes them into the new shape in the same order. Nothing is
# computed. So any shape with 784 places will do, but only one of them is the picture.
#
# **Predict.** What will the second picture look like?


# %%
def draw(pictures):
    """Draw pictures side by side: (m, height, width)."""
    if pictures is ...:
        print("Nothing to draw yet: the To Do above is still open.")
        return
    widths = [picture.shape[1] for picture in pictures]
    _, axes = plt.subplots(1, len(pictures), figsize=(sum(widths) / 20, 1.5), width_ratios=widths, squeeze=False)
    for axis, picture in zip(axes[0], pictures):
        axis.imshow(picture.numpy(), cmap="gray_r")
        axis.axis("off")


row = images[0]  # (784,)
draw([row.reshape(28, 28), row.reshape(14, 56)])
print("This is a", digits[0].item())

# %% [markdown]
# In the second picture each line holds two lines of the first, side by side: every other line of the 7 went to the
# right.
#
# Now several pictures at once. Each row becomes a picture of its own, so the first axis has to stay.


# %% exercise="1.4"
def as_pictures(rows):
    """Turn rows of pixels into pictures: (m, 784) -> (m, 28, 28)."""
    # To Do: the same pixels as m pictures
    # BEGIN SOLUTION
    pictures = rows.reshape(-1, 28, 28)  # -1: as many as there are
    # END SOLUTION
    return pictures


check("1.4")

# %%
draw(as_pictures(images[:8]))
print("The first eight digits:", digits[:8].tolist())

# %% [markdown]
# ## Rows by their numbers (2 minutes)
#
# **Goal.** Index with a tensor.
#
# Put a tensor of row numbers between the brackets, and you get these rows, in this order, as often as they are named.
#
# **Predict.** What is the shape of the result, and what is its second row?

# %%
letters = torch.tensor([[10, 11], [20, 21], [30, 31]])  # (3, 2)
which = torch.tensor([2, 0, 2, 2])  # (4,)
print(letters[which])

# %% [markdown]
# In k-means there are k **centers**, and each of n points has a **label**: the number of the center that it belongs to.
# Give each point its own center. No loop is needed.


# %% exercise="1.5"
def own_centers(centers, labels):
    """Give each point the center that it belongs to: (k, d) and (n,) -> (n, d)."""
    # To Do: for each label, the row of centers with that number
    # BEGIN SOLUTION
    own = centers[labels]
    # END SOLUTION
    return own


check("1.5")

# %% [markdown]
# ## A view shares memory (2 minutes)
#
# **Goal.** Know when you hold a copy.
#
# **Predict.** We change `part`. What is in `whole` afterwards?

# %%
whole = torch.zeros(5)
part = whole[:2]
part[0] = 7
print(whole)

# %% [markdown]
# `whole[:2]` copies nothing. It is a **view**: a second window onto the same memory. `reshape`, `unsqueeze` and `.T` give
# views too. Mostly this is what you want, for it costs no time. It bites when you change the view.
#
# `.clone()` makes a copy with memory of its own. (An index tensor, as in `letters[which]`, copies too.)


# %% exercise="1.6"
def first_rows(x, k):
    """Give the first k rows, so that they can be changed and x stays as it is: (n, d) -> (k, d)."""
    # To Do: the first k rows of x, with memory of their own
    # BEGIN SOLUTION
    start = x[:k].clone()
    # END SOLUTION
    return start


check("1.6")

# %% [markdown]
# ## Broadcasting (1 minute)
#
# **Goal.** Know what happens when shapes differ.
#
# Write the two shapes one below the other, *from the right*. On each axis the sizes must be equal, or one of them must
# be 1. A 1 is stretched to the other size, and a missing axis counts as 1.
#
# ```
#   (3, 1)   a column
# + (1, 4)   a row
# = (3, 4)   all pairs
# ```
#
# Every entry of the column meets every entry of the row.
#
# **Predict** the second row of the sum.

# %%
column = torch.tensor([[10], [20], [30]])  # (3, 1)
line = torch.tensor([[1, 2, 3, 4]])  # (1, 4)
print(column + line)

# %% [markdown]
# ## Predict: a silent trap (1 minute)
#
# **Goal.** See the trap before you step into it.
#
# You have 600 answers `y` of shape (600,) and 600 predictions of shape (600, 1). You want the 600 errors. What is the
# shape of `y - prediction`?
#
# Write a shape such as `(600,)`, or `"error"`. Do it on paper: one shape below the other, from the right.

# %% exercise="1.7"
# To Do: your guess, a shape or "error"
# BEGIN SOLUTION
guess_shape = (600, 600)
# END SOLUTION

check("1.7")

# %%
print((torch.zeros(600) - torch.zeros(600, 1)).shape)

# %% [markdown]
# ## Take the mean away (3 minutes)
#
# **Goal.** Broadcast on purpose, and keep an axis for it.
#
# From each column take its mean: then every column has the mean 0. The shapes fit as they are: (2, 3) - (3,).

# %%
centered = table - table.mean(dim=0)  # (2, 3) - (3,) = (2, 3)
print(centered)
print("the means are now", centered.mean(dim=0))

# %% [markdown]
# For the *rows* it does not work like this: `table.mean(dim=1)` has shape (2,), and (2, 3) - (2,) does not fit. The
# means have to stand as a column, (2, 1). `mean(dim=1, keepdim=True)` keeps the squashed axis, with size 1.
#
# **Predict.** For which tables does it *fit* without `keepdim`, and give wrong numbers silently?


# %% exercise="1.8"
def rows_to_mean_zero(x):
    """Take from each row its own mean: (n, d) -> (n, d)."""
    # To Do: the mean of each row, as a column: (n, 1)
    # BEGIN SOLUTION
    row_mean = x.mean(dim=1, keepdim=True)
    # END SOLUTION
    # To Do: x without the means of its rows
    # BEGIN SOLUTION
    zero_mean = x - row_mean
    # END SOLUTION
    return zero_mean


check("1.8")

# %% [markdown]
# ## Every pair (3 minutes)
#
# **Goal.** Let every point meet every center. This is the heart of k-means.
#
# One point against all centers is easy: (d,) - (k, d) gives (k, d). For *n* points you need one more axis.
# `unsqueeze(1)` puts an axis of size 1 at position 1:
#
# | | shape |
# |---|---|
# | `points.unsqueeze(1)` | (n, 1, d) |
# | `centers.unsqueeze(0)` | (1, k, d) |
# | their difference | (n, k, d) |
#
# Entry [i, j] of the difference is `points[i] - centers[j]`.

# %%
points = torch.tensor([[0.0, 0.0], [4.0, 3.0], [1.0, 1.0]])  # (3, 2): n = 3, d = 2
centers = torch.tensor([[0.0, 1.0], [4.0, 0.0]])  # (2, 2): k = 2
pairs = points.unsqueeze(1) - centers.unsqueeze(0)  # (3, 1, 2) - (1, 2, 2) = (3, 2, 2)
print(tuple(pairs.shape))
print("point 1 minus center 0:", pairs[1, 0])

# %% [markdown]
# The **squared distance** of a point to a center: square the differences of its features and add them up. By hand, for
# point 1 and center 0: 4² + 2² = 20.
#
# **Predict** the other number in that row: point 1 and center 1. Then write it for all pairs.


# %% exercise="1.9"
def squared_distances(points, centers):
    """Give the squared distance of every point to every center: (n, d) and (k, d) -> (n, k)."""
    # To Do: every point minus every center: (n, k, d)
    # BEGIN SOLUTION
    differences = points.unsqueeze(1) - centers.unsqueeze(0)
    # END SOLUTION
    # To Do: their squares, added up over the features: (n, k)
    # BEGIN SOLUTION
    distances = differences.square().sum(dim=2)
    # END SOLUTION
    return distances


check("1.9")

# %%
print(squared_distances(points, centers))

# %% [markdown]
# ## Where is the smallest? (1 minute)
#
# **Goal.** Find places, not values.
#
# `min` gives the smallest value, `argmin` says *where* it is. `dim=` is again the axis that goes away. In this table a
# row is a shop and a column is a fruit.
#
# **Predict.** Which two numbers will the second line print: values or places? One for each shop, or for each fruit?

# %%
prices = torch.tensor([[3.0, 9.0], [2.0, 7.0], [5.0, 4.0]])  # (3 shops, 2 fruits)
print("min:   ", prices.min(dim=0).values)
print("argmin:", prices.argmin(dim=0))

# %% [markdown]
# That was: for each fruit, the shop where it is cheapest. Now the other question: for each *shop*, which fruit is its
# cheapest?


# %% exercise="1.10"
def cheapest_fruit(prices):
    """Give each shop the number of its cheapest fruit: (shops, fruits) -> (shops,)."""
    # To Do: for each row, the column of its smallest value
    # BEGIN SOLUTION
    fruit = prices.argmin(dim=1)
    # END SOLUTION
    return fruit


check("1.10")

# %% [markdown]
# ## Autograd: the slope of anything (2 minutes)
#
# **Goal.** Let PyTorch take the derivative.
#
# Take $f(t) = t^3 - 2t$. The derivative is $f'(t) = 3t^2 - 2$.
#
# **Predict** on paper: what is the slope at $t = 2$?

# %%
t = torch.tensor(2.0, requires_grad=True)  # PyTorch keeps a record of what is done with t
f = t**3 - 2 * t
f.backward()  # go back through the record, from f to t
print("value", f.item(), "slope", t.grad.item())

# %% [markdown]
# Three lines: mark the tensor, compute, go backward. The slope is then in `.grad`. Write it for any function, at any
# place. Mind the dtype: a slope needs a tensor of floats.


# %% exercise="1.11"
def slope(function, place):
    """Give the slope of the function at a place (a number)."""
    # To Do: make a tensor of the place, compute, go backward, give the slope
    # BEGIN SOLUTION
    t = torch.tensor(float(place), requires_grad=True)
    function(t).backward()
    return t.grad
    # END SOLUTION


check("1.11")

# %% [markdown]
# ## Predict: backward twice (1 minute)
#
# **Goal.** Meet the most common bug of training loops.
#
# The slope of $t^2$ at 3 is 6. What does the last line print?
#
# ```python
# t = torch.tensor(3.0, requires_grad=True)
# (t**2).backward()
# (t**2).backward()
# print(t.grad.item())
# ```

# %% exercise="1.12"
# To Do: your guess, a number or "error"
# BEGIN SOLUTION
guess_grad = 12
# END SOLUTION

check("1.12")

# %%
t = torch.tensor(3.0, requires_grad=True)
(t**2).backward()
(t**2).backward()
print(t.grad.item())

# %% [markdown]
# Gradients **add up** until you clear them: `t.grad = None` does it, and optimizers have `zero_grad()`. You will need it
# in a minute.

# %% [markdown]
# ## One step, on paper (3 minutes)
#
# **Goal.** Do a step of gradient descent yourself, with no computer.
#
# Two points: $x = 1$ with $y = 3$, and $x = 2$ with $y = 5$. We look for the line $w x + b$ through them. How wrong a
# line is, is its **loss**, the mean of the squared errors. Its slopes are
#
# $$\frac{\partial\,\text{loss}}{\partial w} = \frac{2}{m} \sum_i \text{error}_i\, x_i$$
#
# $$\frac{\partial\,\text{loss}}{\partial b} = \frac{2}{m} \sum_i \text{error}_i$$
#
# with $\text{error}_i = w x_i + b - y_i$, and $m = 2$ points here. A step goes *against* the slope: $w \leftarrow w - \text{lr} \cdot \partial\,\text{loss} / \partial w$,
# and the same for $b$. The small number lr is the **learning rate**.
#
# From $w = 0$, $b = 0$ with lr = 0.1 it goes like this:
#
# | | point 1 | point 2 | |
# |---|---|---|---|
# | $w x + b$ | 0 | 0 | |
# | error | 0 - 3 = -3 | 0 - 5 = -5 | loss (9 + 25) / 2 = 17 |
# | error times $x$ | -3 | -10 | slope for $w$: -13 |
# | error | -3 | -5 | slope for $b$: -8 |
#
# So $w$ becomes 0 - 0.1 · (-13) = 1.3 and $b$ becomes 0 - 0.1 · (-8) = 0.8.
#
# **Your turn**, with paper: the same two points, but start at $w = 1$, $b = 0$. Where are $w$ and $b$ after one step?

# %% exercise="1.13"
# To Do: w after the step
# BEGIN SOLUTION
paper_w = 1.8
# END SOLUTION
# To Do: b after the step
# BEGIN SOLUTION
paper_b = 0.5
# END SOLUTION

check("1.13")

# %% [markdown]
# ## One step, in code (3 minutes)
#
# **Goal.** The same step, and autograd finds the slopes.
#
# Loss, backward, step: these are the lines inside every training loop. `torch.no_grad()` says that the step itself is
# not part of what will be differentiated.


# %% exercise="1.14"
def one_step(w, b, x, y, lr):
    """Take one step of gradient descent on the line w * x + b, and give the new w and b."""
    w, b = w.clone().requires_grad_(), b.clone().requires_grad_()  # copies, and with no old gradient
    # To Do: the loss, which is the mean of the squared errors of w * x + b against y
    # BEGIN SOLUTION
    loss = (w * x + b - y).square().mean()
    # END SOLUTION
    # To Do: fill w.grad and b.grad
    # BEGIN SOLUTION
    loss.backward()
    # END SOLUTION
    with torch.no_grad():
        # To Do: w after a step against its slope
        # BEGIN SOLUTION
        new_w = w - lr * w.grad
        # END SOLUTION
        # To Do: the same for b
        # BEGIN SOLUTION
        new_b = b - lr * b.grad
        # END SOLUTION
    return new_w, new_b


check("1.14")

# %% [markdown]
# ## Many steps (3 minutes)
#
# **Goal.** Write the whole loop, and see the loss fall.
#
# Start at w = 0, b = 0. In each step: the loss (keep it), the slopes, the step. Give w, b and the losses back. You may
# call your `one_step`, or write it all here; then clear the gradients yourself. To keep a loss as a plain number, use
# `.item()`.
#
# **Predict.** The two points lie on the line $2x + 1$. After 100 steps with lr = 0.1, will $w$ be just 2?


# %% exercise="1.15"
def fit_line(x, y, lr, steps):
    """Fit w * x + b by gradient descent from 0, and give w, b and the list of losses, each from before its step."""
    # To Do: the loop
    # BEGIN SOLUTION
    w, b = torch.tensor(0.0), torch.tensor(0.0)
    losses = []
    for _ in range(steps):
        losses.append((w * x + b - y).square().mean().item())
        w, b = one_step(w, b, x, y, lr)
    return w, b, losses
    # END SOLUTION


check("1.15")


# %%
def draw_losses(fit):
    """Draw the losses of a fit: (w, b, losses)."""
    if fit is ...:
        print("Nothing to draw yet: the To Do above is still open.")
        return
    w, b, losses = fit
    print(f"After {len(losses)} steps: {w:.3f} x + {b:.3f}. The loss fell from {losses[0]:g} to {losses[-1]:.2g}.")
    plt.figure(figsize=(6, 3))
    plt.semilogy(losses)
    plt.xlabel("step")
    plt.ylabel("loss")


x = torch.tensor([1.0, 2.0])
y = torch.tensor([3.0, 5.0])
draw_losses(fit_line(x, y, lr=0.1, steps=100))

# %% [markdown]
# On the axis each mark is a tenth of the one above. First the loss falls steeply, then slowly: it lies in a valley that
# is steep across and nearly flat along. A step is as long as the slope is steep, so the steps get shorter and shorter,
# and $w$ comes close to 2 without ever being just 2.
#
# **Predict.** What happens with lr = 0.3? Change the number above and run the cell again. Then read on.

# %%
step = next(linear_regression(x.unsqueeze(1), y, lr=0.3, max_steps=1, seed=0))
print(f"For these two points, with any lr above {step.lr_limit:.4f} the loss grows without end.")

# %% [markdown]
# ## Watch it (1 minute)
#
# **Goal.** The same loop on 600 points.
#
# stepfit has this loop built in, and each step can be watched. Here the line parts two classes; w has two numbers, one
# for each feature. Press play, then step back and watch the loss.

# %%
moons = datasets.two_moons()
run = record(linear_regression(moons.x_train, moons.y_train, lr=0.1, max_steps=50, seed=0))
show(run, moons.x_train, moons.y_train)

# %% [markdown]
# ## What you can do now
#
# | you saw | you will need it for |
# |---|---|
# | float32 and int64, and why a mean needs floats | pixels; labels |
# | `dim=` is the axis that goes away, `keepdim=True` keeps it | means of clusters |
# | `centers[labels]`, `argmin` | the two halves of a k-means step |
# | `unsqueeze`, and every point meets every center | distances |
# | a view shares memory, `clone` does not | the start of k-means |
# | (600,) minus (600, 1) is (600, 600) | the loss of regression |
# | `backward`, `.grad`, and clear it | every training loop |
#
# `check()` shows how all exercises stand. Next: `Pytorch1_KMeans`.

# %%
check()
