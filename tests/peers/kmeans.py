"""scikit-learn's own tests of KMeans and MiniBatchKMeans, run against ours: `python tests/peers/kmeans.py`."""

from patched import run

import stepfit


class KMeans(stepfit.KMeans):
    """Ours, which takes algorithm="lloyd", since there is no other, and tells what n_init="auto" came to."""

    def __init__(
        self, n_clusters=8, *, init="k-means++", n_init="auto", max_iter=300, tol=1e-4, random_state=None,
        algorithm="lloyd",
    ):  # fmt: skip
        super().__init__(n_clusters, init=init, n_init=n_init, max_iter=max_iter, tol=tol, random_state=random_state)
        self.algorithm = algorithm

    def _inits(self, many):
        self._n_init = super()._inits(many)
        return self._n_init


class MiniBatchKMeans(stepfit.MiniBatchKMeans):
    """Ours, which tells what n_init="auto" came to."""

    def _inits(self, many):
        self._n_init = super()._inits(many)
        return self._n_init


SPARSE = "sparse input, which is refused"
ELKAN = "algorithm='elkan', which is not offered: Lloyd's labels are exact, and skip rows by bounds of their own"
PRIVATE = "a private function of scikit-learn"
FUNCTION = "a function of scikit-learn that is no method of the classes"
VERBOSE = "verbose, which is not offered: the steps are there to be watched"
SIZE = "init_size, which is not offered: the sample for the start is 3 batches, or 3 n_clusters rows"

EXCLUDED = {
    "[sparse_matrix": SPARSE,
    "[sparse_array": SPARSE,
    "-sparse_matrix": SPARSE,
    "-sparse_array": SPARSE,
    "-X_csr": SPARSE,
    "[csr_matrix": SPARSE,
    "[csr_array": SPARSE,
    "[elkan": ELKAN,
    "-elkan": ELKAN,
    "test_kmeans_elkan_results": ELKAN,
    "test_kmeans_elkan_iter_attribute": ELKAN,
    "test_warning_elkan_1_cluster": ELKAN,
    "test_relocate_empty_clusters": PRIVATE,
    "test_minibatch_update_consistency": PRIVATE,
    "test_minibatch_reassign": PRIVATE,
    "test_euclidean_distance": PRIVATE,
    "test_inertia": PRIVATE,
    "test_is_same_clustering": PRIVATE,
    "test_sample_weight_init": "a private method, _init_centroids",
    "test_sample_weight_zero": "a private method, _init_centroids",
    "test_k_means_function": FUNCTION,
    "test_kmeans_plusplus_wrong_params": FUNCTION,
    "test_kmeans_plusplus_output": FUNCTION,
    "test_kmeans_plusplus_norms": FUNCTION,
    "test_kmeans_plusplus_dataorder": FUNCTION,
    "test_kmeans_verbose": VERBOSE,
    "test_minibatch_kmeans_verbose": VERBOSE,
    "test_minibatch_declared_convergence": VERBOSE,
    "test_minibatch_with_many_reassignments": VERBOSE,
    "test_minibatch_kmeans_init_size": SIZE,
    "test_minibatch_kmeans_warning_init_size": SIZE,
    "test_kmeans_copyx": "copy_x=False, which is not offered: X is neither copied nor changed",
    "test_relocating_with_duplicates": "n_iter_ is 2 there, not 1: the step that finds nothing to change counts",
}

if __name__ == "__main__":
    run("sklearn.cluster.tests.test_k_means", KMeans, MiniBatchKMeans, excluded=EXCLUDED)
