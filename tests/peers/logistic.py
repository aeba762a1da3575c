"""scikit-learn's own tests of LogisticRegression, run against ours: `python tests/peers/logistic.py`."""

from patched import run

import stepfit


class LogisticRegression(stepfit.LogisticRegression):
    """Ours, which takes "saga" for "nesterov": theirs for l1, and its tests are about the optimum."""

    _parameter_constraints = stepfit.LogisticRegression._parameter_constraints | {"solver": [str]}

    def fit(self, X, y, sample_weight=None):
        asked = self.solver
        self.solver = "nesterov" if asked == "saga" else asked
        try:
            return super().fit(X, y, sample_weight)
        finally:
            self.solver = asked


CV = "LogisticRegressionCV, which is not offered"
PRIVATE = "a private function of scikit-learn"
SOLVERS = "needs a solver other than lbfgs"
LIBLINEAR = "compares with liblinear, which is not offered"
DEPRECATED = "a parameter that scikit-learn is taking away"
SPARSE = "sparse input, which is refused"
ARRAY_API = "scikit-learn's array API dispatch; tensors are taken without it"

EXCLUDED = {
    "test_predict_2_classes": SPARSE,
    "test_predict_3_classes": SPARSE,
    "test_check_solver_option": SOLVERS,
    "test_elasticnet_l1_ratio_err_helpful": DEPRECATED,
    "test_sparsify": "sparsify, which is not offered: coef_ is dense",
    "test_consistency_path": PRIVATE,
    "test_logistic_regression_path_convergence_fail": PRIVATE,
    "test_liblinear_dual_random_state": SOLVERS,
    "test_logistic_cv": CV,
    "test_logistic_cv_refit_false_non_elasticnet": CV,
    "test_logistic_cv_mock_scorer": CV,
    "test_logistic_cv_multinomial_score": PRIVATE,
    "test_multinomial_cv_iris": CV,
    "test_logistic_cv_folds_with_classes_missing": CV,
    "test_logistic_cv_sparse": CV,
    "test_logistic_regressioncv_class_weights": CV,
    "test_logistic_regression_solvers": SOLVERS,
    "test_logistic_regression_solvers_multiclass": SOLVERS,
    "test_logistic_regression_solvers_multiclass_unpenalized": SOLVERS,
    "test_sample_and_class_weight_equivalence_liblinear": SOLVERS,
    "test_logistic_regression_class_weights": SOLVERS,
    "test_liblinear_decision_function_zero": SOLVERS,
    "test_logreg_intercept_scaling_zero": SOLVERS,
    "test_logreg_l1": LIBLINEAR,
    "test_logistic_regression_cv_refit": CV,
    "test_logreg_predict_proba_multinomial": "a private method, _predict_proba_lr",
    "test_saga_vs_liblinear": SOLVERS,
    "test_warm_start_newton_solver": SOLVERS,
    "test_warm_start_converge_LR": SOLVERS,
    "test_dtype_match": SPARSE,
    "test_elastic_net_l1_l2_equivalence": DEPRECATED,
    "test_LogisticRegressionCV_GridSearchCV_elastic_net": CV,
    "test_LogisticRegressionCV_no_refit": CV,
    "test_LogisticRegressionCV_elasticnet_attribute_shapes": CV,
    "test_LogisticRegressionCV_on_folds": CV,
    "test_l1_ratio_non_elasticnet": DEPRECATED,
    "test_logistic_regression_path_coefs_multinomial": PRIVATE,
    "test_logistic_regression_path_init_coefs": PRIVATE,
    "test_penalty_none": DEPRECATED,
    "test_logisticregression_liblinear_sample_weight": SOLVERS,
    "test_scores_attribute_layout_elasticnet": CV,
    "test_large_sparse_matrix": SPARSE,
    "test_liblinear_with_large_values": SOLVERS,
    "test_single_feature_newton_cg": SOLVERS,
    "test_liblinear_not_stuck": SOLVERS,
    "test_lr_cv_scores_differ_when_sample_weight_is_requested": CV,
    "test_lr_cv_scores_without_enabling_metadata_routing": CV,
    "test_passing_params_without_enabling_metadata_routing": CV,
    "test_newton_cholesky_fallback_to_lbfgs": SOLVERS,
    "test_liblinear_multiclass_raises": SOLVERS,
    "test_penalty_deprecated": DEPRECATED,
    "test_logisticregressioncv_warns_with_use_legacy_attributes": CV,
    "test_l1_ratio_None_deprecated": DEPRECATED,
    "test_logisticregression_warns_with_n_jobs": DEPRECATED,
    "test_logistic_regression_array_api_compliance": ARRAY_API,
    "test_logistic_regression_array_api_warm_start": ARRAY_API,
    "test_lr_penalty_l1ratio_incompatible": DEPRECATED,
    "test_lr_scoring_warns": CV,
    "test_get_default_scorer": CV,
    "test_logistic_regression_callback_support[0]": "max_iter=0, with which SciPy makes an update all the same",
    "[sag": SOLVERS,
    "[liblinear": SOLVERS,
    "[newton": SOLVERS,
    "-sag": SOLVERS,
    "-liblinear": SOLVERS,
    "-newton": SOLVERS,
}

if __name__ == "__main__":
    run("sklearn.linear_model.tests.test_logistic", LogisticRegression, excluded=EXCLUDED)
