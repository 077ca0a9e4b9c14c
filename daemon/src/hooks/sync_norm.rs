//! SyncNormHook: before each validation, the mean of the norm layers' states over all ranks.
//!
//! Sees nothing: it is decided ahead, from the number of ranks and whether they share a process group. The trainer does it, by
//! its own collective, with MMDetection 3.3.0's choice of modules and its float32 arithmetic; learnable weights are averaged
//! too, and training goes on with the result. One rank alone has nothing to average: nothing is asked for, and nothing
//! refused. Several ranks without a process group could not do it: refused. No arguments.

use super::{Ahead, Hook, Kind};
use crate::domain::{Facts, Standing};

pub(super) const KIND: Kind = Kind {
    type_name: "SyncNormHook",
    summary: "averages the states of the norm layers over all ranks",
    points: &["before_val_epoch"],
    effect: "the trainer's own collective before each validation",
    args: &[],
    example: &[],
    build: |_| Ok(Box::new(SyncNormHook)),
};

/// See the module.
#[derive(Debug)]
pub struct SyncNormHook;

impl Hook for SyncNormHook {
    fn ahead(&mut self, facts: &Facts, _: &str) -> Result<Ahead, String> {
        if facts.world_size <= 1 {
            return Ok(Ahead::default());
        }
        if !facts.process_group {
            return Err(format!(
                "there are {} ranks and no process group to average norm states with: start torch.distributed before the \
                 training, or leave the hook out",
                facts.world_size
            ));
        }
        Ok(Ahead {
            standing: Some(Standing::SyncNorm),
            warnings: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::tests::{decided, refused};

    const TYPE: &str = "SyncNormHook";

    fn facts(world_size: u32, process_group: bool) -> Facts {
        Facts {
            world_size,
            process_group,
            ..Facts::default()
        }
    }

    #[test]
    fn ranks_that_share_a_process_group_average() {
        for (world_size, process_group, standing) in [
            (0, false, None),
            (1, false, None),
            (1, true, None),
            (2, true, Some(Standing::SyncNorm)),
            (512, true, Some(Standing::SyncNorm)),
        ] {
            let ahead = decided(TYPE, &[], &facts(world_size, process_group));
            assert_eq!(ahead.standing, standing, "{world_size} {process_group}");
            assert!(ahead.warnings.is_empty());
        }
    }

    #[test]
    fn ranks_without_one_are_refused() {
        let why = refused(TYPE, &[], &facts(2, false));
        assert!(
            why.starts_with("there are 2 ranks and no process group"),
            "{why}"
        );
    }
}
