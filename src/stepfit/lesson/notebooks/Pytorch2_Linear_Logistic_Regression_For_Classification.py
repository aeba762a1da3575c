# %% [markdown]
# # Linear and logistic regression for classification
#
# **You will be able to** write a training loop from memory, say what each of its lines does, and recognize by its
# numbers what has gone wrong: a threshold, a loss, a missing line.
#
# **You need** tensors, shapes and autograd (`Tutorial1_Pytorch_Basics`). **Plan an hour**; the last exercise is extra.
#
# **How to work.** Where a line says `# To Do`, put your code in place of `...` and run the cell. The check at the end
# of the cell tells you what is right, or names the mistake. Stuck? Run `hint("3.1")` in a new cell; there are three
# hints for each exercise. After a pass or three tries, `solution("3.1")` shows one way to do it, and there are others.
#
# The words and letters are those of the page:
#
# | letter | means | in code |
# |---|---|---|
# | $m$ | number of points | `m = len(x)` |
# | $x_i$ | point $i$, a row of two features | `x` has shape `(m, 2)` |
# | $y_i$ | its class, 0 or 1 | `y` has shape `(m, 1)` |
# | $\theta$ | the weights, and last the bias | `theta` has shape `(3, 1)` |
# | output | what the model says to a point | `output` has shape `(m, 1)` |
# | $L(\theta)$ | the loss: how wrong the outputs are | one number |
# | lr | the learning rate: how far a step goes | one number |

# %%
import numpy as np
import torch
from torch import nn

from stepfit import datasets, descend, linear_regression, logistic_regression, record
from stepfit.lesson import check, hint, show, solution

torch.set_num_threads(1)  # 600 points are too few to be shared out: more threads would only wait for each other

# %% [markdown]
# ## The data (5 minutes)
# **Goal.** Load four arrays, in the right order and with the right dtype.
#
# Somebody has sorted these points: each has a class, 0 or 1. We want a rule that gives the class of *new* points. So
# some of them are put aside for a test.
#
# **Predict.** The file holds `x_train`, `x_test`, `y_train` and `y_test`. Run the cell. Which array is which?

# %%
with np.load("../data/toy_data_two_moon.npz") as file:
    for name in file:
        print(name, file[name].shape, file[name].dtype, file[name][0])

# %% [markdown]
# **Explain.** The order is x, **x**, y, y: `arr_1` holds the *test points*, not the training classes.
#
# And mind the dtype. The weights of a PyTorch model are `float32`, so the points should be too. A loss subtracts
# classes from outputs, so the classes also become `float32`. Their shape `(m, 1)` is just right: leave it.


# %% exercise="3.1"
def load(path):
    """Load x_train, x_test (points, two columns) and y_train, y_test (classes, one column), all float32."""
    with np.load(path) as file:
        arrays = [torch.from_numpy(file[f"arr_{number}"]) for number in range(4)]
    # To Do: a list of the same four tensors as float32
    # BEGIN SOLUTION
    arrays = [array.float() for array in arrays]
    # END SOLUTION
    # To Do: name the four, in the order of the file
    # BEGIN SOLUTION
    x_train, x_test, y_train, y_test = arrays
    # END SOLUTION
    return x_train, x_test, y_train, y_test


check("3.1")

# %% [markdown]
# So that you can go on in any case, here is the same data once more, from stepfit.

# %%
x_train, x_test, y_train, y_test = (part.float() for part in datasets.two_moons())
print("train", tuple(x_train.shape), tuple(y_train.shape))
print("test ", tuple(x_test.shape), tuple(y_test.shape))

# %% [markdown]
# The test points are for one thing only: to measure how good the rule is on points that it has not seen. Never train
# on them.
#
# ## A line that scores (4 minutes)
# **Goal.** A model that gives each point one number.
#
# Give each feature a **weight** and add a **bias**: the output for a point is $w_1 x_1 + w_2 x_2 + b$. Points where it
# is the same lie on a straight line. `nn.Linear` does this for all rows at once. Here it takes *three* features and
# gives *two* outputs. **Predict** the four shapes, then run.

