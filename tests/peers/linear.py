"""scikit-learn's own tests of LinearRegression, run against ours: `python tests/peers/linear.py`."""

from patched import run

from stepfit import LinearRegression

PRIVATE = "a private function of scikit-learn"
SPARSE = "sparse input, which is refused"
POSITIVE = "positive=True, which is not offered"

EXCLUDED = {
    "test_raises_value_error_if_positive_and_sparse": POSITIVE,
    "test_linear_regression_sparse": SPARSE,
    "test_linear_regression_sparse_equal_dense": SPARSE,
    "test_linear_regression_sparse_multiple_outcome": SPARSE,
    "test_linear_regression_positive": POSITIVE,
    "test_linear_regression_positive_multiple_outcome": POSITIVE,
    "test_linear_regression_positive_vs_nonpositive": POSITIVE,
    "test_linear_regression_positive_vs_nonpositive_when_positive": POSITIVE,
    "test_inplace_data_preprocessing": "copy_X=False, which is not offered: X is never changed",
    "test_preprocess_data": PRIVATE,
    "test_preprocess_data_multioutput": PRIVATE,
    "test_preprocess_data_weighted": PRIVATE,
    "test_sparse_preprocess_data_offsets": PRIVATE,
    "test_csr_preprocess_data": PRIVATE,
    "test_preprocess_copy_data_no_checks": PRIVATE,
    "test_dtype_preprocess_data": PRIVATE,
    "test_preprocess_data_integer_array_api_on_float32_only_device": PRIVATE,
    "test_rescale_data": PRIVATE,
    "test_fused_types_make_dataset": PRIVATE,
    "-csr_matrix": SPARSE,
    "-csr_array": SPARSE,
    "test_array_api_move_estimator_to": "scikit-learn's array API dispatch; tensors are taken without it",
}

if __name__ == "__main__":
    run("sklearn.linear_model.tests.test_base", LinearRegression, excluded=EXCLUDED)
