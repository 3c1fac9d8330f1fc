"""Checks of answers to the exercises: ``checks.<exercise>(answer)`` says right, or wrong and why.

Each exercise notebook has a module of its own here. No check needs a file or a network, and none
raises an error, whatever the answer does.
"""

from vae_lessons.checks.better_models import (
    PooledEncoder,
    channels_to_pixels,
    class_posterior,
    dreg_gradient,
    frechet_by_luck,
    labelled_bound,
    loss_with_shares,
    pick_by_weight,
    predicted_gap,
    side_and_field,
    stamps_per_pixel,
    unlabelled_bound,
)
from vae_lessons.checks.bounds import (
    best_weight,
    draws_for_one,
    elbo_on_a_line,
    importance_log_px,
    log_mean_exp,
    log_px_of_chunks,
    log_px_on_grid,
    loss_per_image,
    lost_nats,
    posterior_on_a_line,
)
from vae_lessons.checks.bugs import (
    adds_up_to_one,
    kl_passes_monte_carlo,
    mended_flow_log_density,
    mended_mixture_log_density,
    mended_objective,
    mended_rows,
    mended_split,
    mended_step,
    mended_test_loss,
)
from vae_lessons.checks.building import (
    SeededVAE,
    TwoHeadedEncoder,
    binary_rows,
    landmarks,
    logits_by_hand,
    mean_test_loss,
    parameter_count,
    prior_samples,
    resumed_training,
    train_epochs,
    training_step,
)
from vae_lessons.checks.codes_and_clouds import (
    aggregate_covariance,
    best_answer,
    draw_from_clouds,
    fitted_bell,
    gumbel_draw,
    in_new_units,
    loss_of_draw,
    mean_squared_length,
    pca_copies,
    pca_errors,
    share_of_holes,
    width_gradient,
)
from vae_lessons.checks.kl_and_likelihoods import (
    bernoulli_log_px_z,
    effective_beta,
    kl_between_gaussians,
    kl_full_covariance,
    kl_gradient,
    kl_to_prior,
    level_log_probabilities,
    nats_from_mse,
    sampled_kl,
)
from vae_lessons.checks.measuring import (
    arc_between,
    difference_and_error,
    free_bits,
    information_in_codes,
    linear_rate,
    neighbours_agree,
    nll_of_all,
    split_gap,
    squared_length_on_line,
    units_in_use,
    warmed_loss,
)