# %%
torch.manual_seed(0)
example = nn.Linear(3, 2)
rows = torch.ones(5, 3)
print("weight", tuple(example.weight.shape), "bias", tuple(example.bias.shape), "rows", tuple(rows.shape))
print("output", tuple(example(rows).shape))
print("the same by hand:", torch.allclose(example(rows), rows @ example.weight.T + example.bias))

# %% [markdown]
# Ours has two features, and one output: the score of the point.


# %% exercise="3.2"
def linear_model():
    """Make a new linear model: (m, 2) -> (m, 1)."""
    # To Do: the model
    # BEGIN SOLUTION
    model = nn.Linear(2, 1)
    # END SOLUTION
    return model


check("3.2")

# %% [markdown]
# ## How wrong is it? (4 minutes)
# **Goal.** The loss of linear regression, by hand.
#
# We want the output near 0 for class 0, and near 1 for class 1. The **loss** is the mean of the squared errors:
#
# $$L(\theta) = \frac{1}{m} \sum_{i=1}^{m} \left(\theta^\top x_i - y_i\right)^2$$
#
# **Predict**, on paper. Two points with one feature: $x = 0$ of class 0, $x = 2$ of class 1. Start at $w = 0$,
# $b = 0$: both outputs are 0. What is the loss? Then write it for any outputs; `nn.MSELoss` is there to compare.


# %% exercise="3.3"
def mean_squared_error(output, y):
    """Give the mean of the squared errors, one number as a tensor of shape (): (m, 1), (m, 1) -> ()."""
    # To Do: the loss
    # BEGIN SOLUTION
    loss = (output - y).square().mean()
    # END SOLUTION
    return loss


check("3.3")

# %%
two_outputs, two_classes = torch.zeros(2, 1), torch.tensor([[0.0], [1.0]])
print("yours:  ", mean_squared_error(two_outputs, two_classes))
print("PyTorch:", nn.MSELoss()(two_outputs, two_classes))

# %% [markdown]
# ## Which way is down? (6 minutes)
# **Goal.** The gradient by hand, equal to autograd's.
#
# The **gradient** tells how the loss changes when each weight grows a little. Write $X$ for the points with a 1
# appended to each row, so that $X\theta$ are the outputs and the bias is the last place of $\theta$. Then
#
# $$\nabla L(\theta) = \frac{2}{m} \sum_{i=1}^{m} \left(\theta^\top x_i - y_i\right) x_i = \frac{2}{m}\, X^\top (X\theta - y)$$
#
# In words: *each point pulls the weights in its own direction $x_i$, as hard as it is wrong.*
#
# **Predict.** For the two points above, at $w = 0$, $b = 0$, the errors are 0 and −1. What are the two numbers of the
# gradient? Autograd will tell.

# %%
X_two = torch.tensor([[0.0, 1.0], [2.0, 1.0]])  # (2, 2): the feature, and the appended 1
theta = torch.zeros(2, 1, requires_grad=True)  # (2, 1): w, b
loss = (X_two @ theta - two_classes).square().mean()
loss.backward()
print("gradient:", theta.grad.flatten().tolist())

# %% [markdown]
# **Explain.** Both are negative: the loss falls when $w$ and $b$ grow. A step of **gradient descent** goes against the
# gradient, $\theta \leftarrow \theta - \text{lr} \cdot \nabla L(\theta)$.
#
# Now the formula, as two lines. The shapes help: `X.T` is `(p, m)`, the errors are `(m, 1)`, and a gradient has the
# shape of its weights.


# %% exercise="3.4"
def gradient(X, theta, y):
    """Give the gradient of the mean squared error: (m, p), (p, 1), (m, 1) -> (p, 1)."""
    # To Do: the error of each point, (m, 1)
    # BEGIN SOLUTION
    errors = X @ theta - y
    # END SOLUTION
    # To Do: the gradient, (p, 1)
    # BEGIN SOLUTION
    grad = 2 / len(X) * X.T @ errors
    # END SOLUTION
    return grad


check("3.4")

# %% [markdown]
# The same for all 600 points, with autograd beside it:

# %%
X = torch.cat([x_train, torch.ones(len(x_train), 1)], dim=1)  # (600, 3)
theta = torch.zeros(3, 1, requires_grad=True)
(X @ theta - y_train).square().mean().backward()
print("autograd:", theta.grad)
print("by hand: ", gradient(X, theta.detach(), y_train))

