//! The settings of the judge from the flags.

use crate::cli::JudgeArgs;
use heaptide_judge::pipeline::JudgeOptions;

/// The settings of the judge from the flags.
pub(super) fn options(args: &JudgeArgs) -> JudgeOptions {
    JudgeOptions {
        memory_limit: args.memory_limit,
        expect_cache_entries: args.expect_cache,
        horizon_seconds: args.horizon.as_secs_f64(),
        ..JudgeOptions::default()
    }
}