# %% [markdown]
# From here on, autograd does it.
#
# ## Who moves the weights? (4 minutes)
# **Goal.** An optimizer that holds the right weights.
#
# `backward()` fills the gradients, and nothing has moved yet. An **optimizer** takes the step for you. It moves the
# parameters that it was given when it was made, and no others.
#
# **Predict.** The example model has a new optimizer. Its first bias has the gradient 1, and lr is 0.5. How far will
# that bias move, and which way?

# %%
example_optimizer = torch.optim.SGD(example.parameters(), lr=0.5)
example(torch.zeros(1, 3))[0, 0].backward()  # the first output of a row of zeros is the first bias
print("gradient of the bias:", example.bias.grad)
print("before the step:", example.bias.data)
example_optimizer.step()
print("after the step: ", example.bias.data)


# %% exercise="3.5"
def optimizer_for(model, lr):
    """Make an optimizer that moves this model by plain gradient descent."""
    # To Do: the optimizer, with this learning rate
    # BEGIN SOLUTION
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    # END SOLUTION
    return optimizer


check("3.5")

# %% [markdown]
# ## How often is it right? (5 minutes)
# **Goal.** The accuracy: a plain number from 0 to 1.
#
# An output above the **threshold** means class 1. The **accuracy** is the part of the points whose class comes out
# right. Gradient descent never sees it: where it is flat its gradient is 0. The loss is its smooth stand-in.
#
# **Predict.** Four outputs, and the threshold 0.5. How many are right? And why does the last line print a shape that
# is no column?

# %%
four_outputs = torch.tensor([[0.9], [0.2], [0.6], [0.4]])  # (4, 1)
four_classes = torch.tensor([[1.0], [0.0], [0.0], [0.0]])  # (4, 1)
four_right = (four_outputs > 0.5) == four_classes
print("right:", four_right.flatten().tolist(), "accuracy", four_right.double().mean().item())
print("with classes of shape (4,):", tuple(((four_outputs > 0.5) == four_classes.flatten()).shape))

# %% [markdown]
# **Explain.** `(4, 1)` against `(4,)` broadcasts to `(4, 4)`: every output was compared with every class. Look at the
# shapes before you count.
#
# `.item()` turns a tensor that holds one number into a plain number. `torch.no_grad()` says that we only look: nothing
# here will be differentiated.


# %% exercise="3.6"
def accuracy(model, x, y, threshold):
    """Give the part of the points, from 0 to 1, whose class the model gets right: (m, 2), (m, 1) -> a float."""
    with torch.no_grad():
        # To Do: which points come out right, (m, 1)
        # BEGIN SOLUTION
        right = (model(x) > threshold) == y
        # END SOLUTION
        # To Do: how large a part of all is that, as a plain number
        # BEGIN SOLUTION
        part = right.double().mean().item()
        # END SOLUTION
    return part


check("3.6")

# %% [markdown]
# ## The training loop (9 minutes)
# **Goal.** The six moves that train almost every model.
#
# Learn them like a dance, always in this order: **forward, loss, zero, backward, step, log.**
#
# | move | does | mind |
# |---|---|---|
# | forward | asks the model | in every step anew: the weights have moved |
# | loss | one number: how wrong | the prediction first, then the target |
# | zero | clears the old gradients | gradients add up until you clear them |
# | backward | fills the gradients | |
# | step | moves the weights | the optimizer does it |
# | log | keeps two plain numbers | the accuracy is that of the *test* points |
#
# **Predict.** What would happen without *zero*? And if *zero* came between *backward* and *step*?


# %% exercise="3.7"
def train(model, loss_fn, optimizer, x_train, y_train, x_test, y_test, steps, threshold):
    """Train the model, and give two lists of plain numbers: the loss and the test accuracy of each step."""
    losses, accuracies = [], []
    for _ in range(steps):
        # To Do: forward. What the model says to the training points, (m, 1)
        # BEGIN SOLUTION
        output = model(x_train)
        # END SOLUTION

        # To Do: loss. How wrong that is, ()
        # BEGIN SOLUTION
        loss = loss_fn(output, y_train)
        # END SOLUTION

        # To Do: zero. Clear the gradients of the step before
        # BEGIN SOLUTION
        optimizer.zero_grad()
        # END SOLUTION

        # To Do: backward. Fill the gradients
        # BEGIN SOLUTION
        loss.backward()
        # END SOLUTION

        # To Do: step. Move the weights
        # BEGIN SOLUTION
        optimizer.step()
        # END SOLUTION

        # To Do: log. Append this loss to losses, and the accuracy on the test points to accuracies
        # BEGIN SOLUTION
        losses.append(loss.item())
        accuracies.append(accuracy(model, x_test, y_test, threshold))
        # END SOLUTION
    return losses, accuracies


check("3.7")

# %% [markdown]
# ## Where does class 1 begin? (5 minutes)
# **Goal.** The threshold of linear regression.
#
# The outputs aim at 0 and 1, since those are the classes. In many books the classes are −1 and +1, and the threshold
# is 0. **Predict.** Which threshold is right for ours?

# %% exercise="3.8"
# To Do: a number: an output above it means class 1
# BEGIN SOLUTION
linear_threshold = 0.5
# END SOLUTION

check("3.8")


# %% [markdown]
# Now train, with all that you have made.


# %%
def report(losses, accuracies):
    """Print a few steps of a run, and its last one: the loss, and the accuracy on the test points."""
    for step in sorted({0, 1, 10, len(losses) - 1}):
        if 0 <= step < len(losses):
            print(f"step {step:3}: loss {losses[step]:.4f}, accuracy {accuracies[step]:.4f}")


torch.manual_seed(0)
line = linear_model()
losses, accuracies = train(
    line, nn.MSELoss(), optimizer_for(line, 0.1), x_train, y_train, x_test, y_test, 100, linear_threshold
)
report(losses, accuracies)

# %% [markdown]
# **Predict.** The same trained line, with the threshold 0. Will the program complain? What will the accuracy be?

# %%
for threshold in (0, 0.5):
    print("threshold", threshold, "accuracy", accuracy(line, x_test, y_test, threshold))

# %% [markdown]
# **Explain.** Nothing fails. The number is only *disappointing*, and that is the hardest kind of bug to see. Ask of
# every threshold which two values it should lie between.
#
# ## Watch it (3 minutes)
# **Goal.** See the line turn, the loss fall, and the way through the landscape of the loss.
#
# `descend` is stepfit's own training loop: the same six moves, with everything kept. **Predict.** The run starts at
# the loss that your own loop printed for step 0. Will the way lead straight to the bottom? Play it, then click into
# the landscape for another start.

# %%
torch.manual_seed(0)
watched = nn.Linear(2, 1)
watched_optimizer = torch.optim.SGD(watched.parameters(), lr=0.1)
run = record(
    descend(watched, nn.MSELoss(), watched_optimizer, x_train, y_train, max_steps=100, test=(x_test, y_test), seed=0)
)
print(f"step 0: loss {run[0].loss:.4f}; step 99: loss {run.last.loss:.4f}")
show(run, x_train, y_train, test=(x_test, y_test))

# %% [markdown]
# **Explain.** The gradient points straight downhill, and not at the lowest place. In a narrow valley these differ: the
# run falls quickly to the floor of the valley, and then creeps along it.
#
# ## Logistic regression (7 minutes)
# **Goal.** The model and the loss that are made for classes, and belong together.
#
# The squared error punishes an output of 3 for a point of class 1, though it is on the right side. Better: read the
# output $z$ as a score, the **logit**, and squash it to a probability with the **sigmoid**
#
# $$p = \sigma(z) = \frac{1}{1 + e^{-z}}$$
#
# and ask how surprised you are by the true class. That is the **cross-entropy**
#
# $$L(\theta) = {-\frac{1}{m}} \sum_{i=1}^{m} \left( y_i \log p_i + (1 - y_i) \log (1 - p_i) \right)$$
#
# **Predict.** Which probability belongs to the logit 0? What does each loss say to a point of class 1 with output 9?

# %%
logits = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0, 9.0])
print("logit  probability  squared  entropy")
for z in logits:
    p = torch.sigmoid(z)
    print(f"{z:5.0f}  {p:11.4f}  {(z - 1) ** 2:7.0f}  {-torch.log(p):7.4f}")

# %% [markdown]
# **Explain.** Content with a point that is well on its right side: that is what we wanted.
#
# PyTorch has several losses with similar names. `nn.BCELoss` takes probabilities. `nn.BCEWithLogitsLoss` takes logits
# and applies the sigmoid itself, in a way that cannot overflow. `nn.CrossEntropyLoss` wants one output *for each
# class*. Choose a loss that fits the outputs of your model.


# %% exercise="3.9"
def logistic_parts(lr):
    """Make what logistic regression needs: a new model (m, 2) -> (m, 1), its loss, and its optimizer."""
    # To Do: the model
    # BEGIN SOLUTION
    model = nn.Linear(2, 1)
    # END SOLUTION
    # To Do: the loss, to be called as loss_fn(output, y)
    # BEGIN SOLUTION
    loss_fn = nn.BCEWithLogitsLoss()
    # END SOLUTION
    # To Do: an optimizer that moves this model by plain gradient descent
    # BEGIN SOLUTION
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    # END SOLUTION
    return model, loss_fn, optimizer


check("3.9")

# %% [markdown]
# ## And where does class 1 begin here? (2 minutes)
# **Goal.** A threshold that belongs to the outputs of *this* model.
#
# Class 1 begins where its probability is more than one half. **Predict.** Which output is that?

# %% exercise="3.10"
# To Do: a number: an output of your logistic model above it means class 1
# BEGIN SOLUTION
logistic_threshold = 0
# END SOLUTION

check("3.10")

# %% [markdown]
# ## Is it better? (4 minutes)
# **Goal.** Compare two methods fairly.
#
# **Predict.** Linear regression got the accuracy above in 100 steps at lr 0.1. Will logistic regression do better at
# the same lr?

# %%
for lr, steps in ((0.1, 100), (0.1, 1000), (1.0, 100)):
    torch.manual_seed(0)
    print(f"logistic, lr {lr}, {steps} steps")
    losses, accuracies = train(*logistic_parts(lr), x_train, y_train, x_test, y_test, steps, logistic_threshold)
    report(losses, accuracies)

# %% [markdown]
# **Explain.** At lr 0.1 it looks *worse*, for one reason: after 100 steps its loss is still falling. The cross-entropy
# is a flatter bowl than the squared error, so it wants a larger learning rate, or more steps. Before you compare two
# methods, look at both losses and ask whether each has come to rest. On data like this, the two then agree to within a
# few test points.
#
# ## How large may a step be? (6 minutes)
# **Goal.** Know the learning rate at which linear regression flies apart.
#
# Take the simplest bowl, $L = \frac{\lambda}{2} e^2$, where $e$ is how far you are from the bottom. Its gradient is
# $\lambda e$, so a step makes $e$ into $(1 - \text{lr}\,\lambda)\, e$. That shrinks only if $\text{lr} < 2 / \lambda$.
# The squared error is such a bowl in every direction. Its $\lambda$'s are the eigenvalues of
#
# $$H = \frac{2}{m} X^\top X$$
#
# and the largest of them, the steepest direction, sets the limit $2 / \lambda_{\text{max}}$. `torch.linalg.eigvalsh`
# gives the eigenvalues of a symmetric matrix.


# %% exercise="3.11"
def lr_limit(X):
    """Give the learning rate above which gradient descent on the mean squared error diverges: (m, p) -> a number."""
    # To Do: the matrix H, (p, p)
    # BEGIN SOLUTION
    hessian = 2 / len(X) * X.T @ X
    # END SOLUTION
    # To Do: the limit
    # BEGIN SOLUTION
    limit = 2 / torch.linalg.eigvalsh(hessian).max()
    # END SOLUTION
    return limit


check("3.11")

# %% [markdown]
# **Predict.** Four runs of up to 400 steps, at lr 0.1, 0.6, 0.64 and 0.66. Which come to rest, and which fly apart?

# %%
print("the limit for our data:", lr_limit(X))
for lr in (0.1, 0.6, 0.64, 0.66):
    last = record(linear_regression(x_train, y_train, lr=lr, max_steps=400, seed=0)).last
    print(f"lr {lr:4}: loss {last.loss:.4g} after {last.index} steps")

# %% [markdown]
# **Explain.** Just below the limit the run swings from side to side and still comes to rest. Just above, each swing is
# a little wider than the last, until the loss is over 1,000 times the first: there stepfit gives up.
#
# ## Twenty points that are right (6 minutes)
# **Goal.** See why classes want the cross-entropy.
#
# Put 20 points of class 1 at (12, −6), far out on their own, right side. Any sensible line gets them right.
#
# **Predict.** We train again, and test on the old test points. Whose accuracy will suffer: that of linear regression,
# of logistic regression, of both?

# %%
x_far = torch.cat([x_train, torch.tensor([[12.0, -6.0]]).repeat(20, 1)])  # (620, 2)
y_far = torch.cat([y_train, torch.ones(20, 1)])  # (620, 1)

print("test accuracy")
for name, regression, lr in (("linear", linear_regression, 0.1), ("logistic", logistic_regression, 1.0)):
    for points, x, y in (("without", x_train, y_train), ("with", x_far, y_far)):
        last = record(regression(x, y, lr=lr, max_steps=300, test=(x_test, y_test), seed=0)).last
        print(f"{name:8} {points:7} far points: {last.metrics['test_accuracy']:.4f}")

# %% [markdown]
# Why? Find out what each loss says to *one* point of class 1, for any output. This time the body is nearly blank.
# Nothing is averaged here: one loss for each output.


# %% exercise="3.12"
def losses_of_class_1(outputs):
    """Give what both losses say to points of class 1: (m,) -> squared errors (m,), cross-entropies (m,)."""
    # To Do: both losses
    # BEGIN SOLUTION
    squared = (outputs - 1).square()
    entropy = -torch.log(torch.sigmoid(outputs))
    return squared, entropy
    # END SOLUTION


check("3.12")

# %% [markdown]
# **Predict.** Without the far points, what output does the trained line give at (12, −6)? And what does the squared
# error say to it?

# %%
old = record(linear_regression(x_train, y_train, lr=0.1, max_steps=300, seed=0)).last.params
far_output = old["weight"] @ torch.tensor([12.0, -6.0]) + old["bias"]  # (1,)
print("output of the old line:", far_output)
print("squared error, cross-entropy:")
print(losses_of_class_1(far_output))

# %% [markdown]
# **Explain.** The squared error punishes the far points for being *too right*, and twenty of them turn the line until
# ordinary points fall on its wrong side. To the cross-entropy they are no surprise at all. Watch the line turn:

# %%
run = record(linear_regression(x_far, y_far, lr=0.1, max_steps=100, test=(x_test, y_test), seed=0))
show(run, x_far, y_far, test=(x_test, y_test))

# %% [markdown]
# ## From memory (extra, 8 minutes)
# **Goal.** Write the loop with nothing to lean on.
#
# A model comes in. Train it as logistic regression and give it back. You need a loss, an optimizer and five of the six
# moves. Do not scroll up.


# %% exercise="3.13"
def fit(model, x, y, lr, steps):
    """Train the model, whose outputs are logits, by gradient descent on the cross-entropy, and give it back."""
    # To Do: the whole loop
    # BEGIN SOLUTION
    loss_fn = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        loss = loss_fn(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model
    # END SOLUTION


check("3.13")

# %% [markdown]
# ## Check yourself (4 minutes)
# 1. The loss is exactly the same in every step. Name two causes.
# 2. The loss falls at first, then swings up and down and never settles. What did you forget?
# 3. Your cross-entropy is negative. What did you mix up?
# 4. Your logistic model has a sigmoid at its end, and you use `BCEWithLogitsLoss`. The loss falls a bit and stays far
#    from 0. Why?
# 5. Your test accuracy is the best of 50 learning rates, each tried on the test points. What is it worth?
#
# <details><summary>Answers</summary>
#
# 1. The optimizer holds the parameters of another model; or *zero* stands between *backward* and *step*, so that every
#    step moves by nothing.
# 2. *Zero*. Each gradient is added to all those before it, and the run is like a ball in a bowl without friction.
# 3. Prediction and target: the prediction comes first.
# 4. The sigmoid is applied twice. The inner one gives values from 0 to 1, so the outer one cannot be sure of anything.
# 5. Less than it says: you have chosen by the test points, so they are no longer unseen. Choose on a third set.
#
# </details>
#
# How do all exercises stand?

# %%
check()
